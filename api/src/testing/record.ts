import { createHash, randomUUID } from 'node:crypto';
import { AttemptRepository, CaptureRepository, DrillRepository, EvaluationRepository, KubernetesEventRepository, PositionRepository, SuiteRepository } from '@crucible/storage';
import type { Database, FileStore } from '@crucible/storage';
import { buildAttempt, buildEvaluation, buildFinish } from '@crucible/storage/testing';
import type { TestCluster } from './cluster.ts';

export interface Run {
  readonly uid: string;
  readonly name: string;
  readonly podUid: string;
}

export interface RunOptions {
  readonly namespace?: string;
  readonly uid?: string;
  readonly name?: string;
  readonly stdout?: string | Buffer;
  readonly artifacts?: { readonly [path: string]: Buffer };
  readonly labels?: { readonly [key: string]: string };
}

/** Writes into the record what operator, recorder and relay would. */
export class Record {
  readonly #evaluations: EvaluationRepository;
  readonly #attempts: AttemptRepository;
  readonly #captures: CaptureRepository;
  readonly #suites: SuiteRepository;
  readonly #drills: DrillRepository;
  readonly #told: KubernetesEventRepository;
  readonly #positions: PositionRepository;
  readonly #files: FileStore;
  readonly #cluster: TestCluster;

  constructor(database: Database, files: FileStore, cluster: TestCluster) {
    this.#evaluations = new EvaluationRepository(database);
    this.#attempts = new AttemptRepository(database);
    this.#captures = new CaptureRepository(database);
    this.#suites = new SuiteRepository(database);
    this.#drills = new DrillRepository(database);
    this.#told = new KubernetesEventRepository(database);
    this.#positions = new PositionRepository(database);
    this.#files = files;
    this.#cluster = cluster;
  }

  async accepted({ namespace = this.#cluster.evals, uid = randomUUID(), name = `run-${uid.slice(0, 8)}`, labels }: RunOptions = {}): Promise<Run> {
    const namespaceUid = this.#cluster.uids.get(namespace) as string;
    await this.#evaluations.upsertAccepted(buildEvaluation({ uid, namespace, namespaceUid, name, createdAt: new Date(), ...(labels && { labels }) }));
    return { uid, name, podUid: randomUUID() };
  }

  async suite(namespace: string): Promise<string> {
    const uid = randomUUID();
    const namespaceUid = this.#cluster.uids.get(namespace) as string;
    const spec = { template: { runtime: 'python' }, matrix: { seed: ['1', '2'] } };
    await this.#suites.upsertAccepted({ uid, namespace, namespaceUid, name: 'matrix', generation: 1, spec, phase: 'Running', cells: [{ seed: '1' }, { seed: '2' }], samples: 1, createdAt: new Date(), epoch: 1 });
    return uid;
  }

  async drill(runtimeClass: string | null = null): Promise<string> {
    const id = randomUUID();
    const now = new Date();
    const findings = [
      { attack: 'identity', rule: 1, outcome: 'held' as const, evidence: 'uid: 100000' },
      { attack: 'egress', rule: 15, outcome: 'broken' as const, evidence: 'tcp: it answered' },
      { attack: 'gone', rule: 15, outcome: 'held' as const, evidence: 'of another version' },
    ];
    await this.#drills.record({ id, kind: 'quick', runtimeClass, trigger: 'start', outcome: 'broken', held: 1, broken: 1, open: 0, startedAt: now, finishedAt: now, epoch: 1, findings });
    return id;
  }

  /** Of a run that has finished: until then the record does not know its pod here. */
  async told(run: Run, reason: string, message: string): Promise<void> {
    const namespaceUid = this.#cluster.uids.get(this.#cluster.evals) as string;
    const [known] = await this.#told.keep([{
      uid: randomUUID(), namespaceUid, jobUid: null, podUid: run.podUid, objectKind: 'Pod', objectName: `${run.name}-1-x`, type: 'Normal', reason, message,
      component: 'kubelet', count: 2, firstSeenAt: new Date(), lastSeenAt: new Date(),
    }]);
    if (known !== true) throw new Error(`nothing is known of the pod of ${run.name}`);
  }

  async running(options: RunOptions = {}): Promise<Run> {
    const run = await this.accepted(options);
    await this.#attempts.create(buildAttempt(run.uid, { jobName: `${run.name}-1` }));
    await this.#attempts.setJob({ evaluationUid: run.uid, number: 1, jobUid: randomUUID(), epoch: 1 });
    await this.#captures.begin({ evaluationUid: run.uid, attempt: 1, podUid: run.podUid, recorder: 'r' });
    return run;
  }

  async append(run: Run, data: Buffer, after: number): Promise<void> {
    const chunk = { stream: 'stdout' as const, firstSeq: after + 1, lastSeq: after + 1, data, lines: 1 };
    await this.#captures.append({ evaluationUid: run.uid, attempt: 1, podUid: run.podUid, recorder: 'r', afterSeq: after, lastSeq: after + 1, chunks: [chunk] });
  }

  async finished(options: RunOptions = {}): Promise<Run> {
    const run = await this.running(options);
    const data = Buffer.from(options.stdout ?? 'hello\n');
    let seq = 0;
    for (let at = 0; at < data.length; at += 65_536) await this.append(run, data.subarray(at, at + 65_536), seq++);
    await this.finish(run, data, seq, options.artifacts);
    return run;
  }

  async finish(run: Run, stdout: Buffer, lastSeq: number, artifacts: RunOptions['artifacts'] = {}): Promise<void> {
    const stored = await Promise.all(Object.entries(artifacts).map(async ([path, content], index) => ({ index, path, complete: true, ...(await this.#files.put(content)) })));
    const sha256 = createHash('sha256').update(stdout).digest('hex');
    await this.#captures.finish(buildFinish({ evaluationUid: run.uid, podUid: run.podUid }, { lastSeq, stdout: { bytes: stdout.length, lines: lastSeq, sha256 }, artifacts: stored }));
    const verdict = { class: 'Succeeded', confidence: 'Confirmed', message: 'It ended with exit code 0.' };
    const now = new Date();
    await this.#attempts.finalize({ evaluationUid: run.uid, number: 1, epoch: 1, podUid: run.podUid, startedAt: now, finishedAt: now, exitCode: 0, signal: null, verdict });
    await this.#attempts.accept({ evaluationUid: run.uid, number: 1, epoch: 1 });
    await this.#evaluations.finish({ uid: run.uid, epoch: 1, phase: 'Succeeded', verdict, passed: null, finishedAt: now });
  }

  async cancelled(run: Run): Promise<void> {
    await this.#evaluations.finish({ uid: run.uid, epoch: 1, phase: 'Cancelled', verdict: { class: 'Cancelled' }, passed: null, finishedAt: new Date() });
  }

  /** What the relay does: from then on they are in the stream of all events. */
  async publish(): Promise<number> {
    for (;;) {
      const { assigned, last } = await this.#positions.assign();
      if (assigned === 0) return last;
    }
  }
}
