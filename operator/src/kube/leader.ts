import type { Logger } from 'pino';
import type { KubeClient } from './client.ts';
import { sleep, systemClock, type Clock } from './clock.ts';
import { isAlreadyExists, isConflict, isNotFound, KubeError } from './errors.ts';
import type { KubeMetrics } from './metrics.ts';
import { LEASES, type KubeObject } from './resources.ts';
import type { LeaderStopReason, LeaderTerm } from './types.ts';

export interface LeaderElectorOptions {
  client: KubeClient;
  namespace: string;
  name: string;
  /** Of this process, never used again: a pod's name with something random. */
  identity: string;
  logger: Logger;
  clock?: Clock | undefined;
  random?: (() => number) | undefined;
  metrics?: KubeMetrics | undefined;
  leaseDurationMs?: number | undefined;
  renewDeadlineMs?: number | undefined;
  retryPeriodMs?: number | undefined;
  /** The highest epoch known elsewhere (the database): keeps epochs growing when somebody deletes the Lease. */
  epochFloor?: (() => Promise<number>) | undefined;
  /** The term's work; need not resolve before the term ends. A rejection ends the term. */
  onStarted: (term: LeaderTerm) => void | Promise<void>;
  /** Awaited before the lease is released or competed for again; after `stopped` the lease is held meanwhile. */
  onStopped: (reason: LeaderStopReason) => void | Promise<void>;
}

interface Lease extends KubeObject {
  spec?: {
    holderIdentity?: string | null;
    leaseDurationSeconds?: number | null;
    acquireTime?: string | null;
    renewTime?: string | null;
    leaseTransitions?: number | null;
  };
}

// client-go's defaults.
const LEASE_DURATION_MS = 15_000;
const RENEW_DEADLINE_MS = 10_000;
const RETRY_PERIOD_MS = 2_000;

/**
 * One leader at a time, by a Lease. Two clocks never agree, so expiry is judged by how long *we* have seen no change,
 * not by the times written in the Lease. That leaves a leader that was paused: its writes must carry `epoch`.
 */
export class LeaderElector {
  readonly #options: LeaderElectorOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #logger: Logger;
  readonly #durationMs: number;
  readonly #deadlineMs: number;
  readonly #periodMs: number;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  /** The Lease as last seen, and when it was first seen like that. */
  #observed: { version: string; at: number } | undefined;
  #lease: Lease | undefined;
  #epoch: number | undefined;
  #renewedAt = -Infinity;

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#logger = options.logger.child({ lease: options.name, identity: options.identity });
    this.#durationMs = options.leaseDurationMs ?? LEASE_DURATION_MS;
    this.#deadlineMs = options.renewDeadlineMs ?? RENEW_DEADLINE_MS;
    this.#periodMs = options.retryPeriodMs ?? RETRY_PERIOD_MS;
    if (this.#deadlineMs >= this.#durationMs) throw new RangeError('the renew deadline must be shorter than the lease');
    if (this.#periodMs * 1.2 >= this.#deadlineMs)
      throw new RangeError('the retry period must be shorter than the renew deadline');
    options.metrics?.initLeader(options.name);
  }

  start(): void {
    if (this.#running !== undefined) throw new Error('leader elector was started already');
    this.#running = this.#run();
  }

  /** Ends the term, waits for onStopped while holding the lease, then releases it. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Judged by the clock, so a process that was paused past its lease gets false at once, before any timer runs. */
  isLeader(): boolean {
    return this.#epoch !== undefined && this.#clock.monotonic() < this.#renewedAt + this.#deadlineMs;
  }

  /** Of the present term. */
  get epoch(): number | undefined {
    return this.#epoch;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const acquired = await this.#tryAcquire().catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#logger.warn({ err: error }, 'lease cannot be acquired');
        return false;
      });
      if (acquired) await this.#lead();
      await sleep(this.#clock, this.#periodMs * (1 + 0.2 * this.#random()), this.#stop.signal);
    }
  }

