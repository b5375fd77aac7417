import { isDeepStrictEqual } from 'node:util';
import type { EvaluationStatus } from '@crucible/crds';
import { isUnavailable } from '@crucible/storage';
import { StatusWriter, WaitingError } from '../controller/index.ts';
import type { ReconcileContext, Result } from '../controller/index.ts';
import { EVALUATIONS } from '../kube/index.ts';
import type { EventRecorder, KubeClient, ObjectCache } from '../kube/index.ts';
import type { GateKeeper } from '../drill/gate.ts';
import type { Plan, View } from './actions.ts';
import type { ConfigMapSweep } from './config-map-sweep.ts';
import { LaunchRefusedError } from './apply-launch.ts';
import type { Left } from './apply-launch.ts';
import type { Applier } from './apply.ts';
import type { Gatherer } from './gather.ts';
import type { DomainMetrics } from './metrics.ts';
import { PassingStates } from './passing.ts';
import { plan } from './plan.ts';
import type { AdmissionQueue } from './queue.ts';
import { refusedView } from './refused.ts';
import type { Scores } from './scores.ts';
import type { Settings } from './settings.ts';
import { failingStart } from './start.ts';
import { needsContent, slimEvaluation } from './slim.ts';
import { isFinished } from './snapshot.ts';
import type { LaunchRefusal, RawEvaluation, Snapshot } from './snapshot.ts';
import { announcements, buildStatus, observedStatus, sameStatus, waitingOf } from './status.ts';

const RECORD_RETRY_SECONDS = 5;
const REFUSED_RETRY_SECONDS = 5;

export interface ReconcilerDependencies {
  readonly client: KubeClient;
  readonly evaluations: ObjectCache<RawEvaluation>;
  readonly gatherer: Gatherer;
  readonly applier: Applier;
  readonly turns: AdmissionQueue;
  readonly scores: Scores;
  readonly configMaps: Pick<ConfigMapSweep, 'of'>;
  readonly gate: GateKeeper;
  readonly events: EventRecorder;
  readonly metrics: DomainMetrics;
  readonly settings: Settings;
  readonly now: () => number;
}

interface Decision {
  readonly snapshot: Snapshot;
  readonly decision: Plan;
}

/** One Evaluation, from whatever state it is in, one decision further. */
export class Reconciler {
  readonly #deps: ReconcilerDependencies;
  readonly #statuses: StatusWriter<RawEvaluation>;
  readonly #refusals = new Map<string, LaunchRefusal>();
  readonly #passing = new PassingStates();
  /** What fails before it runs, and since when. */
  readonly #failing = new Map<string, { readonly what: string; readonly since: number }>();
  /** By key, the uids of those that were seen so and have not been ended here: nobody else ends them. */
  readonly #unfinished = new Map<string, string | undefined>();

  constructor(deps: ReconcilerDependencies) {
    this.#deps = deps;
    const { client, evaluations: cache } = deps;
    this.#statuses = new StatusWriter({ client, cache, resource: EVALUATIONS, kind: 'Evaluation', transform: slimEvaluation });
  }

