import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';

/** Counts hits of a key in a window of time. */
export interface RateLimitStore {
  hit(key: string, windowSeconds: number): Promise<{ count: number; resetSeconds: number }>;
}

/** What is counted together: each has its own limit for one token. */
export const ROUTE_CLASSES = ['read', 'write', 'stream', 'download', 'session'] as const;
export type RouteClass = (typeof ROUTE_CLASSES)[number];

export interface RateLimits extends Readonly<Record<RouteClass, number>> {
  /** Of one address, whoever it is: also what is refused. */
  readonly client: number;
}

const WINDOW_SECONDS = 60;
const MEMORY_KEYS = 50_000;

interface State {
  readonly policy: string;
  readonly limit: number;
  readonly remaining: number;
  readonly reset: number;
}

declare module 'fastify' {
  interface FastifyRequest {
    rateLimits: State[];
  }
}

/** draft-ietf-httpapi-ratelimit-headers: two structured fields, every policy that applied with what is left of it. */
export function rateLimitHeaders(states: readonly State[]): Record<string, string> {
  return {
    'ratelimit-policy': states.map(({ policy, limit }) => `"${policy}";q=${limit};w=${WINDOW_SECONDS}`).join(', '),
    ratelimit: states.map(({ policy, remaining, reset }) => `"${policy}";r=${remaining};t=${reset}`).join(', '),
  };
}

export class RateLimiter {
  readonly #store: RateLimitStore;
  readonly limits: RateLimits;

  constructor(store: RateLimitStore, limits: RateLimits) {
    this.#store = store;
    this.limits = limits;
  }

  /** Throws a 429 when it was one too many. */
  async take(request: FastifyRequest, reply: FastifyReply, policy: keyof RateLimits, who: string): Promise<void> {
    const limit = this.limits[policy];
    const { count, resetSeconds } = await this.#store.hit(`${policy}:${who}`, WINDOW_SECONDS);
    const state = { policy, limit, remaining: Math.max(0, limit - count), reset: Math.max(1, Math.ceil(resetSeconds)) };
    request.rateLimits.push(state);
    reply.headers(rateLimitHeaders(request.rateLimits));
    if (count <= limit) return;
    const what = policy === 'client' ? 'requests from your address' : `requests of the class "${policy}" with your token`;
    throw new Problem(429, `more than ${limit} ${what} in ${WINDOW_SECONDS} seconds: wait ${state.reset} s`, {
      headers: { 'retry-after': String(state.reset) },
    });
  }
}

/** For as long as Redis is away, and where there is none: each replica counts for itself. */
export class MemoryRateLimitStore implements RateLimitStore {
  readonly #now: () => number;
  #window = -1;
  #counts = new Map<string, number>();

  constructor(now: () => number) {
    this.#now = now;
  }

  hit(key: string, windowSeconds: number): Promise<{ count: number; resetSeconds: number }> {
    const seconds = this.#now() / 1000;
    const window = Math.floor(seconds / windowSeconds);
    // All keys at once: a new window, or so many keys that somebody is filling our memory.
    if (window !== this.#window || this.#counts.size >= MEMORY_KEYS) this.#counts = new Map();
    this.#window = window;
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    return Promise.resolve({ count, resetSeconds: (window + 1) * windowSeconds - seconds });
  }
}

/** Redis while it is there, so that replicas count together; the process's own memory otherwise. */
export class FallbackRateLimitStore implements RateLimitStore {
  readonly #shared: RateLimitStore;
  readonly #own: RateLimitStore;

  constructor(shared: RateLimitStore, own: RateLimitStore) {
    this.#shared = shared;
    this.#own = own;
  }

  async hit(key: string, windowSeconds: number): Promise<{ count: number; resetSeconds: number }> {
    try {
      return await this.#shared.hit(key, windowSeconds);
    } catch {
      return await this.#own.hit(key, windowSeconds);
    }
  }
}
