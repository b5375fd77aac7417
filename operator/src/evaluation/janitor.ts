import { API_VERSION, CAPTURE_FINALIZER, LABELS } from '@crucible/crds';
import type { AttemptRepository, CaptureRepository, EvaluationRecord, EvaluationRepository } from '@crucible/storage';
import { isUnavailable } from '@crucible/storage';
import type { Gate } from '../drill/gate.ts';
import type { Logger } from 'pino';
import { WaitingError } from '../controller/index.ts';
import type { KubeClient, KubeObject } from '../kube/index.ts';
import type { Action } from './actions.ts';
import type { Applier } from './apply.ts';
import type { ClusterCaches } from './caches.ts';
import { endFromStatus } from './from-status.ts';
import type { Gatherer } from './gather.ts';
import { isGone } from './gone.ts';
import { hasFinalizer, isDeleting, uidOf } from './objects.ts';
import type { Job, Pod } from './objects.ts';
import { plan } from './plan.ts';
import { hasEndPhase, hasNode } from './pod.ts';
import type { Registry } from './registry.ts';
import type { Settings } from './settings.ts';
import { listIdentities } from './slim.ts';
import { isFinished } from './snapshot.ts';
import type { RawEvaluation, Snapshot } from './snapshot.ts';
import { ageSeconds } from './start.ts';

export interface JanitorDependencies {
  readonly client: KubeClient;
  readonly caches: ClusterCaches;
  readonly evaluations: EvaluationRepository;
  readonly attempts: AttemptRepository;
  readonly captures: CaptureRepository;
  readonly gatherer: Gatherer;
  readonly applier: Applier;
  readonly settings: Settings;
  readonly logger: Logger;
  readonly now: () => number;
  /** The Evaluation with this uid, if there is one. */
  readonly evaluation: (uid: string) => RawEvaluation | undefined;
  readonly registry: Registry;
  readonly everySeconds: number;
  readonly minAgeSeconds: number;
}

/** A cache that is older than this cannot say that something does not exist. */
const MAX_SYNC_AGE_SECONDS = 180;

/**
 * Ends what has lost its Evaluation, by a finalizer taken off by hand or a namespace that went: its Job, its pod's
 * finalizer, its unfinished rows. It goes the way of a deleted Evaluation: end the pod, capture, record, clean up. And ends in
 * the record what has finished in the cluster alone.
 */
export class Janitor {
  readonly #deps: JanitorDependencies;
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  /** When each was first seen to be one, by the uid of its Evaluation. */
  readonly #orphanSince = new Map<string, number>();
  readonly #unrecordedSince = new Map<string, number>();
  readonly #lostSince = new Map<string, number>();

  constructor(deps: JanitorDependencies) {
    this.#deps = deps;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#running = this.#running
        .then(() => this.sweep(this.#abort.signal))
        .catch((error: unknown) => {
          if (!this.#abort.signal.aborted) this.#deps.logger.warn({ err: error }, 'sweep failed');
        });
    }, this.#deps.everySeconds * 1000);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#abort.abort();
    await this.#running;
  }

  /** One round. */
  async sweep(signal: AbortSignal): Promise<void> {
    const { caches, logger } = this.#deps;
    if (!caches.synced || caches.lastSyncAgeSeconds() > MAX_SYNC_AGE_SECONDS) return;
    await this.#tell();
    const strays = this.#strays();
    const { orphans, unrecorded, lost } = await this.#sort(strays);
    forget(this.#orphanSince, orphans);
    forget(this.#unrecordedSince, unrecorded);
    forget(this.#lostSince, lost);
    for (const orphan of orphans.values()) {
      if (signal.aborted) return;
      await this.#try(orphan, signal, async () => {
        if (await isGone(this.#deps.client, orphan, signal)) await this.#end(orphan, signal);
      });
    }
    const live = this.#liveUids(signal);
    for (const uid of unrecorded) {
      if (signal.aborted) return;
      const stray = strays.get(uid)!;
      await this.#try(stray, signal, async () => {
        if (!(await live(stray.namespace)).has(uid)) await this.#release(uid, stray, signal);
      });
    }
    for (const [uid, { metadata }] of lost) {
      if (signal.aborted) return;
      await this.#try({ namespace: metadata.namespace ?? '', name: metadata.name ?? '' }, signal, () => this.#finish(uid, signal));
    }
    if (orphans.size + unrecorded.size > 0)
      logger.debug({ orphans: orphans.size, unrecorded: unrecorded.size }, 'looked after orphans');
  }

  async #tell(): Promise<void> {
    try {
      await this.#deps.registry.tellNamespaces();
      await this.#deps.registry.settleSubmissions();
    } catch (error) {
      if (!isUnavailable(error)) throw error;
    }
  }

  async #try({ namespace, name }: { namespace: string; name: string }, signal: AbortSignal, work: () => Promise<void>) {
    try {
      await work();
    } catch (error) {
      // Postgres away, or a pod that was placed meanwhile: the next round looks again.
      if (isUnavailable(error) || error instanceof WaitingError || signal.aborted) return;
      this.#deps.logger.warn({ err: error, evaluation: `${namespace}/${name}` }, 'orphan cannot be ended yet');
    }
  }

  /** Jobs and pods that hold something back and whose Evaluation our watch does not know, by its uid. */
  #strays(): Map<string, Stray> {
    const { caches, evaluation, now, minAgeSeconds } = this.#deps;
    const strays = new Map<string, Stray>();
    const of = ({ metadata }: KubeObject): Stray | undefined => {
      const { labels, namespace = '' } = metadata;
      const uid = labels?.[LABELS.evaluationUid] ?? '';
      if (uid === '' || evaluation(uid) !== undefined || ageSeconds(metadata.creationTimestamp, now()) < minAgeSeconds) return undefined;
      const stray = strays.get(uid) ?? { namespace, name: labels?.[LABELS.evaluation] ?? '', jobs: [], pods: [] };
      strays.set(uid, stray);
      return stray;
    };
    // What is handed over to the garbage collector, or going already, needs no more of us.
    for (const job of caches.jobs.list())
      if (!isDeleting(job) && (job.metadata.ownerReferences ?? []).length === 0) of(job)?.jobs.push(job);
    for (const pod of caches.pods.list()) if (hasFinalizer(pod, CAPTURE_FINALIZER)) of(pod)?.pods.push(pod);
    return strays;
  }

