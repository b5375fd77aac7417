import { LABELS } from '@crucible/crds';
import type { AttemptRepository, CaptureRepository, Database, EvaluationRepository, NotAdmitted } from '@crucible/storage';
import { CAPTURED_CHANNEL, SubmissionRepository, isUnavailable } from '@crucible/storage';
import type { Logger } from 'pino';
import { Controller, WorkQueue } from '../controller/index.ts';
import type { ControllerMetrics } from '../controller/index.ts';
import { keyOf } from '../kube/index.ts';
import type { EventRecorder, KubeClient, KubeObject } from '../kube/index.ts';
import type { GateKeeper } from '../drill/gate.ts';
import { identityOf } from './apply-record.ts';
import { Applier } from './apply.ts';
import type { ClusterCaches } from './caches.ts';
import { ConfigMapSweep } from './config-map-sweep.ts';
import { Gatherer } from './gather.ts';
import { isGone } from './gone.ts';
import { Janitor } from './janitor.ts';
import type { DomainMetrics } from './metrics.ts';
import { jobNameOf } from './kueue.ts';
import { AdmissionQueue } from './queue.ts';
import { Registry } from './registry.ts';
import { Reconciler } from './reconciler.ts';
import { evaluationMatters, jobMatters, podMatters } from './relevance.ts';
import { UidsInUse } from './sandbox-uid.ts';
import { ScoreThread } from './score-thread.ts';
import { Scores } from './scores.ts';
import type { Settings } from './settings.ts';
import { waitingOf } from './status.ts';
import { isFinished } from './snapshot.ts';
import type { RawEvaluation } from './snapshot.ts';

export interface OperatorDependencies {
  readonly client: KubeClient;
  readonly caches: ClusterCaches;
  readonly database: Database;
  readonly evaluations: EvaluationRepository;
  readonly attempts: AttemptRepository;
  readonly captures: CaptureRepository;
  readonly events: EventRecorder;
  readonly gate: GateKeeper;
  readonly metrics: DomainMetrics;
  readonly controllerMetrics?: ControllerMetrics | undefined;
  readonly settings: Settings;
  readonly workers: number;
  readonly logger: Logger;
  readonly now: () => number;
  /** How often orphans are looked for, and how old they must be. */
  readonly sweep?: { readonly everySeconds: number; readonly minAgeSeconds: number };
}

/**
 * Orphans have to be gone a minute after what made them; something young may belong to an Evaluation our watch has not
 * brought yet.
 */
const REFRESH_SECONDS = 10;
const REFRESHED_AT_ONCE = 50;
const SWEEP = { everySeconds: 30, minAgeSeconds: 30 };

/** What runs while this replica leads. Everything in memory is built anew for each term. */
interface Term {
  readonly queue: WorkQueue;
  readonly controller: Controller;
  readonly turns: AdmissionQueue;
  readonly scores: Scores;
  readonly janitor: Janitor;
  readonly registry: Registry;
  readonly configMaps: ConfigMapSweep;
  readonly listener: { close(): Promise<void> };
  readonly refresh: NodeJS.Timeout;
}

/** Turns changes in the cluster and in the record into keys, and keys into reconciles. */
export class EvaluationOperator {
  readonly #deps: OperatorDependencies;
  /** Evaluations by uid: Jobs and pods carry the uid, names are used again. */
  readonly #keys = new Map<string, string>();
  readonly #sandboxUids: UidsInUse;
  #term: Term | undefined;

  constructor(deps: OperatorDependencies) {
    this.#deps = deps;
    this.#sandboxUids = new UidsInUse(deps.caches.jobs);
    this.#watch();
  }

  get turns(): AdmissionQueue | undefined {
    return this.#term?.turns;
  }

