import { API_VERSION } from '@crucible/crds';
import type { SuiteRecord, SuiteRepository } from '@crucible/storage';
import { isUnavailable } from '@crucible/storage';
import type { Logger } from 'pino';
import { WaitingError } from '../controller/index.ts';
import { EVALUATION_SUITES, isNotFound } from '../kube/index.ts';
import type { KubeClient, KubeObject, ObjectCache } from '../kube/index.ts';
import type { SuiteApplier } from './apply.ts';
import type { SuiteGatherer } from './gather.ts';
import { planGone } from './plan.ts';
import { progressOf } from './reconciler.ts';
import type { RawSuite } from './snapshot.ts';

export interface SuiteSweepDependencies {
  readonly client: KubeClient;
  readonly suites: ObjectCache<RawSuite>;
  readonly record: SuiteRepository;
  readonly gatherer: SuiteGatherer;
  readonly applier: SuiteApplier;
  readonly epoch: () => number;
  readonly logger: Logger;
  readonly now: () => number;
}

/**
 * Ends the record of suites that are gone without it: a finalizer that was taken off by hand, a namespace that went while
 * Postgres was away. Their runs end by themselves.
 */
export class SuiteSweep {
  readonly #deps: SuiteSweepDependencies;
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(deps: SuiteSweepDependencies) {
    this.#deps = deps;
  }

  start(everySeconds: number): void {
    this.#timer = setInterval(() => {
      this.#running = this.#running.then(() => this.sweep(this.#abort.signal)).catch((error: unknown) => {
        if (isUnavailable(error) || this.#abort.signal.aborted) return;
        this.#deps.logger.warn({ err: error }, 'sweep of suites failed');
      });
    }, everySeconds * 1000);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#abort.abort();
    await this.#running;
  }

  /** One round. */
  async sweep(signal: AbortSignal): Promise<void> {
    const { record, suites } = this.#deps;
    for (let after: string | undefined; !signal.aborted; ) {
      const page = await record.listUnfinished(after);
      for (const row of page) {
        const known = suites.get(`${row.namespace}/${row.name}`)?.metadata.uid === row.uid;
        if (!known && !signal.aborted) await this.#look(row, signal);
      }
      after = page.at(-1)?.uid;
      if (after === undefined) return;
    }
  }

  /** One that cannot be ended, yet or ever, keeps no other from it. */
  async #look(row: SuiteRecord, signal: AbortSignal): Promise<void> {
    try {
      if (await this.#isGone(row, signal)) await this.#end(row, signal);
    } catch (error) {
      if (isUnavailable(error) || signal.aborted) throw error;
      this.#deps.logger.warn({ err: error, suite: `${row.namespace}/${row.name}` }, 'record of a suite that is gone cannot be ended yet');
    }
  }

  async #isGone({ namespace, name, uid }: SuiteRecord, signal: AbortSignal): Promise<boolean> {
    try {
      return (await this.#deps.client.get<KubeObject>(EVALUATION_SUITES, namespace, name, { signal })).metadata.uid !== uid;
    } catch (error) {
      if (isNotFound(error)) return true;
      throw error;
    }
  }

  async #end({ namespace, name, uid, generation, spec, createdAt, labels }: SuiteRecord, signal: AbortSignal): Promise<void> {
    const { gatherer, applier, record, epoch, logger, now } = this.#deps;
    const creationTimestamp = createdAt.toISOString();
    const deletionTimestamp = new Date(now()).toISOString();
    const metadata = { namespace, name, uid, generation, labels, creationTimestamp, deletionTimestamp };
    const raw: RawSuite = { apiVersion: API_VERSION, kind: 'EvaluationSuite', metadata, spec };
    const snapshot = await gatherer.gather(`${namespace}/${name}`, raw, undefined, signal);
    const { actions, view, results } = planGone(snapshot, now());
    if (view === undefined) return;
    try {
      await applier.apply(snapshot, actions, signal);
    } catch (error) {
      // One of its runs has not been seen yet: the next round finds it.
      if (error instanceof WaitingError) return;
      throw error;
    }
    await record.save(progressOf(snapshot, view, results, epoch()));
    logger.info({ suite: `${namespace}/${name}` }, 'record of a suite that is gone was ended');
  }
}
