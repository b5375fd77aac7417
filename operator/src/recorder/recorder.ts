import { isUnavailable, type CaptureRepository, type FollowingCapture } from '@crucible/storage';
import { backoffMs, makeKey, sleep, type InformerSet } from '../kube/index.ts';
import { PodCapture } from './capture.ts';
import { HEARTBEAT_MS } from './claims.ts';
import type { PodView, RecorderContext } from './context.ts';
import { podClaim, type PodClaim, type SandboxPod } from './pods.ts';

const RETRY_BASE_MS = 500;
const RETRY_MAX_MS = 30_000;
const UNTRUSTED_RETRY_MS = 30_000;
const SWEEP_MS = 30_000;
const SWEEP_PAGE = 500;
/** No run lasts longer than a day: what is open for two where we may not look (any more) will not go on. */
const FORSAKEN_MS = 2 * 86_400_000;

/** One pod under observation. */
class Task implements PodView {
  #claim: PodClaim;
  #lookUp: ((claim: PodClaim) => SandboxPod | undefined) | undefined;
  #waiters = new Set<() => void>();
  /** Aborted to make it begin anew: the claim was lost. */
  restart = new AbortController();
  capture: PodCapture | undefined;
  done = false;

  /** Without `lookUp`: the pod is gone, as far as anybody knows. */
  constructor(claim: PodClaim, lookUp?: (claim: PodClaim) => SandboxPod | undefined) {
    this.#claim = claim;
    this.#lookUp = lookUp;
  }

  get claim(): PodClaim {
    return this.#claim;
  }

  current(): SandboxPod | undefined {
    const pod = this.#lookUp?.(this.#claim);
    return pod?.metadata.uid === this.#claim.podUid ? pod : undefined;
  }

  /** Its pod was only out of our sight: begins anew, with the pod. */
  appeared(pod: SandboxPod, lookUp: (claim: PodClaim) => SandboxPod | undefined): void {
    if (this.#lookUp !== undefined) return;
    this.#claim = { ...this.#claim, name: pod.metadata.name ?? '' };
    this.#lookUp = lookUp;
    this.restart.abort();
  }

  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const finish = (): void => {
        this.#waiters.delete(finish);
        signal.removeEventListener('abort', finish);
        resolve();
      };
      this.#waiters.add(finish);
      signal.addEventListener('abort', finish, { once: true });
    });
  }

  notify(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }
}

export interface RecorderOptions {
  readonly context: RecorderContext;
  readonly pods: InformerSet<SandboxPod>;
  readonly unfinished: Pick<CaptureRepository, 'listFollowing'>;
}

/** Captures the output of every sandbox pod in the cache, and finishes captures whose pods are gone. */
export class Recorder {
  readonly #options: RecorderOptions;
  readonly #context: RecorderContext;
  readonly #tasks = new Map<string, Task>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  #missedOnce = new Map<string, FollowingCapture>();
  readonly #lookUp = ({ namespace, name }: PodClaim): SandboxPod | undefined => this.#options.pods.get(makeKey(namespace, name));

  constructor(options: RecorderOptions) {
    this.#options = options;
    this.#context = options.context;
  }