  async start(epoch: number, signal: AbortSignal): Promise<void> {
    const { caches, database, logger, workers, controllerMetrics } = this.#deps;
    await caches.waitForSync(signal);
    if (signal.aborted) return;
    const queue = new WorkQueue({ name: 'evaluation', metrics: controllerMetrics, first: this.#waitsForPod.bind(this) });
    const { settings, now } = this.#deps;
    const turns = new AdmissionQueue({
      limits: { total: settings.maxConcurrent, namespaces: settings.namespaceLimits },
      maxUncaptured: settings.maxUncaptured,
      wake: (key) => queue.add(key),
      now,
    });
    const configMaps = new ConfigMapSweep({ client: this.#deps.client, wake: (uid) => this.#enqueue(uid), logger });
    const applier = this.#applier(epoch, configMaps);
    const gatherer = new Gatherer({ ...this.#deps, pauses: caches.pauses });
    const scores = new Scores({
      thread: new ScoreThread({ logger }),
      read: gatherer.stdout.bind(gatherer),
      wake: (key) => queue.add(key),
      logger,
    });
    const { evaluations } = caches;
    const reconciler = new Reconciler({ ...this.#deps, evaluations, gatherer, applier, turns, scores, configMaps });
    const reconcile = reconciler.reconcile.bind(reconciler);
    const controller = new Controller({
      name: 'evaluation',
      workers,
      reconcile,
      queue,
      logger,
      metrics: controllerMetrics,
    });
    const registry = new Registry({
      database,
      namespaces: caches.namespaces,
      known: (uid) => this.#keys.has(uid),
      notAdmitted: () => this.#notAdmitted(),
      isGone: (run) => isGone(this.#deps.client, run),
      now,
    });
    const janitor = new Janitor({
      ...this.#deps,
      gatherer,
      applier,
      evaluation: (uid) => caches.evaluations.get(this.#keys.get(uid) ?? ''),
      registry,
      ...(this.#deps.sweep ?? SWEEP),
    });
    const listener = database.listen(CAPTURED_CHANNEL, (message) => {
      if (message.type === 'notification') queue.add(message.payload);
      // Notifications of the time before are lost: whoever waits for a capture looks again.
      else for (const raw of caches.evaluations.list()) if (raw.status?.phase === 'Capturing') queue.add(keyOf(raw));
    });
    this.#takeOver(turns);
    // What a namespace waits for may change at any time; a status that says something else is put right, in small
    // portions, because ten thousand may be waiting.
    const refresh = setInterval(() => {
      for (const key of turns.outdated(REFRESHED_AT_ONCE)) queue.add(key);
    }, REFRESH_SECONDS * 1000);
    this.#term = { queue, controller, turns, scores, janitor, listener, refresh, registry, configMaps };
    this.#tellNamespaces();
    controller.start();
    janitor.start();
    for (const raw of caches.evaluations.list()) queue.add(keyOf(raw));
    logger.info({ epoch, evaluations: caches.evaluations.size }, 'leading');
  }

  async stop(limitSeconds: number): Promise<void> {
    const term = this.#term;
    this.#term = undefined;
    if (term === undefined) return;
    const { controller, janitor, listener, scores, refresh, configMaps } = term;
    clearInterval(refresh);
    await Promise.all([controller.stop(limitSeconds), janitor.stop(), listener.close(), scores.close(), configMaps.stop()]);
  }

  #applier(epoch: number, configMaps: ConfigMapSweep): Applier {
    const { client, caches, database, evaluations, attempts, settings } = this.#deps;
    return new Applier({
      client,
      caches,
      database,
      submissions: new SubmissionRepository(database),
      configMaps,
      evaluations,
      attempts,
      settings,
      epoch: () => epoch,
      sandboxUids: this.#sandboxUids,
    });
  }

  /** Whoever has a Job that has not ended has a place already. */
  #takeOver(turns: AdmissionQueue): void {
    const { caches } = this.#deps;
    for (const job of caches.jobs.list()) {
      const key = this.#keys.get(job.metadata.labels?.[LABELS.evaluationUid] ?? '');
      const raw = key === undefined ? undefined : caches.evaluations.get(key);
      if (raw === undefined || isFinished(raw) || job.metadata.labels?.[LABELS.kueueQueue] !== undefined) continue;
      turns.hold(keyOf(raw), raw.metadata.namespace ?? '', Date.parse(job.metadata.creationTimestamp ?? ''));
    }
  }

  /** Somebody waits for its code to start; everything later, of itself or of others, is less urgent. */
  #waitsForPod(key: string): boolean {
    const { caches } = this.#deps;
    const raw = caches.evaluations.get(key);
    return raw !== undefined && !isFinished(raw) && caches.pods.ofEvaluation(raw.metadata.uid ?? '').length === 0;
  }

  #watch(): void {
    const { caches } = this.#deps;
    caches.evaluations.onChange((key, current, previous) => {
      if (previous?.metadata.uid !== undefined && previous.metadata.uid !== current?.metadata.uid) {
        this.#keys.delete(previous.metadata.uid);
        this.#term?.configMaps.forget(previous.metadata.uid);
        this.#deps.metrics.forget(previous.metadata.uid);
      }
      if (current?.metadata.uid !== undefined) this.#keys.set(current.metadata.uid, key);
      if (evaluationMatters(current, previous)) this.#term?.queue.add(key);
    });
    const enqueueOwner = (object: KubeObject | undefined): void => this.#enqueue(evaluationUid(object));
    caches.jobs.onChange((_, current, previous) => {
      const hasPod = caches.pods.ofEvaluation(evaluationUid(current ?? previous)).length > 0;
      if (jobMatters(current, previous, hasPod)) enqueueOwner(current ?? previous);
    });
    caches.podCache.onChange((_, current, previous) => {
      if (podMatters(current, previous)) enqueueOwner(current ?? previous);
    });
    // What an Evaluation may wait for has changed: those that were refused are looked at again.
    const wakeRefused = (): void => {
      if (this.#term === undefined) return;
      for (const raw of caches.evaluations.list()) if (isRefused(raw)) this.#term.queue.add(keyOf(raw));
    };
    caches.workloadCache?.onChange((_, current, previous) => {
      const workload = current ?? previous!;
      const job = caches.jobs.get(`${workload.metadata.namespace}/${jobNameOf(workload)}`);
      if (job !== undefined) enqueueOwner(job);
    });
    // Paused or not any more: all that wait say so, or begin.
    caches.pauseSwitches.onChange((_, current, previous) => {
      if (JSON.stringify(current?.data) === JSON.stringify(previous?.data)) return; // a resync
      for (const raw of caches.evaluations.list())
        if ((raw.status?.phase ?? 'Queued') === 'Queued') this.#term?.queue.add(keyOf(raw));
    });
    caches.runtimes.onChange(wakeRefused);
    caches.runtimeClasses.onChange(wakeRefused);
    caches.namespaces.onChange(() => {
      wakeRefused();
      this.#tellNamespaces();
    });
    // The gate has opened or closed: whoever has no sandbox yet is looked at again.
    this.#deps.gate.onChange((key) => {
      if (key !== undefined) return this.#term?.queue.add(key);
      for (const raw of this.#term === undefined ? [] : caches.evaluations.list())
        if ((raw.status?.phase ?? 'Queued') === 'Queued') this.#term?.queue.add(keyOf(raw));
    });
  }

  /** The Evaluation with this uid. */
  #enqueue(uid: string): void {
    const key = this.#keys.get(uid);
    if (key !== undefined) this.#term?.queue.add(key);
  }

  *#notAdmitted(): Iterable<NotAdmitted> {
    const { evaluations, namespaces } = this.#deps.caches;
    for (const raw of evaluations.list()) {
      const { notAdmitted } = waitingOf(raw.status);
      const namespace = namespaces.get(raw.metadata.namespace ?? '');
      if (notAdmitted !== undefined && namespace !== undefined && !isFinished(raw)) yield { ...identityOf(raw, namespace), ...notAdmitted };
    }
  }

  /** Before the first run in one of them, because the API submits into it. The janitor repeats it. */
  #tellNamespaces(): void {
    void this.#term?.registry.tellNamespaces().catch((error: unknown) => {
      if (!isUnavailable(error)) this.#deps.logger.warn({ err: error }, 'namespaces could not be recorded');
    });
  }
}

function evaluationUid(object: KubeObject | undefined): string {
  return object?.metadata.labels?.[LABELS.evaluationUid] ?? '';
}

function isRefused(raw: RawEvaluation): boolean {
  return !isFinished(raw) && waitingOf(raw.status).notAdmitted?.refused === true;
}