  async reconcile(key: string, signal: AbortSignal, context: ReconcileContext): Promise<Result> {
    const raw = this.#statuses.read(key);
    if (raw === undefined) {
      this.#forget(key);
      return {};
    }
    if (!isFinished(raw)) this.#unfinished.set(key, raw.metadata.uid);
    try {
      const { snapshot, decision } = await this.#decide(key, raw, signal);
      const left = await this.#apply(snapshot, decision, signal);
      // It was our own after all, written without an answer.
      if (decision.observe === true) this.#unfinished.delete(key);
      if (decision.scoring === undefined) this.#deps.scores.forget(key);
      else this.#deps.scores.want(key, { uid: raw.metadata.uid ?? '', ...decision.scoring });
      const { turns } = this.#deps;
      // In this order: a place that is given back may be given on at once, but not while too much is not captured.
      if (decision.capturing !== undefined) turns.setUncaptured(key, decision.capturing);
      if (decision.turn === 'release') turns.release(key, raw.metadata.namespace ?? '', decision.capturing === true);
      if (decision.drill !== undefined) this.#deps.gate.want(decision.drill.runtimeClass);
      if (decision.actions.length > 0)
        context.logger.debug({ actions: decision.actions.map(({ type }) => type) }, 'plan applied');
      if (decision.actions.some(({ type }) => type === 'clearStatus'))
        context.logger.warn('the status said Finished of what has not ended: somebody else wrote it, and it is written anew');
      let heldSeconds = 0;
      if (decision.view !== undefined) heldSeconds = await this.#writeStatus(snapshot, left, decision.view, signal);
      else if (decision.observe === true) await this.#writeObserved(snapshot, left, signal);
      this.#refusals.delete(key);
      const { requeueAfterSeconds = Number.POSITIVE_INFINITY } = decision;
      const after = heldSeconds > 0 ? Math.min(heldSeconds, requeueAfterSeconds) : requeueAfterSeconds;
      return { requeueAfterSeconds: Number.isFinite(after) ? after : undefined };
    } catch (error) {
      throw this.#explain(key, error);
    }
  }