  start(): void {
    const { pods } = this.#options;
    pods.onChange((_, current, previous) => this.#changed(current, previous));
    pods.start();
    this.#track(this.#every(HEARTBEAT_MS, () => this.#renewClaims()));
    this.#track(pods.waitForSync(this.#stopping.signal).then(() => this.#every(SWEEP_MS, () => this.sweep())));
  }

  /** Ends every read, keeps what was read, gives the claims back. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#options.pods.stop();
    await Promise.allSettled([...this.#running]);
    const { claims, database, logger } = this.#context;
    if (database.available)
      await claims
        .release(this.#held())
        .catch((error: unknown) => logger.warn({ err: error }, 'claims were not released'));
  }

  /** Finishes captures whose pod is gone, or its namespace taken from us. Public for tests; runs by itself every SWEEP_MS. */
  async sweep(): Promise<void> {
    const { unfinished, pods } = this.#options;
    const live = new Set(pods.list().map((pod) => pod.metadata.uid));
    const missed = new Map<string, FollowingCapture>();
    let after: FollowingCapture | undefined;
    do {
      const page: FollowingCapture[] = await unfinished.listFollowing({
        limit: SWEEP_PAGE,
        ...(after !== undefined && { after }),
      });
      for (const row of page) {
        if (live.has(row.podUid) || this.#tasks.has(row.podUid)) continue;
        // Where we may not look, its pod may still be, and be read when we may again; unless nobody waits for that any more.
        const over = row.finalized || this.#context.clock.now() - row.startedAt.getTime() > FORSAKEN_MS;
        if (!pods.sees(row.namespace) && !over) continue;
        // Twice in a row: the row may be of a pod that our cache does not have yet.
        if (this.#missedOnce.has(row.podUid)) this.#adopt(row);
        else missed.set(row.podUid, row);
      }
      after = page.length === SWEEP_PAGE ? page.at(-1) : undefined;
    } while (after !== undefined && !this.#stopping.signal.aborted);
    this.#missedOnce = missed;
  }

  #changed(current: SandboxPod | undefined, previous: SandboxPod | undefined): void {
    const uid = (current ?? previous)?.metadata.uid ?? '';
    const task = this.#tasks.get(uid);
    if (task !== undefined) {
      if (current !== undefined) task.appeared(current, this.#lookUp);
      task.notify();
      if (current === undefined && task.done) this.#tasks.delete(uid);
      return;
    }
    const claim = current === undefined ? undefined : podClaim(current);
    if (claim === undefined) {
      if (current !== undefined) this.#context.metrics.untrusted.inc();
      return;
    }
    this.#begin(new Task(claim, this.#lookUp), false);
  }

  #adopt({ evaluationUid, attempt, podUid, namespace, name }: FollowingCapture): void {
    const claim = { podUid, namespace, name, jobUid: '', evaluationUid, attempt, createdAt: 0 };
    this.#begin(new Task(claim), true);
  }

  #begin(task: Task, known: boolean): void {
    this.#tasks.set(task.claim.podUid, task);
    this.#context.metrics.pods.inc();
    this.#track(
      this.#work(task, known).finally(() => {
        this.#context.metrics.pods.dec();
        task.done = true;
        task.capture = undefined;
        if (task.current() === undefined) this.#tasks.delete(task.claim.podUid);
      }),
    );
  }

  async #work(task: Task, known: boolean): Promise<void> {
    const { clock, random, logger, metrics } = this.#context;
    const stopping = this.#stopping.signal;
    for (let failures = 0; !stopping.aborted;) {
      task.restart = new AbortController();
      task.capture = new PodCapture(this.#context, task, known);
      try {
        const result = await task.capture.run(AbortSignal.any([stopping, task.restart.signal]));
        if (result === 'captured') return;
        metrics.untrusted.inc();
        // The operator may have been kept from recording its Job: ask again while the pod exists.
        await sleep(clock, UNTRUSTED_RETRY_MS, stopping);
        if (task.current() === undefined) return;
      } catch (error) {
        if (stopping.aborted) return;
        if (!task.restart.signal.aborted)
          logger.error(
            { err: error, pod: makeKey(task.claim.namespace, task.claim.name) },
            'capture failed; beginning again',
          );
        await sleep(clock, backoffMs(failures, RETRY_BASE_MS, RETRY_MAX_MS, random), stopping);
        failures += 1;
      }
    }
  }

  #held(): PodClaim[] {
    return [...this.#tasks.values()]
      .filter((task) => task.capture?.begun === true || (task.done && this.#stopping.signal.aborted))
      .map((task) => task.claim);
  }

  async #renewClaims(): Promise<void> {
    // Those of an earlier process too, before they are taken up: what it spooled may be on a disk that only we have.
    const keys = [...this.#held(), ...this.#missedOnce.values()];
    for (const lost of await this.#context.claims.renew(keys)) {
      for (const task of this.#tasks.values()) {
        if (task.claim.evaluationUid !== lost.evaluationUid || task.claim.attempt !== lost.attempt) continue;
        // Captured in the meantime, or taken over while we were paused: run() finds out which.
        if (task.capture?.begun === true) task.restart.abort();
      }
    }
  }

  async #every(ms: number, work: () => Promise<void>): Promise<void> {
    const { clock, database, logger } = this.#context;
    while (!this.#stopping.signal.aborted) {
      try {
        if (database.available) await work();
      } catch (error) {
        if (isUnavailable(error)) database.reportDown();
        else logger.error({ err: error }, 'periodic work failed');
      }
      await sleep(clock, ms, this.#stopping.signal);
    }
  }

  #track(work: Promise<void>): void {
    const tracked = work.catch((error: unknown) => {
      if (!this.#stopping.signal.aborted) this.#context.logger.error({ err: error }, 'unexpected failure');
    });
    this.#running.add(tracked);
    void tracked.finally(() => this.#running.delete(tracked));
  }
}