  async #tryAcquire(): Promise<boolean> {
    const { client, namespace, name } = this.#options;
    const askedAt = this.#clock.monotonic();
    const lease = await client.get<Lease>(LEASES, namespace, name, this.#call()).catch(ignoreNotFound);
    if (lease !== undefined && !this.#mayTake(lease)) return false;
    const floor = await this.#epochFloor(lease);
    // A term of our own identity counts as another one too: what it still had under way must lose against us.
    const epoch = Math.max(lease?.spec?.leaseTransitions ?? 0, floor) + 1;
    const now = this.#microTime();
    const spec = { ...this.#renewal(), acquireTime: now, leaseTransitions: epoch };
    const wanted: Lease =
      lease === undefined
        ? { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace }, spec }
        : { ...lease, spec: { ...lease.spec, ...spec } };
    const sentAt = this.#clock.monotonic();
    try {
      this.#lease =
        lease === undefined
          ? await client.create(LEASES, wanted, this.#call())
          : await client.replace(LEASES, wanted, this.#call());
    } catch (error) {
      if (isConflict(error) || isAlreadyExists(error)) return false;
      throw error;
    }
    this.#epoch = epoch;
    this.#renewedAt = sentAt;
    this.#logger.info({ epoch, afterMs: Math.round(sentAt - askedAt) }, 'leading');
    return true;
  }

  async #epochFloor(lease: Lease | undefined): Promise<number> {
    try {
      return (await this.#options.epochFloor?.()) ?? 0;
    } catch (error) {
      // A lease that has counted counts on without the database: deadlines are kept while it is away. A new one does not.
      if (!lease?.spec?.leaseTransitions) throw error;
      this.#logger.warn({ err: error }, 'epoch taken from the lease alone');
      return 0;
    }
  }

  /** Whether nobody holds the lease, or whoever does has not been heard of for its whole duration. */
  #mayTake(lease: Lease): boolean {
    const now = this.#clock.monotonic();
    const version = lease.metadata.resourceVersion ?? '';
    if (this.#observed?.version !== version) this.#observed = { version, at: now };
    const holder = lease.spec?.holderIdentity;
    if (!holder || holder === this.#options.identity) return true;
    const durationMs = (lease.spec?.leaseDurationSeconds ?? 0) * 1000 || this.#durationMs;
    return now >= this.#observed.at + durationMs;
  }

  async #lead(): Promise<void> {
    const { metrics, name, onStarted, onStopped } = this.#options;
    const epoch = this.#epoch ?? 0;
    const term = new AbortController();
    /** Somebody wants the term to end while the lease is still ours. */
    const wish = new AbortController();
    const onStop = (): void => wish.abort();
    this.#stop.signal.addEventListener('abort', onStop, { once: true });
    if (this.#stop.signal.aborted) wish.abort();
    metrics?.leader.set({ lease: name }, 1);
    metrics?.leaderEpoch.set({ lease: name }, epoch);
    let failed = false;
    Promise.resolve()
      .then(() => onStarted({ epoch, signal: term.signal }))
      .catch((error: unknown) => {
        if (term.signal.aborted) return;
        this.#logger.error({ err: error, epoch }, 'the work of the term failed');
        failed = true;
        wish.abort();
      });
    let held = await this.#renewUntil(wish.signal);
    const reason: LeaderStopReason = !held ? 'lost' : failed ? 'failed' : 'stopped';
    this.#logger.info({ epoch, reason }, 'term ends');
    term.abort();
    const stopped = new AbortController();
    const work = Promise.resolve()
      .then(() => onStopped(reason))
      .catch((error: unknown) => this.#logger.error({ err: error, epoch }, 'the end of the term failed'))
      .finally(() => stopped.abort());
    // Draining can take longer than the lease lasts: nobody else may begin meanwhile.
    if (held) held = await this.#renewUntil(stopped.signal);
    await work;
    this.#stop.signal.removeEventListener('abort', onStop);
    if (held) await this.#release();
    this.#epoch = undefined;
    this.#observed = undefined;
    metrics?.leader.set({ lease: name }, 0);
  }

  /** True when the signal ended it with the lease still ours, false when the lease is lost. */
  async #renewUntil(signal: AbortSignal): Promise<boolean> {
    for (;;) {
      await sleep(this.#clock, Math.min(this.#periodMs, this.#leftMs()), signal);
      if (this.#leftMs() <= 0) return false;
      if (signal.aborted) return true;
      try {
        if (!(await this.#renew())) return false;
      } catch (error) {
        this.#logger.warn({ err: error }, 'lease cannot be renewed');
        if (this.#leftMs() <= 0) return false;
      }
    }
  }

  /** False when somebody else has it. */
  async #renew(): Promise<boolean> {
    const { client, namespace, name, identity } = this.#options;
    const sentAt = this.#clock.monotonic();
    try {
      const lease = this.#lease!;
      this.#lease = await client.replace(
        LEASES,
        { ...lease, spec: { ...lease.spec, ...this.#renewal() } },
        this.#call(),
      );
      this.#renewedAt = sentAt;
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      if (!isConflict(error)) throw error;
    }
    // Somebody wrote: another leader, a user adding a label, or we ourselves with an answer that got lost.
    const current = await client.get<Lease>(LEASES, namespace, name, this.#call()).catch(ignoreNotFound);
    if (current?.spec?.holderIdentity !== identity || current.spec.leaseTransitions !== this.#epoch) return false;
    this.#lease = current;
    return this.#renew();
  }

  async #release(): Promise<void> {
    const lease = this.#lease!;
    const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: this.#microTime() };
    try {
      await this.#options.client.replace(LEASES, { ...lease, spec }, this.#call());
      this.#logger.info({}, 'lease released');
    } catch (error) {
      // Then it runs out.
      this.#logger.warn({ err: error }, 'lease cannot be released');
    }
  }

  #leftMs(): number {
    return this.#renewedAt + this.#deadlineMs - this.#clock.monotonic();
  }

  #renewal(): NonNullable<Lease['spec']> {
    return {
      holderIdentity: this.#options.identity,
      leaseDurationSeconds: Math.ceil(this.#durationMs / 1000),
      renewTime: this.#microTime(),
    };
  }

  /** A call that hangs must leave time for another try, and must end with the term. */
  #call(): { timeoutMs: number; urgent: true } {
    const left = this.#epoch === undefined ? Infinity : Math.max(1, this.#leftMs());
    return { timeoutMs: Math.min(this.#deadlineMs / 2, left), urgent: true };
  }

  /** The API server parses a MicroTime with exactly six digits. */
  #microTime(): string {
    return new Date(this.#clock.now()).toISOString().replace('Z', '000Z');
  }
}

function ignoreNotFound(error: unknown): undefined {
  if (isNotFound(error)) return undefined;
  throw error instanceof KubeError ? error : new Error('lease cannot be read', { cause: error });
}