  /** A refusal is what the status says from then on: nothing after it in the plan has been done. */
  async #apply(snapshot: Snapshot, { actions }: Plan, signal: AbortSignal): Promise<Left> {
    const { applier, settings, now } = this.#deps;
    try {
      return await applier.apply(snapshot, actions, signal);
    } catch (error) {
      if (!(error instanceof LaunchRefusedError)) throw error;
      const view = refusedView(snapshot, error.message, now(), settings);
      if (view !== undefined) {
        await applier.apply(snapshot, [{ type: 'recordPhase', phase: view.phase }], signal);
        await this.#writeStatus(snapshot, error.left, view, signal);
      }
      throw error;
    }
  }

  async #decide(key: string, raw: RawEvaluation, signal: AbortSignal): Promise<Decision> {
    const first = await this.#plan(key, raw, signal);
    if (raw.slim !== true || !needsContent(first.decision.actions)) return first;
    const whole = await this.#deps.gatherer.whole(raw, signal);
    // Gone: the watch is about to say so.
    if (whole === undefined) return { ...first, decision: { actions: [], view: undefined, turn: 'release' } };
    return await this.#plan(key, whole, signal);
  }

  async #plan(key: string, raw: RawEvaluation, signal: AbortSignal): Promise<Decision> {
    const { gatherer, turns, scores, configMaps, settings, now } = this.#deps;
    const { namespace = '', name = '', uid = '' } = raw.metadata;
    const own = {
      turn: turns.has(key),
      launchRefusal: this.#refusals.get(key),
      scored: scores.of(key, uid),
      configMaps: configMaps.of(uid),
      doubted: isFinished(raw) && this.#unfinished.get(key) === uid,
      heldBack: undefined,
      backlogged: turns.backlogged,
    };
    const gathered = await gatherer.gather(key, raw, own, signal);
    let snapshot: Snapshot = { ...gathered, failingSince: this.#failingSince(key, failingStart(gathered.pod)) };
    let decision = plan(snapshot, now(), settings);
    if (decision.turn === 'request') {
      const priority = snapshot.evaluation?.spec.priority ?? 0;
      const createdAt = Date.parse(raw.metadata.creationTimestamp ?? '');
      const turn = turns.request(key, { namespace, priority, createdAt, name });
      snapshot = { ...snapshot, turn, heldBack: turn ? undefined : turns.heldBack(namespace) };
      decision = plan(snapshot, now(), settings);
    }
    if (decision.turn === 'hold') turns.hold(key, namespace);
    return { snapshot, decision };
  }

  #failingSince(key: string, what: string | undefined): number | undefined {
    const known = this.#failing.get(key);
    if (known !== undefined && known.what === what) return known.since;
    this.#failing.delete(key);
    if (what === undefined) return undefined;
    const since = this.#deps.now();
    this.#failing.set(key, { what, since });
    return since;
  }

  /** Seconds until it is to be written, when that is not yet. */
  async #writeStatus(snapshot: Snapshot, left: Left, view: View, signal: AbortSignal): Promise<number> {
    const { metrics, now } = this.#deps;
    const { key, raw } = snapshot;
    const status = buildStatus(view, raw.metadata.generation ?? 1, raw.status, now());
    const same = sameStatus(raw.status, status);
    const heldSeconds = same ? 0 : this.#passing.holdSeconds(key, status, now());
    if (heldSeconds > 0) {
      metrics.phaseSeen(raw, status, now());
      return heldSeconds;
    }
    if (!same) await this.#say(snapshot, left, status, signal);
    this.#passing.said(key);
    return 0;
  }

  async #say(snapshot: Snapshot, left: Left, status: EvaluationStatus, signal: AbortSignal): Promise<void> {
    const { events, metrics, now } = this.#deps;
    const { key, raw } = snapshot;
    if (!(await this.#applyStatus(snapshot, left, status, signal))) return;
    if (isFinished({ ...raw, status })) this.#unfinished.delete(key);
    for (const announcement of announcements(raw.status, status)) events.event(raw, announcement);
    metrics.statusWritten(raw, status, now());
    await this.#recordWaiting(snapshot, status, signal);
  }

  /** What the API tells of the queue. Without the record nothing is lost: the next reason is told. */
  async #recordWaiting(snapshot: Snapshot, status: EvaluationStatus, signal: AbortSignal): Promise<void> {
    const [before, after] = [waitingOf(snapshot.raw.status), waitingOf(status)];
    if (isDeepStrictEqual(before, after) || after.queue?.reason === 'RecordUnavailable') return;
    try {
      await this.#deps.applier.apply(snapshot, [{ type: 'recordWaiting', ...after }], signal);
    } catch (error) {
      if (!isUnavailable(error)) throw error;
    }
  }

  /** kstatus: a change of spec counts as in progress until the status says that it was seen. */
  async #writeObserved(snapshot: Snapshot, left: Left, signal: AbortSignal): Promise<void> {
    const { metadata, status } = snapshot.raw;
    const { generation = 1 } = metadata;
    if (status === undefined || status.observedGeneration === generation || metadata.deletionTimestamp !== undefined) return;
    await this.#applyStatus(snapshot, left, observedStatus(status, generation), signal);
  }

  /** False: the resource is gone in the meantime, which is what happens to a finished one once its finalizer is off. */
  async #applyStatus({ key, raw }: Snapshot, left: Left, status: EvaluationStatus, signal: AbortSignal): Promise<boolean> {
    return left.gone !== true && (await this.#statuses.write(key, raw, left.version, status, signal));
  }

  #forget(key: string): void {
    this.#statuses.forget(key);
    this.#refusals.delete(key);
    this.#passing.said(key);
    this.#unfinished.delete(key);
    this.#failing.delete(key);
    this.#deps.scores.forget(key);
    this.#deps.turns.release(key, key.slice(0, key.indexOf('/')));
  }

  /** What stops a reconcile is either somebody's absence, which passes, or an error to back off from. */
  #explain(key: string, error: unknown): unknown {
    if (isUnavailable(error))
      return new WaitingError(RECORD_RETRY_SECONDS, 'RecordUnavailable', 'the database cannot be reached', {
        cause: error,
      });
    if (error instanceof LaunchRefusedError) {
      this.#refusals.set(key, { said: error.message, since: this.#refusals.get(key)?.since ?? this.#deps.now() });
      return new WaitingError(REFUSED_RETRY_SECONDS, 'LaunchRefused', 'the cluster refused the sandbox', {
        cause: error,
      });
    }
    return error;
  }
}