  /** Which of them the record knows, with the unfinished runs that left nothing in the cluster, and those whose end it has lost. */
  async #sort(strays: ReadonlyMap<string, Stray>): Promise<Sorted> {
    const { evaluations, evaluation, now, minAgeSeconds } = this.#deps;
    const orphans = new Map<string, EvaluationRecord>();
    const unrecorded = new Set<string>();
    const lost = new Map<string, RawEvaluation>();
    try {
      for (let after: string | undefined; ;) {
        const page = await evaluations.listUnfinished(after === undefined ? {} : { after });
        for (const { uid, acceptedAt } of page) {
          const raw = evaluation(uid);
          if (raw !== undefined && isFinished(raw)) lost.set(uid, raw);
          if (raw !== undefined || now() - acceptedAt.getTime() <= minAgeSeconds * 1000) continue;
          const record = await evaluations.get(uid);
          if (record !== undefined) orphans.set(uid, record);
        }
        after = page.at(-1)?.uid;
        if (page.length === 0 || after === undefined) break;
      }
      for (const uid of strays.keys()) {
        const record = orphans.get(uid) ?? (await evaluations.get(uid));
        if (record === undefined) unrecorded.add(uid);
        else orphans.set(uid, record);
      }
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      // Nothing can be captured or judged; what must not stay for ever still goes.
      return { orphans: new Map(), unrecorded: new Set(strays.keys()), lost: new Map() };
    }
    return { orphans, unrecorded, lost };
  }

  /**
   * Of an Evaluation that is gone, and that the record does not know (it was restored from a backup) or cannot be asked
   * about. It is ended at once, and let go after the time that a capture may take.
   */
  async #release(uid: string, stray: Stray, signal: AbortSignal): Promise<void> {
    const { applier, settings, logger, now } = this.#deps;
    const { namespace, name, jobs, pods } = stray;
    const since = this.#unrecordedSince.get(uid) ?? now();
    this.#unrecordedSince.set(uid, since);
    const actions: Action[] = [];
    if (now() - since < settings.patience.lostCapture * 1000) {
      for (const pod of pods)
        if (hasNode(pod) && !hasEndPhase(pod) && pod.spec?.activeDeadlineSeconds !== 1)
          actions.push({ type: 'lowerDeadline', podName: pod.metadata.name ?? '', podUid: uidOf(pod), seconds: 1 });
    } else {
      for (const job of jobs) actions.push({ type: 'deleteJob', jobName: job.metadata.name ?? '', jobUid: uidOf(job) });
      for (const pod of pods)
        actions.push({ type: 'releasePod', podName: pod.metadata.name ?? '', podUid: uidOf(pod) });
    }
    if (actions.length === 0) return;
    await applier.apply(strayAsSnapshot(uid, stray), actions, signal);
    const what = { evaluation: `${namespace}/${name}`, actions: actions.map(({ type }) => type) };
    logger.warn(what, 'what no record knows was let go');
  }

  /**
   * Which Evaluations a namespace has, but those that go; asked for once in a round. A stray's name is cut to a label's length, so
   * it cannot be asked for by name, and as it is there already, so was its Evaluation, if it ever is.
   */
  #liveUids(signal: AbortSignal): (namespace: string) => Promise<ReadonlySet<string>> {
    const known = new Map<string, Promise<ReadonlySet<string>>>();
    const ask = async (namespace: string): Promise<ReadonlySet<string>> => {
      const all = await listIdentities(this.#deps.client, { namespace, signal });
      return new Set(all.filter((one) => !isDeleting(one)).map(uidOf));
    };
    return (namespace) => {
      const asked = known.get(namespace) ?? ask(namespace);
      known.set(namespace, asked);
      return asked;
    };
  }

  async #end(record: EvaluationRecord, signal: AbortSignal): Promise<void> {
    const { gatherer, applier, settings, logger, now } = this.#deps;
    const { namespace, name, uid, generation, spec } = record;
    // Nobody knows since when it is gone. From the first time that we saw so, a capture under way gets its time.
    const since = this.#orphanSince.get(uid) ?? now();
    this.#orphanSince.set(uid, since);
    const creationTimestamp = record.createdAt.toISOString();
    const deletionTimestamp = new Date(since).toISOString();
    const metadata = { namespace, name, uid, generation, creationTimestamp, deletionTimestamp };
    const raw: RawEvaluation = { apiVersion: API_VERSION, kind: 'Evaluation', metadata, spec };
    const snapshot = await gatherer.gather(
      `${namespace}/${name}`,
      raw,
      { turn: false, launchRefusal: undefined, scored: undefined, configMaps: undefined, doubted: false, heldBack: undefined, backlogged: false },
      signal,
    );
    const { actions } = plan(snapshot, now(), settings);
    if (actions.length === 0) return;
    await applier.apply(snapshot, actions, signal);
    logger.info({ evaluation: `${namespace}/${name}`, actions: actions.map(({ type }) => type) }, 'orphan swept');
  }

  /** What the record has lost of a run is taken from its status, after the time that a capture of what its pod holds may take. */
  async #finish(uid: string, signal: AbortSignal): Promise<void> {
    const { applier, attempts, captures, evaluation, settings, logger, now } = this.#deps;
    const since = this.#lostSince.get(uid) ?? now();
    this.#lostSince.set(uid, since);
    if (now() - since < settings.patience.lostCapture * 1000) return;
    const raw = evaluation(uid);
    const record = await attempts.withEvaluation(uid);
    if (raw === undefined || record.evaluation === undefined || record.evaluation.finishedAt !== null) return;
    const open = record.attempts.at(-1);
    const { namespace = '', name = '' } = raw.metadata;
    const end = endFromStatus(raw, record.attempts, open && (await captures.get(uid, open.number)));
    const what = { evaluation: `${namespace}/${name}`, uid };
    const snapshot = { ...strayAsSnapshot(uid, { namespace, name, jobs: [], pods: [] }), raw };
    if (end === undefined) {
      await applier.apply(snapshot, [{ type: 'clearStatus' }], signal);
      return logger.warn(what, 'the status said Finished and no verdict of what has no end in the record: it is written anew');
    }
    await applier.apply(snapshot, [end], signal);
    logger.warn(what, 'the record had lost the end of a run: it was taken from its status');
  }
}

