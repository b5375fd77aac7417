import { API_VERSION, FIELD_MANAGERS } from '@crucible/crds';
import type { EvaluationRuntimeStatus } from '@crucible/crds';
import type { Logger } from 'pino';
import { Controller, WorkQueue } from '../controller/index.ts';
import type { ControllerMetrics } from '../controller/index.ts';
import type { ClusterCaches } from '../evaluation/caches.ts';
import type { Settings } from '../evaluation/settings.ts';
import { sameStatus } from '../evaluation/status.ts';
import { EVALUATION_RUNTIMES, isConflict, isNotFound, keyOf } from '../kube/index.ts';
import type { KubeClient, KubeObject } from '../kube/index.ts';
import { buildRuntimeStatus, judgeRuntime } from './judge.ts';
import { parsedRuntime } from './parsed.ts';

export interface RuntimeOperatorDependencies {
  readonly client: KubeClient;
  readonly caches: Pick<ClusterCaches, 'runtimes' | 'runtimeClasses' | 'waitForSync'>;
  readonly controllerMetrics?: ControllerMetrics | undefined;
  readonly settings: Settings;
  readonly logger: Logger;
  readonly now: () => number;
}

interface RawRuntime extends KubeObject {
  status?: EvaluationRuntimeStatus;
}

/**
 * Says of every EvaluationRuntime whether evaluations can use it. It changes nothing else, and nobody waits for it.
 * No events: those about something without a namespace go to `default`, where the operator may write nothing.
 */
export class RuntimeOperator {
  readonly #deps: RuntimeOperatorDependencies;
  #term: { readonly queue: WorkQueue; readonly controller: Controller } | undefined;

  constructor(deps: RuntimeOperatorDependencies) {
    this.#deps = deps;
    const { runtimes, runtimeClasses } = deps.caches;
    runtimes.onChange((key) => this.#term?.queue.add(key));
    runtimeClasses.onChange(() => this.#addAll());
  }

  async start(_epoch: number, signal: AbortSignal): Promise<void> {
    const { caches, logger, controllerMetrics } = this.#deps;
    await caches.waitForSync(signal);
    if (signal.aborted) return;
    const name = 'evaluationruntime';
    const queue = new WorkQueue({ name, metrics: controllerMetrics });
    const reconcile = this.#reconcile.bind(this);
    const controller = new Controller({ name, workers: 1, reconcile, queue, logger, metrics: controllerMetrics });
    this.#term = { queue, controller };
    controller.start();
    this.#addAll();
  }

  async stop(limitSeconds: number): Promise<void> {
    const term = this.#term;
    this.#term = undefined;
    await term?.controller.stop(limitSeconds);
  }

  #addAll(): void {
    for (const raw of this.#deps.caches.runtimes.list()) this.#term?.queue.add(keyOf(raw));
  }

  async #reconcile(key: string, signal: AbortSignal): Promise<void> {
    const { caches, client, settings, now } = this.#deps;
    const raw = caches.runtimes.get(key) as RawRuntime | undefined;
    if (raw === undefined || raw.metadata.deletionTimestamp !== undefined) return;
    const { name = '', generation = 1, resourceVersion } = raw.metadata;
    const claims = judgeRuntime({
      ...parsedRuntime(raw),
      runtimeClasses: caches.runtimeClasses.list().map(({ metadata }) => metadata.name ?? ''),
      defaultRuntimeClass: settings.sandbox.runtimeClassName,
    });
    const status = buildRuntimeStatus(claims, generation, raw.status, now());
    if (sameStatus(raw.status, status)) return;
    // The version makes it fail on another runtime of the same name: of a subresource the API server compares no uid.
    const metadata = { name, ...(resourceVersion !== undefined && { resourceVersion }) };
    const object = { apiVersion: API_VERSION, kind: 'EvaluationRuntime', metadata, status };
    const options = { fieldManager: FIELD_MANAGERS.status, force: true, subresource: 'status', signal };
    try {
      await client.apply(EVALUATION_RUNTIMES, object, options);
    } catch (error) {
      // Gone, or changed: the watch brings it.
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }
}
