import type { EvaluationSuiteStatus } from '@crucible/crds';
import type { SuiteRepository } from '@crucible/storage';
import { isUnavailable } from '@crucible/storage';
import { StalledError, StatusWriter, WaitingError } from '../controller/index.ts';
import type { ReconcileContext, Result } from '../controller/index.ts';
import type { Settings } from '../evaluation/settings.ts';
import { observedStatus, sameStatus } from '../evaluation/status.ts';
import { EVALUATION_SUITES, isConflict } from '../kube/index.ts';
import type { EventRecorder, KubeClient, ObjectCache } from '../kube/index.ts';
import type { SuitePlan, SuiteView } from './actions.ts';
import { CreationRefusedError, TemplateRefusedError } from './apply.ts';
import type { SuiteApplier } from './apply.ts';
import type { SuiteGatherer } from './gather.ts';
import type { SuiteMetrics } from './metrics.ts';
import { plan, refusedView } from './plan.ts';
import { isFinished } from './snapshot.ts';
import type { Obstacle, RawSuite, SuiteSnapshot } from './snapshot.ts';
import { announcements, buildStatus } from './status.ts';

const RECORD_RETRY_SECONDS = 5;
const CREATION_RETRY_SECONDS = 5;
/** For the watch to bring what was changed. */
const CHANGED_RETRY_SECONDS = 1;

export interface SuiteReconcilerDependencies {
  readonly client: KubeClient;
  readonly suites: ObjectCache<RawSuite>;
  readonly record: SuiteRepository;
  readonly gatherer: SuiteGatherer;
  readonly applier: SuiteApplier;
  readonly events: EventRecorder;
  readonly metrics: SuiteMetrics;
  readonly settings: Settings;
  readonly epoch: () => number;
  readonly now: () => number;
}

/** One suite, from whatever state it is in, one decision further. */
export class SuiteReconciler {
  readonly #deps: SuiteReconcilerDependencies;
  readonly #statuses: StatusWriter<RawSuite>;
  readonly #obstacles = new Map<string, Obstacle>();

  constructor(deps: SuiteReconcilerDependencies) {
    this.#deps = deps;
    const { client, suites: cache } = deps;
    this.#statuses = new StatusWriter({ client, cache, resource: EVALUATION_SUITES, kind: 'EvaluationSuite' });
  }

  async reconcile(key: string, signal: AbortSignal, context: ReconcileContext): Promise<Result> {
    const raw = this.#statuses.read(key);
    if (raw === undefined) {
      this.#statuses.forget(key);
      this.#obstacles.delete(key);
      return {};
    }
    const { gatherer, settings, now } = this.#deps;
    try {
      const gathered = await gatherer.gather(key, raw, this.#obstacles.get(key), signal);
      const decision = plan(gathered, now(), settings);
      const snapshot = await this.#prepare(gathered, decision, signal);
      await this.#publish(snapshot, decision, signal);
      await this.#change(snapshot, decision, signal);
      if (decision.then.length > 0)
        context.logger.debug({ actions: decision.then.map(({ type }) => type) }, 'plan applied');
      return { requeueAfterSeconds: decision.requeueAfterSeconds };
    } catch (error) {
      if (isConflict(error)) throw new WaitingError(CHANGED_RETRY_SECONDS, 'Changed', 'the suite was changed meanwhile', { cause: error });
      if (!isUnavailable(error)) throw error;
      throw new WaitingError(RECORD_RETRY_SECONDS, 'RecordUnavailable', 'the database cannot be reached', { cause: error });
    }
  }

  async #prepare(snapshot: SuiteSnapshot, { actions }: SuitePlan, signal: AbortSignal): Promise<SuiteSnapshot> {
    try {
      return await this.#deps.applier.apply(snapshot, actions, signal);
    } catch (error) {
      if (error instanceof CreationRefusedError) throw await this.#refused(snapshot, error, signal);
      if (!(error instanceof TemplateRefusedError)) throw error;
      const { message } = error;
      await this.#writeStatus(snapshot, refusedView(snapshot, { reason: 'InvalidTemplate', message }), signal);
      throw new StalledError('InvalidTemplate', 'the API server refuses the template', { cause: error });
    }
  }

