import type { Redis } from 'ioredis';
import { isUp } from './connection.ts';

export interface CacheCounters {
  hits: number;
  misses: number;
}

export interface CacheOptions {
  redis: Redis | undefined;
  /** Keys are `cache:<name>:<key>`. */
  name: string;
  ttlSeconds: number;
}

const MAX_VALUE_BYTES = 256 * 1024;
/** Hash with `hits` and `misses` of all caches of all processes, for the storage overview. */
export const CACHE_STATISTICS_KEY = 'cache-statistics';
const STATISTICS_TTL_SECONDS = 7 * 86_400;
/** Told this often, so that counting costs nothing. */
const TELL_MILLISECONDS = 1_000;

/**
 * Answers that are expensive to make, kept for a while. Never the only copy: whatever goes wrong with Redis is a miss, so
 * `load` is all that decides whether there is an answer.
 */
export class Cache<T> {
  readonly #options: CacheOptions;
  readonly #counters: CacheCounters = { hits: 0, misses: 0 };
  readonly #loading = new Map<string, Promise<T>>();
  #told: CacheCounters = { hits: 0, misses: 0 };
  #nextTell = 0;

  constructor(options: CacheOptions) {
    this.#options = options;
  }

  /** Since the start of this process. */
  get counters(): Readonly<CacheCounters> {
    return { ...this.#counters };
  }

  /** T must survive JSON. One process asks `load` once at a time for one key. */
  async get(key: string, load: () => Promise<T>): Promise<T> {
    const found = await this.#read(key);
    this.#tell();
    if (found !== undefined) {
      this.#counters.hits += 1;
      return found.value;
    }
    this.#counters.misses += 1;
    const running = this.#loading.get(key);
    if (running !== undefined) return await running;
    const loading = load().finally(() => this.#loading.delete(key));
    this.#loading.set(key, loading);
    const value = await loading;
    await this.#write(key, value);
    return value;
  }

  async forget(key: string): Promise<void> {
    await this.#ready()?.del(this.#key(key)).catch(() => undefined);
  }

  /** Adds what was counted since the last time to the sum in Redis. What gets lost on the way is only a statistic. */
  #tell(): void {
    const redis = this.#ready();
    if (redis === undefined || performance.now() < this.#nextTell) return;
    this.#nextTell = performance.now() + TELL_MILLISECONDS;
    const { hits, misses } = this.#counters;
    const told = this.#told;
    this.#told = { hits, misses };
    void redis
      .multi()
      .hincrby(CACHE_STATISTICS_KEY, 'hits', hits - told.hits)
      .hincrby(CACHE_STATISTICS_KEY, 'misses', misses - told.misses)
      .expire(CACHE_STATISTICS_KEY, STATISTICS_TTL_SECONDS)
      .exec()
      .catch(() => undefined);
  }

  #key(key: string): string {
    return `cache:${this.#options.name}:${key}`;
  }

  #ready(): Redis | undefined {
    const { redis } = this.#options;
    return redis !== undefined && isUp(redis) ? redis : undefined;
  }

  async #read(key: string): Promise<{ value: T } | undefined> {
    try {
      const text = await this.#ready()?.get(this.#key(key));
      return typeof text === 'string' ? { value: JSON.parse(text) as T } : undefined;
    } catch {
      return undefined;
    }
  }

  async #write(key: string, value: T): Promise<void> {
    const text = JSON.stringify(value);
    if (text === undefined || Buffer.byteLength(text) > MAX_VALUE_BYTES) return;
    await this.#ready()?.set(this.#key(key), text, 'EX', this.#options.ttlSeconds).catch(() => undefined);
  }
}
