import type { EvaluationSuiteStatus } from '@crucible/crds';
import { SuiteRepository } from '@crucible/storage';
import { Registry } from 'prom-client';
import type { Settings } from '../../evaluation/settings.ts';
import { TestCluster } from '../../evaluation/testing/cluster.ts';
import type { Parts } from '../../evaluation/testing/cluster.ts';
import { SuiteMetrics } from '../metrics.ts';
import { SuiteOperator } from '../operator.ts';

type Json = Record<string, any>;
type Status = EvaluationSuiteStatus & { conditions: { type: string; status: string; reason: string; message: string }[] };

function suiteOperator({ client, caches, database, events, settings, logger }: Parts): SuiteOperator {
  const metrics = new SuiteMetrics(new Registry(), () => caches.suites.list());
  const suites = new SuiteRepository(database);
  const common = { client, caches, suites, events, metrics, settings, logger };
  return new SuiteOperator({ ...common, workers: 2, now: () => Date.now(), sweepSeconds: 1 });
}

/** A cluster in which suites run, and where each of their runs can be played to its end. */
export class SuiteCluster extends TestCluster {
  constructor(changes: Partial<Settings> = {}) {
    super(changes, [suiteOperator]);
  }

  async submitSuite(name: string, spec: Json = {}, metadata: Json = {}): Promise<string> {
    const template = { spec: { runtime: this.runtime, code: 'print(1)', ...spec['template'] } };
    const object = {
      apiVersion: 'crucible.dev/v1alpha1',
      kind: 'EvaluationSuite',
      metadata: { name, namespace: this.namespace },
      spec: { ...spec, template: { ...template, ...(metadata['labels'] && { metadata }) } },
    };
    return (await this.must('POST', this.path('evaluationsuites'), object))['metadata'].uid as string;
  }

  patchSuite(name: string, spec: Json): Promise<Json> {
    return this.must('PATCH', this.path('evaluationsuites', name), { spec }, 'application/merge-patch+json');
  }

  removeSuite(name: string): Promise<Json> {
    return this.must('DELETE', this.path('evaluationsuites', name));
  }

  async suite(name: string): Promise<Json | undefined> {
    const { status, body } = await this.api.get(this.path('evaluationsuites', name));
    return status === 404 ? undefined : body;
  }

  async suiteStatus(name: string): Promise<Status> {
    return { conditions: [], ...(await this.suite(name))?.['status'] };
  }

  async suitePhase(name: string, phase: string): Promise<Status> {
    const look = async (): Promise<Status | undefined> => {
      const status = await this.suiteStatus(name);
      return status.phase === phase ? status : undefined;
    };
    return await this.waitFor(`suite ${name} in phase ${phase}`, look, () => this.suiteStatus(name));
  }

  async suiteCondition(name: string, type: string, reason: string): Promise<Json> {
    const look = async (): Promise<Json | undefined> =>
      (await this.suiteStatus(name)).conditions.find((one) => one.type === type && one.reason === reason);
    return await this.waitFor(`${type} with reason ${reason} of ${name}`, look, () => this.suiteStatus(name));
  }

  /** The Evaluations of a suite, by cell and sample. */
  async runsOf(uid: string): Promise<Json[]> {
    const selector = encodeURIComponent(`crucible.dev/suite-uid=${uid}`);
    const { items } = await this.must('GET', `${this.path('evaluations')}?labelSelector=${selector}`);
    const order = (run: Json): number =>
      Number(run['metadata'].labels['crucible.dev/suite-cell']) * 10_000 + Number(run['metadata'].labels['crucible.dev/suite-sample']);
    return (items as Json[]).sort((a, b) => order(a) - order(b));
  }

  static isUnfinished(run: Json): boolean {
    return !run['status']?.conditions?.some(({ type, status }: Json) => type === 'Finished' && status === 'True');
  }

  async unfinished(uid: string, count: number): Promise<Json[]> {
    const look = async (): Promise<Json[] | undefined> => {
      const open = (await this.runsOf(uid)).filter(SuiteCluster.isUnfinished);
      return open.length === count ? open : undefined;
    };
    return await this.waitFor(`${count} unfinished runs`, look, () => this.runsOf(uid));
  }

  /** Plays one run from its Job to its captured end. */
  async play(run: Json, exitCode = 0, podReason = ''): Promise<void> {
    const { name, uid } = run['metadata'];
    const pod = await this.makePod(name);
    await this.running(pod);
    await this.ended(pod, exitCode, { podReason });
    await this.capture(uid, pod);
    const end = async (): Promise<true | undefined> => ((await this.status(name)).conditions.some(({ type }) => type === 'Finished') ? true : undefined);
    await this.waitFor(`the end of ${name}`, end, () => this.status(name));
  }

  async suiteRow(uid: string): Promise<Json | undefined> {
    return (await this.record.query<Json>('select * from crucible.suites where uid = $1', [uid])).rows[0];
  }

  async suiteGone(name: string): Promise<void> {
    const look = async (): Promise<true | undefined> => ((await this.suite(name)) === undefined ? true : undefined);
    await this.waitFor(`suite ${name} to be gone`, look, () => this.suite(name));
  }
}
