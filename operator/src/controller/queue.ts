import { backoffMs, systemClock, type Clock } from '../kube/clock.ts';
import { FairFifo } from './fair-fifo.ts';
import type { ControllerMetrics } from './metrics.ts';

export interface WorkQueueOptions {
  /** Label of the metrics. */
  name: string;
  clock?: Clock | undefined;
  random?: (() => number) | undefined;
  metrics?: ControllerMetrics | undefined;
  baseDelayMs?: number | undefined;
  maxDelayMs?: number | undefined;
  /** Keys of one group wait for each other, groups take turns. The namespace by default. */
  groupOf?: ((key: string) => string) | undefined;
  /** Whose turn comes before that of the others while these are few, asked when the key is queued. Nobody by default. */
  first?: ((key: string) => boolean) | undefined;
}

const BASE_DELAY_MS = 100;
/** Short enough that work resumes within a minute of the end of an outage. */
const MAX_DELAY_MS = 30_000;
/** Of so many turns one goes to those who are less urgent: they come slower, but they do come. */
const TURNS = 4;
/**
 * So many of the others waiting are the more urgent: a queue that begins more than it ends only grows. Of a thousand
 * that begin at once each needs its Job once and is looked at several times after that.
 */
const CROWD = 64;

/**
 * Keys to work on. A key is in here once however often it is added, is never handed to two workers at once, and runs
 * again when it was added while running.
 */
export class WorkQueue {
  readonly name: string;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #metrics: ControllerMetrics | undefined;
  readonly #labels: { name: string; controller: string };
  readonly #baseDelayMs: number;
  readonly #maxDelayMs: number;
  readonly #ready: FairFifo;
  /** Those that come before `#ready`. */
  readonly #readyFirst: FairFifo;
  readonly #isFirst: (key: string) => boolean;
  #turn = 0;
  /** When each waiting key was queued. */
  readonly #queuedAt = new Map<string, number>();
  /** When each running key was handed out. */
  readonly #running = new Map<string, number>();
  /** Running keys that were added again meanwhile. */
  readonly #again = new Set<string>();
  readonly #delayed = new Map<string, { at: number; cancel: () => void }>();
  readonly #failures = new Map<string, number>();
  #waiters: ((key: string | undefined) => void)[] = [];
  #down = false;

  constructor(options: WorkQueueOptions) {
    this.name = options.name;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#metrics = options.metrics;
    this.#labels = { name: options.name, controller: options.name };
    this.#baseDelayMs = options.baseDelayMs ?? BASE_DELAY_MS;
    this.#maxDelayMs = options.maxDelayMs ?? MAX_DELAY_MS;
    this.#ready = new FairFifo(options.groupOf ?? namespaceOf);
    this.#readyFirst = new FairFifo(options.groupOf ?? namespaceOf);
    this.#isFirst = options.first ?? (() => false);
    this.#metrics?.initQueue(options.name, {
      unfinishedSeconds: () => this.#ages().reduce((sum, age) => sum + age, 0),
      longestRunningSeconds: () => this.#ages().reduce((most, age) => Math.max(most, age), 0),
    });
  }

  /** Keys that wait to be handed out; neither running nor delayed ones. */
  get length(): number {
    return this.#ready.length + this.#readyFirst.length;
  }

  get delayed(): number {
    return this.#delayed.size;
  }

  get running(): number {
    return this.#running.size;
  }

  add(key: string): void {
    if (this.#down || this.#queuedAt.has(key) || this.#again.has(key)) return;
    this.#metrics?.adds.inc(this.#labels);
    if (this.#running.has(key)) this.#again.add(key);
    else this.#enqueue(key);
  }

  /** Of several delays of a key the earliest counts: a later wish never postpones a promise. */
  addAfter(key: string, seconds: number): void {
    this.#addAfterMs(key, seconds * 1000);
  }

  /** Adds the key after its backoff, which doubles with each call until `forget`. Returns the delay in seconds. */
  addRateLimited(key: string, atLeastSeconds = 0): number {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.#metrics?.retries.inc(this.#labels);
    const delayMs = Math.max(
      backoffMs(failures, this.#baseDelayMs, this.#maxDelayMs, this.#random),
      atLeastSeconds * 1000,
    );
    this.#addAfterMs(key, delayMs);
    return delayMs / 1000;
  }

  /** The next failure starts from the shortest delay again. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  retries(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** The next key, or undefined once shut down. Every key must be given back with `done`. */
  get(): Promise<string | undefined> {
    if (this.#down) return Promise.resolve(undefined);
    const key = this.#take();
    if (key !== undefined) return Promise.resolve(key);
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  done(key: string): void {
    const startedAt = this.#running.get(key);
    if (startedAt === undefined) return;
    this.#running.delete(key);
    this.#metrics?.workDuration.observe(this.#labels, (this.#clock.monotonic() - startedAt) / 1000);
    if (this.#again.delete(key) && !this.#down) this.#enqueue(key);
  }

  /** Hands out nothing any more. What waits is dropped: after a restart every key is added anew. */
  shutDown(): void {
    this.#down = true;
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#again.clear();
    for (const resolve of this.#waiters.splice(0)) resolve(undefined);
  }

  #addAfterMs(key: string, delayMs: number): void {
    if (this.#down) return;
    // NaN would never fire.
    if (!(delayMs > 0)) return this.add(key);
    const at = this.#clock.monotonic() + delayMs;
    const earlier = this.#delayed.get(key);
    if (earlier !== undefined) {
      if (earlier.at <= at) return;
      earlier.cancel();
    }
    this.#delayed.set(key, { at, cancel: this.#clock.after(delayMs, () => this.#due(key)) });
  }

  #due(key: string): void {
    const entry = this.#delayed.get(key);
    if (entry === undefined) return;
    this.#delayed.delete(key);
    const leftMs = entry.at - this.#clock.monotonic();
    // Timers are capped at 24 days and may fire a little early.
    if (leftMs > 1) this.#addAfterMs(key, leftMs);
    else this.add(key);
  }

  #enqueue(key: string): void {
    (this.#isFirst(key) ? this.#readyFirst : this.#ready).push(key);
    this.#queuedAt.set(key, this.#clock.monotonic());
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) waiter(this.#take());
    this.#metrics?.depth.set(this.#labels, this.length);
  }

  #take(): string | undefined {
    const key = this.#next();
    if (key === undefined) return undefined;
    const now = this.#clock.monotonic();
    this.#metrics?.queueDuration.observe(this.#labels, (now - (this.#queuedAt.get(key) ?? now)) / 1000);
    this.#metrics?.depth.set(this.#labels, this.length);
    this.#queuedAt.delete(key);
    this.#running.set(key, now);
    return key;
  }

  #next(): string | undefined {
    const [first, others] = [this.#readyFirst, this.#ready];
    if (first.length === 0 || others.length === 0) return first.shift() ?? others.shift();
    this.#turn = (this.#turn + 1) % TURNS;
    const firstUrgent = others.length < CROWD;
    const lessUrgentTurn = this.#turn === 0;
    return (firstUrgent !== lessUrgentTurn ? first : others).shift();
  }

  #ages(): number[] {
    const now = this.#clock.monotonic();
    return [...this.#running.values()].map((startedAt) => (now - startedAt) / 1000);
  }
}

function namespaceOf(key: string): string {
  const slash = key.indexOf('/');
  return slash < 0 ? '' : key.slice(0, slash);
}
