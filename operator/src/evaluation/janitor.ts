import { API_VERSION, CAPTURE_FINALIZER, LABELS } from '@crucible/crds';
import type { EvaluationRecord, EvaluationRepository } from '@crucible/storage';
import { isUnavailable } from '@crucible/storage';
import type { Logger } from 'pino';
import { EVALUATIONS, isNotFound } from '../kube/index.ts';
import type { KubeClient, KubeObject } from '../kube/index.ts';
import type { Applier } from './apply.ts';
import type { ClusterCaches } from './caches.ts';
import type { Gatherer } from './gather.ts';
import { hasFinalizer, isDeleting } from './objects.ts';
import { plan } from './plan.ts';
import type { Settings } from './settings.ts';
import type { RawEvaluation } from './snapshot.ts';
import { ageSeconds } from './start.ts';

export interface JanitorDependencies {
  readonly client: KubeClient;
  readonly caches: ClusterCaches;
  readonly evaluations: EvaluationRepository;
  readonly gatherer: Gatherer;
  readonly applier: Applier;
  readonly settings: Settings;
  readonly logger: Logger;
  readonly now: () => number;
  /** There is an Evaluation with this uid. */
  readonly known: (uid: string) => boolean;
  readonly everySeconds: number;
  readonly minAgeSeconds: number;
}

/** A cache that is older than this cannot say that something does not exist. */
const MAX_SYNC_AGE_SECONDS = 180;

/**
 * Ends what has lost its Evaluation, by a finalizer taken off by hand or a namespace that went: its Job, its pod's
 * finalizer, its unfinished rows. It goes the way of a deleted Evaluation: end the pod, capture, record, clean up.
 */
export class Janitor {
  readonly #deps: JanitorDependencies;
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

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
    for (const orphan of await this.#orphans()) {
      if (signal.aborted) return;
      if (!(await this.#isGone(orphan, signal))) continue;
      try {
        await this.#end(orphan, signal);
      } catch (error) {
        if (isUnavailable(error)) return;
        logger.warn({ err: error, evaluation: `${orphan.namespace}/${orphan.name}` }, 'orphan cannot be ended yet');
      }
    }
  }

  /** Records without an Evaluation; and Jobs and pods, which always have a record that was written first. */
  async #orphans(): Promise<EvaluationRecord[]> {
    const { caches, evaluations, known, now, minAgeSeconds } = this.#deps;
    const found = new Map<string, EvaluationRecord>();
    for (let after: string | undefined; ;) {
      const page = await evaluations.listUnfinished(after === undefined ? {} : { after });
      for (const record of page) {
        if (!known(record.uid) && now() - record.acceptedAt.getTime() > minAgeSeconds * 1000)
          found.set(record.uid, record);
      }
      after = page.at(-1)?.uid;
      if (page.length === 0 || after === undefined) break;
    }
    // What is handed over to the garbage collector, or going already, needs no more of us.
    const jobs = caches.jobs
      .list()
      .filter((job) => !isDeleting(job) && (job.metadata.ownerReferences ?? []).length === 0);
    const pods = caches.pods.list().filter((pod) => hasFinalizer(pod, CAPTURE_FINALIZER));
    for (const object of [...jobs, ...pods]) {
      const uid = object.metadata.labels?.[LABELS.evaluationUid] ?? '';
      if (
        uid === '' ||
        known(uid) ||
        found.has(uid) ||
        ageSeconds(object.metadata.creationTimestamp, now()) < minAgeSeconds
      )
        continue;
      const record = await evaluations.get(uid);
      if (record !== undefined) found.set(uid, record);
    }
    return [...found.values()];
  }

  async #isGone({ namespace, name, uid }: EvaluationRecord, signal: AbortSignal): Promise<boolean> {
    try {
      const live = await this.#deps.client.get<KubeObject>(EVALUATIONS, namespace, name, { signal });
      return live.metadata.uid !== uid;
    } catch (error) {
      if (isNotFound(error)) return true;
      throw error;
    }
  }

  async #end(record: EvaluationRecord, signal: AbortSignal): Promise<void> {
    const { gatherer, applier, settings, logger, now } = this.#deps;
    const { namespace, name, uid, generation, spec } = record;
    // Nobody knows since when it is gone; long enough, that is why we are here.
    const [creationTimestamp, deletionTimestamp] = [record.createdAt.toISOString(), record.acceptedAt.toISOString()];
    const metadata = { namespace, name, uid, generation, creationTimestamp, deletionTimestamp };
    const raw: RawEvaluation = { apiVersion: API_VERSION, kind: 'Evaluation', metadata, spec };
    const snapshot = await gatherer.gather(
      `${namespace}/${name}`,
      raw,
      { turn: false, launchRefusal: undefined, scored: undefined },
      signal,
    );
    const { actions } = plan(snapshot, now(), settings);
    await applier.apply(snapshot, actions, signal);
    logger.info({ evaluation: `${namespace}/${name}`, actions: actions.map(({ type }) => type) }, 'orphan swept');
  }
}
