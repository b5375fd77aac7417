import { hash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { after, type Awaitable } from '../awaitable.ts';
import { isUp } from './connection.ts';
import { Leases, type Taken } from './lease.ts';

export interface RateLimitRule {
  /** Part of the key in Redis; one for each class of routes. */
  readonly name: string;
  /** So many at once, and so many in each window in the long run. */
  readonly limit: number;
  readonly windowSeconds: number;
}

/** What `RateLimit` headers and a 429 need. */
export interface RateLimitAnswer {
  readonly allowed: boolean;
  readonly limit: number;
  /** How many more would be allowed now. */
  readonly remaining: number;
  /** Until the whole limit is there again, rounded up. */
  readonly resetSeconds: number;
  /** 0 when allowed. */
  readonly retryAfterSeconds: number;
  /** `process`: Redis did not answer in time, so only what this process has seen counts. */
  readonly source: 'redis' | 'process';
}

export interface RateLimiterOptions extends RateLimitRule {
  readonly redis: Redis | undefined;
  /** Keys that this process remembers for itself, at most. */
  readonly maxLocalKeys?: number;
  /** In microseconds. */
  readonly now?: () => number;
}

/** Longer than Redis ever takes when it is well; a request must not wait for one that is not. */
const PATIENCE_MILLISECONDS = 150;
/** After a failure Redis is left alone for this long: else a slow one would cost every request the patience. */
const REST_MILLISECONDS = 1_000;
const MAX_LOCAL_KEYS = 10_000;
const MICROSECONDS = 1_000_000;

// The generic cell rate algorithm: one number for a key, the moment at which all that was taken will have been given
// back. Taking adds to it, time passing is the giving back. One call, Redis' own clock, so any number of processes agree.
// Takes as many as fit, `most` of them, or nothing when `cost` do not fit.
const TAKE = `
local window, emission, cost, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local full = tonumber(redis.call('GET', KEYS[1]) or '') or now
full = math.min(math.max(full, now), now + window)
local taken = math.min(most, math.floor((now + window - full) / emission))
if taken < cost then
  taken = 0
else
  full = full + taken * emission
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
end
return {taken, string.format('%.0f', full - now)}
`;

/**
 * Token bucket in Redis, shared by all processes. Never in the way: when Redis is away, slow or refuses, the same bucket
 * in this process decides, which has counted along all the time. With n processes a client may then take up to n times the
 * limit. The process remembers a bounded number of keys, those used last. Who asks often is let in by permits that were
 * taken ahead (Leases): never more than the limit in all, and no call to Redis for most of them.
 */
export class RateLimiter {
  readonly #redis: Redis | undefined;
  readonly #rule: RateLimitRule;
  readonly #window: number;
  readonly #emission: number;
  readonly #local: LocalBuckets;
  readonly #leases: Leases;
  readonly #now: () => number;
  #restUntil = 0;

  constructor(options: RateLimiterOptions) {
    const { redis, name, limit, windowSeconds } = options;
    if (!Number.isInteger(limit) || limit < 1 || !(windowSeconds > 0)) throw new RangeError(`rate limit ${name}: ${limit} in ${windowSeconds} s`);
    this.#redis = redis;
    this.#rule = { name, limit, windowSeconds };
    this.#window = windowSeconds * MICROSECONDS;
    // Rounded down, or the last of the limit would not fit into the window.
    this.#emission = Math.max(1, Math.floor(this.#window / limit));
    this.#local = new LocalBuckets(options.maxLocalKeys ?? MAX_LOCAL_KEYS);
    this.#now = options.now ?? (() => performance.now() * 1000);
    this.#leases = new Leases({
      limit, window: this.#window, emission: this.#emission, maxKeys: options.maxLocalKeys ?? MAX_LOCAL_KEYS, now: this.#now,
      ask: (key, most) => this.#ask(key, 1, most),
    });
  }

  /** `key` may be anything that names a client, a token too: only a hash of it leaves this process. Never throws for Redis. */
  async take(key: string, cost = 1): Promise<RateLimitAnswer> {
    if (!Number.isInteger(cost) || cost < 1 || cost > this.#rule.limit) throw new RangeError(`a cost of ${cost} never fits into the limit of ${this.#rule.limit}`);
    if (cost === 1) return await this.takeOne(key);
    const local = this.#local.take(key, this.#now(), this.#window, this.#emission, cost);
    return this.#answer(await this.#ask(key, cost, cost), local, cost);
  }

  /** The same for one, at once when a permit is there. */
  takeOne(key: string): Awaitable<RateLimitAnswer> {
    const local = this.#local.take(key, this.#now(), this.#window, this.#emission, 1);
    return after(this.#leases.take(key), (shared) => this.#answer(shared, local, 1));
  }

  #answer(shared: Taken | undefined, local: Taken, cost: number): RateLimitAnswer {
    const { allowed, debt } = shared ?? local;
    return {
      allowed: allowed > 0,
      limit: this.#rule.limit,
      remaining: Math.max(0, Math.min(this.#rule.limit, Math.floor((this.#window - debt) / this.#emission))),
      resetSeconds: Math.ceil(debt / MICROSECONDS),
      retryAfterSeconds: allowed > 0 ? 0 : Math.max(1, Math.ceil((debt + cost * this.#emission - this.#window) / MICROSECONDS)),
      source: shared === undefined ? 'process' : 'redis',
    };
  }

  async #ask(key: string, cost: number, most: number): Promise<Taken | undefined> {
    const redis = this.#redis;
    if (redis === undefined || !isUp(redis) || performance.now() < this.#restUntil) return undefined;
    const hashed = hash('sha256', key, 'base64url');
    const answer = redis
      .eval(TAKE, 1, `rate:${this.#rule.name}:${hashed}`, this.#window, this.#emission, cost, most)
      .then((taken) => taken as [number, string])
      .catch(() => undefined);
    const taken = await inTime(answer);
    if (taken === undefined) {
      this.#restUntil = performance.now() + REST_MILLISECONDS;
      return undefined;
    }
    return { allowed: taken[0], debt: Number(taken[1]) };
  }
}

/** The same in this process, for the keys used last. */
class LocalBuckets {
  readonly #fullAt = new Map<string, number>();
  readonly #max: number;
  /** It is the last already: to take it out and put it in again would have the Map made anew every few times. */
  #newest: string | undefined;

  constructor(max: number) {
    this.#max = max;
  }

  take(key: string, now: number, window: number, emission: number, cost: number): Taken {
    const full = Math.max(this.#fullAt.get(key) ?? now, now);
    const allowed = full + cost * emission - now <= window;
    const next = allowed ? full + cost * emission : full;
    // Taken out and put in again: a Map keeps the order, so the first one is the one not used for longest.
    if (key !== this.#newest) this.#fullAt.delete(key);
    this.#fullAt.set(key, next);
    this.#newest = key;
    for (const [oldest, fullAt] of this.#fullAt) {
      if (this.#fullAt.size <= this.#max && fullAt > now) break;
      if (oldest === key) break;
      this.#fullAt.delete(oldest);
    }
    return { allowed: allowed ? cost : 0, debt: next - now };
  }
}

async function inTime<T>(answer: Promise<T | undefined>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => (timer = setTimeout(resolve, PATIENCE_MILLISECONDS, undefined)));
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