interface Sorted {
  readonly orphans: Map<string, EvaluationRecord>;
  readonly unrecorded: Set<string>;
  /** Finished by their status, and not in the record. */
  readonly lost: Map<string, RawEvaluation>;
}

/** What is in the cluster of an Evaluation that is not. */
interface Stray {
  readonly namespace: string;
  readonly name: string;
  readonly jobs: Job[];
  readonly pods: Pod[];
}

/** Nothing is started of it. */
const NO_GATE: Gate = { exempt: false, namespace: undefined, classes: new Map() };

/** As much of a snapshot as carrying out deletions takes. */
function strayAsSnapshot(uid: string, { namespace, name, jobs, pods }: Stray): Snapshot {
  return {
    key: `${namespace}/${name}`,
    raw: { apiVersion: API_VERSION, kind: 'Evaluation', metadata: { namespace, name, uid } },
    evaluation: undefined,
    invalid: undefined,
    cluster: { namespace: undefined, runtimes: [], runtimeClasses: [] },
    record: 'unavailable',
    unavailableSince: undefined,
    job: jobs[0],
    pod: undefined,
    others: pods,
    inputs: new Map(),
    warnings: [],
    failingSince: undefined,
    workload: undefined,
    heldBack: undefined,
    backlogged: false,
    paused: undefined,
    capture: undefined,
    output: undefined,
    scored: undefined,
    configMaps: undefined,
    doubted: false,
    launchRefusal: undefined,
    gate: NO_GATE,
    turn: false,
  };
}

function forget(since: Map<string, number>, still: { has(uid: string): boolean }): void {
  for (const uid of since.keys()) if (!still.has(uid)) since.delete(uid);
}
