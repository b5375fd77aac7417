import type { Awaitable } from '../awaitable.ts';

/** What one call took of a bucket. */
export interface Taken {
  /** How many; 0: refused. */
  readonly allowed: number;
  /** Microseconds until everything taken is given back. */
  readonly debt: number;
}

export interface LeaseOptions {
  readonly limit: number;
  /** In microseconds, as `emission`: the time in which one permit is given back. */
  readonly window: number;
  readonly emission: number;
  /** Remembered at most; those renewed last. */
  readonly maxKeys: number;
  readonly now: () => number;
  /** Takes up to `most`, at least one or nothing; undefined when Redis is away. */
  readonly ask: (key: string, most: number) => Promise<Taken | undefined>;
}

const PART = 100;
const MOST = 64;
/** For so long permits may be used that were taken ahead, and so long a refusal is believed. */
const LEASE_MICROSECONDS = 1_000_000;

interface Lease {
  left: number;
  until: number;
  size: number;
  /** When everything that was taken, by whomever, will have been given back. */
  fullAt: number;
  refusedUntil: number;
  waiting: number;
  asking: Promise<boolean> | undefined;
}

/**
 * Permits of shared buckets that this process has taken ahead of their use. One at first; twice as many each time that all
 * were used within a second, up to a hundredth of the limit and 64. What is not used within the second is lost, and the next
 * time it is one again: so less is lost than was used, and whoever stays below half of the limit is not refused for it. A
 * limit below 200 is counted one by one.
 */
export class Leases {
  readonly #options: LeaseOptions;
  readonly #ahead: number;
  readonly #leases = new Map<string, Lease>();

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#ahead = Math.max(1, Math.min(MOST, Math.floor(options.limit / PART)));
  }

  /** Undefined when Redis had to be asked and is away. */
  take(key: string): Awaitable<Taken | undefined> {
    if (this.#ahead === 1) return this.#options.ask(key, 1);
    const lease = this.#of(key);
    return this.#use(lease) ?? this.#wait(key, lease);
  }

  /** Undefined when Redis has to be asked. */
  #use(lease: Lease): Taken | undefined {
    const now = this.#options.now();
    if (now < lease.refusedUntil) return { allowed: 0, debt: lease.fullAt - now };
    if (now >= lease.until || lease.left <= 0) return undefined;
    lease.left -= 1;
    return { allowed: 1, debt: Math.max(0, lease.fullAt - now - lease.left * this.#options.emission) };
  }

  async #wait(key: string, lease: Lease): Promise<Taken | undefined> {
    lease.waiting += 1;
    try {
      for (;;) {
        // Asked once for all who wait for it.
        lease.asking ??= this.#renew(key, lease).finally(() => (lease.asking = undefined));
        if (!(await lease.asking)) return undefined;
        const taken = this.#use(lease);
        if (taken !== undefined) return taken;
      }
    } finally {
      lease.waiting -= 1;
    }
  }

  async #renew(key: string, lease: Lease): Promise<boolean> {
    const { now, ask, emission, window } = this.#options;
    lease.size = lease.left === 0 && now() < lease.until ? Math.min(2 * lease.size, this.#ahead) : 1;
    const taken = await ask(key, Math.min(this.#ahead, Math.max(lease.size, lease.waiting)));
    if (taken === undefined) return false;
    const at = now();
    this.#leases.delete(key);
    this.#leases.set(key, lease);
    lease.left = taken.allowed;
    lease.until = at + LEASE_MICROSECONDS;
    lease.fullAt = at + taken.debt;
    lease.refusedUntil = taken.allowed > 0 ? 0 : Math.min(at + LEASE_MICROSECONDS, lease.fullAt + emission - window);
    return true;
  }

  #of(key: string): Lease {
    const found = this.#leases.get(key);
    if (found !== undefined) return found;
    const lease = { left: 0, until: 0, size: 1, fullAt: 0, refusedUntil: 0, waiting: 0, asking: undefined };
    this.#forget();
    this.#leases.set(key, lease);
    return lease;
  }

  /** A Map keeps the order: first those renewed longest ago. Whoever is forgotten begins with one permit again. */
  #forget(): void {
    const now = this.#options.now();
    for (const [key, { until, waiting }] of this.#leases) {
      if (this.#leases.size < this.#options.maxKeys && (until > now || waiting > 0)) break;
      this.#leases.delete(key);
    }
  }
}
