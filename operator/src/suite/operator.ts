import { LABELS } from '@crucible/crds';
import type { SuiteRepository } from '@crucible/storage';
import type { Logger } from 'pino';
import { Controller, WorkQueue } from '../controller/index.ts';
import type { ControllerMetrics } from '../controller/index.ts';
import type { ClusterCaches } from '../evaluation/caches.ts';
import type { Settings } from '../evaluation/settings.ts';
import { keyOf } from '../kube/index.ts';
import type { EventRecorder, KubeClient } from '../kube/index.ts';
import { SuiteApplier } from './apply.ts';
import { SuiteGatherer } from './gather.ts';
import type { SuiteMetrics } from './metrics.ts';
import { SuiteReconciler } from './reconciler.ts';
import { conditionOf, isFinished } from './snapshot.ts';
import type { RawSuite } from './snapshot.ts';
import { SuiteSweep } from './sweep.ts';

export interface SuiteOperatorDependencies {
  readonly client: KubeClient;
  readonly caches: ClusterCaches;
  readonly suites: SuiteRepository;
  readonly events: EventRecorder;
  readonly metrics: SuiteMetrics;
  readonly controllerMetrics?: ControllerMetrics | undefined;
  readonly settings: Settings;
  readonly workers: number;
  readonly logger: Logger;
  readonly now: () => number;
  readonly sweepSeconds?: number;
}

const SWEEP_SECONDS = 60;

/** What runs while this replica leads. */
interface Term {
  readonly queue: WorkQueue;
  readonly controller: Controller;
  readonly sweep: SuiteSweep;
}

/** Turns changes in the cluster into keys of suites, and keys into reconciles. */
export class SuiteOperator {
  readonly #deps: SuiteOperatorDependencies;
  #term: Term | undefined;

  constructor(deps: SuiteOperatorDependencies) {
    this.#deps = deps;
    this.#watch();
  }

  async start(epoch: number, signal: AbortSignal): Promise<void> {
    const { caches, suites: record, logger, workers, controllerMetrics } = this.#deps;
    await caches.waitForSync(signal);
    if (signal.aborted) return;
    const queue = new WorkQueue({ name: 'evaluationsuite', metrics: controllerMetrics });
    const gatherer = new SuiteGatherer(this.#deps);
    const common = { ...this.#deps, suites: caches.suites, record, gatherer, epoch: () => epoch };
    const applier = new SuiteApplier({ ...this.#deps, epoch: () => epoch });
    const reconciler = new SuiteReconciler({ ...common, applier });
    const reconcile = reconciler.reconcile.bind(reconciler);
    const controller = new Controller({ name: 'evaluationsuite', workers, reconcile, queue, logger, metrics: controllerMetrics });
    const sweep = new SuiteSweep({ ...common, applier });
    this.#term = { queue, controller, sweep };
    controller.start();
    sweep.start(this.#deps.sweepSeconds ?? SWEEP_SECONDS);
    for (const raw of caches.suites.list()) queue.add(keyOf(raw));
  }

  async stop(limitSeconds: number): Promise<void> {
    const term = this.#term;
    this.#term = undefined;
    if (term === undefined) return;
    await Promise.all([term.controller.stop(limitSeconds), term.sweep.stop()]);
  }

  #watch(): void {
    const { caches } = this.#deps;
    caches.suites.onChange((key) => this.#term?.queue.add(key));
    // The label only says whom to wake; whose run it is, is decided by its uid.
    caches.evaluations.onChange((_, current, previous) => {
      const { namespace, labels } = (current ?? previous)?.metadata ?? {};
      const name = labels?.[LABELS.suite];
      if (name !== undefined) this.#term?.queue.add(`${namespace}/${name}`);
    });
    const wake = (which: (raw: RawSuite) => boolean): void => {
      if (this.#term === undefined) return;
      for (const raw of caches.suites.list()) if (!isFinished(raw) && which(raw)) this.#term.queue.add(keyOf(raw));
    };
    const wakeRefused = (): void => wake(isHindered);
    // Also who can start no more must say so; a status of its own refuses nobody.
    caches.runtimes.onChange((_, current, previous) => {
      if (current?.metadata.generation !== previous?.metadata.generation) wake(() => true);
    });
    caches.runtimeClasses.onChange(wakeRefused);
    caches.namespaces.onChange(wakeRefused);
  }
}

/** Not accepted, or with runs under way and none that can be started: then the reason is not its phase. */
function isHindered(raw: RawSuite): boolean {
  if (conditionOf(raw, 'Accepted')?.status !== 'True') return true;
  const reason = conditionOf(raw, 'Reconciling')?.reason;
  return reason !== undefined && reason !== raw.status?.phase;
}
