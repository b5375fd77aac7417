import { atLimit, compareWaiting, nextNamespace } from '@crucible/storage';
import type { QueueLimits, Share, Waiting } from '@crucible/storage';

export type { Waiting } from '@crucible/storage';

/** Why one that may run has no place. */
export type HeldBack = 'GlobalLimit' | 'NamespaceLimit' | 'CaptureBacklog';
export const HELD_BACK: readonly HeldBack[] = ['GlobalLimit', 'NamespaceLimit', 'CaptureBacklog'];

export interface AdmissionQueueOptions {
  readonly limits: QueueLimits;
  /** Ended runs whose output is not stored yet, from which on nothing new begins. */
  readonly maxUncaptured: number;
  readonly wake: (key: string) => void;
  readonly now: () => number;
}

interface Entry {
  readonly waiting: Waiting;
  /** What its status says. */
  told: HeldBack | undefined;
}

/**
 * Who may have a Job, by the order of storage/src/queue-order.ts, from which the API computes positions. In memory only:
 * after a restart the Jobs in the cluster say who has a place (`hold`), and everyone else asks again.
 */
export class AdmissionQueue {
  readonly #options: AdmissionQueueOptions;
  /** Namespaces by key. */
  readonly #running = new Map<string, string>();
  readonly #shares = new Map<string, Share>();
  readonly #waiting = new Map<string, Map<string, Entry>>();
  /** Ended and not captured; most of them hold a place. */
  readonly #uncaptured = new Set<string>();
  /** Grants within one millisecond still have an order. */
  #lastGrantAt = 0;

  constructor(options: AdmissionQueueOptions) {
    this.#options = options;
  }

  get running(): number {
    return this.#running.size;
  }

  get uncaptured(): number {
    return this.#uncaptured.size;
  }

  /** The output of too many is not stored yet: nothing new begins, also of what needs no place here. */
  get backlogged(): boolean {
    return this.#uncaptured.size >= this.#options.maxUncaptured;
  }

  get waiting(): number {
    let count = 0;
    for (const keys of this.#waiting.values()) count += keys.size;
    return count;
  }

  /** How many wait, by what they wait for. */
  waitingByReason(): Record<HeldBack, number> {
    const counts = { GlobalLimit: 0, NamespaceLimit: 0, CaptureBacklog: 0 };
    for (const [namespace, keys] of this.#waiting) counts[this.heldBack(namespace)] += keys.size;
    return counts;
  }

  has(key: string): boolean {
    return this.#running.has(key);
  }

  /** What one of this namespace waits for. */
  heldBack(namespace: string): HeldBack {
    if (atLimit(namespace, this.#count(namespace), this.#options.limits)) return 'NamespaceLimit';
    return this.backlogged ? 'CaptureBacklog' : 'GlobalLimit';
  }

  /** It already has a Job: its place counts, even over the limit. `since`, if it began in the past. */
  hold(key: string, namespace: string, since = this.#options.now()): void {
    if (this.#running.has(key)) return;
    this.#leave(key, namespace);
    this.#running.set(key, namespace);
    const lastGrantAt = Math.max(since, this.#shares.get(namespace)?.lastGrantAt ?? 0);
    this.#shares.set(namespace, { running: this.#count(namespace) + 1, lastGrantAt });
  }

  /** True: it has a place. False: it is woken when it gets one. */
  request(key: string, waiting: Waiting): boolean {
    if (this.#running.has(key)) return true;
    const keys = this.#waiting.get(waiting.namespace) ?? new Map<string, Entry>();
    keys.set(key, { waiting, told: undefined });
    this.#waiting.set(waiting.namespace, keys);
    this.#grant(key);
    const entry = keys.get(key);
    if (entry !== undefined) entry.told = this.heldBack(waiting.namespace);
    return this.#running.has(key);
  }

  /** It is over, gone, or no longer wants one; `uncaptured`: its output is still to be stored, place or none. */
  release(key: string, namespace: string, uncaptured = false): void {
    this.#leave(key, namespace);
    const wasUncaptured = !uncaptured && this.#uncaptured.delete(key);
    if (this.#running.delete(key)) {
      const { lastGrantAt } = this.#shares.get(namespace)!;
      this.#shares.set(namespace, { running: this.#count(namespace) - 1, lastGrantAt });
    } else if (!wasUncaptured) return;
    this.#grant();
  }

  /** Its code has ended (or not, after all) and its output is not stored yet. */
  setUncaptured(key: string, uncaptured: boolean): void {
    if (uncaptured) this.#uncaptured.add(key);
    else if (this.#uncaptured.delete(key)) this.#grant();
  }

  /** Some that wait for something else than their status says, at most `limit`: they are to be looked at again. */
  outdated(limit: number): string[] {
    const keys: string[] = [];
    for (const [namespace, entries] of this.#waiting) {
      const reason = this.heldBack(namespace);
      for (const [key, { told }] of entries) {
        if (keys.length >= limit) return keys;
        if (told !== reason) keys.push(key);
      }
    }
    return keys;
  }

  #grant(asking?: string): void {
    const { limits, wake, now } = this.#options;
    while (this.#running.size < limits.total && !this.backlogged) {
      const next = this.#next();
      if (next === undefined) return;
      this.#lastGrantAt = Math.max(now(), this.#lastGrantAt + 1);
      this.hold(next.key, next.namespace, this.#lastGrantAt);
      if (next.key !== asking) wake(next.key);
    }
  }

  #next(): { key: string; namespace: string } | undefined {
    const namespace = nextNamespace(this.#waiting.keys(), (name) => this.#shares.get(name), this.#options.limits);
    if (namespace === undefined) return undefined;
    let best: [string, Entry] | undefined;
    for (const entry of this.#waiting.get(namespace)!) {
      if (best === undefined || compareWaiting(entry[1].waiting, best[1].waiting) < 0) best = entry;
    }
    return best && { key: best[0], namespace };
  }

  #count(namespace: string): number {
    return this.#shares.get(namespace)?.running ?? 0;
  }

  #leave(key: string, namespace: string): void {
    const keys = this.#waiting.get(namespace);
    if (keys?.delete(key) && keys.size === 0) this.#waiting.delete(namespace);
  }
}