  async #change(snapshot: SuiteSnapshot, { then }: SuitePlan, signal: AbortSignal): Promise<void> {
    try {
      await this.#deps.applier.apply(snapshot, then, signal);
      this.#obstacles.delete(snapshot.key);
    } catch (error) {
      throw error instanceof CreationRefusedError ? await this.#refused(snapshot, error, signal) : error;
    }
  }

  /** The status says at once what is waited for. */
  async #refused(snapshot: SuiteSnapshot, error: CreationRefusedError, signal: AbortSignal): Promise<WaitingError> {
    const { settings, now } = this.#deps;
    const { obstacle } = error;
    this.#obstacles.set(snapshot.key, obstacle);
    const raw = this.#statuses.read(snapshot.key) ?? snapshot.raw;
    const { view } = plan({ ...snapshot, raw, obstacle }, now(), settings);
    if (view !== undefined) await this.#writeStatus({ ...snapshot, raw }, view, signal);
    return new WaitingError(CREATION_RETRY_SECONDS, obstacle.reason, obstacle.message, { cause: error });
  }

  /** The record first, then the status, and neither when nothing has changed in meaning. */
  async #publish(snapshot: SuiteSnapshot, { view, results, observe }: SuitePlan, signal: AbortSignal): Promise<void> {
    if (observe === true) return await this.#writeObserved(snapshot.raw, signal);
    if (view === undefined) return;
    const { metrics } = this.#deps;
    if (view.summary !== undefined && (results.length > 0 || !this.#isSaid(snapshot, view)))
      await this.#deps.record.save(progressOf(snapshot, view, results, this.#deps.epoch()));
    metrics.ended(results);
    await this.#writeStatus(snapshot, view, signal);
  }

  #isSaid({ raw }: SuiteSnapshot, view: SuiteView): boolean {
    return sameStatus(raw.status, this.#status(raw, view));
  }

  #status(raw: RawSuite, view: SuiteView): EvaluationSuiteStatus {
    return buildStatus(view, raw.metadata.generation ?? 1, raw.status, this.#deps.now());
  }

  async #writeStatus({ raw, key }: SuiteSnapshot, view: SuiteView, signal: AbortSignal): Promise<void> {
    const status = this.#status(raw, view);
    if (sameStatus(raw.status, status) || !(await this.#applyStatus(key, raw, status, signal))) return;
    for (const announcement of announcements(raw.status, status)) this.#deps.events.event(raw, announcement);
  }

  /** kstatus: a change of spec counts as in progress until the status says that it was seen. */
  async #writeObserved(raw: RawSuite, signal: AbortSignal): Promise<void> {
    const { generation = 1, namespace, name = '' } = raw.metadata;
    if (raw.status === undefined || raw.status.observedGeneration === generation || !isFinished(raw)) return;
    await this.#applyStatus(`${namespace}/${name}`, raw, observedStatus(raw.status, generation), signal);
  }

  #applyStatus(key: string, raw: RawSuite, status: EvaluationSuiteStatus, signal: AbortSignal): Promise<boolean> {
    return this.#statuses.write(key, raw, raw.metadata.resourceVersion, status, signal);
  }
}

/** What the record is told. */
export function progressOf(
  snapshot: SuiteSnapshot,
  { phase, summary, cells, end }: SuiteView,
  results: SuitePlan['results'],
  epoch: number,
): Parameters<SuiteRepository['save']>[0] {
  const changed = new Set(results.map(({ cell }) => cell));
  return {
    uid: snapshot.raw.metadata.uid ?? '',
    epoch,
    phase,
    summary: summary ?? {},
    // All of them at the end: the last ones may have been stored by somebody who did not live to count them.
    cells: cells
      .filter(({ cell }) => end !== undefined || changed.has(cell))
      .map(({ cell, parameters: _, ...rest }) => ({ cell, summary: rest })),
    results,
    end: end && { reason: end.reason, message: end.message, finishedAt: end.finishedAt },
  };
}
