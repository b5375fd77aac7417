import { RateLimiter, after, type Awaitable, type RateLimitAnswer } from '@crucible/storage';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Redis } from 'ioredis';
import { Problem } from '../problems.ts';

/** What is counted together: each has its own limit for one caller. */
export const ROUTE_CLASSES = ['read', 'write', 'stream', 'download', 'session'] as const;
export type RouteClass = (typeof ROUTE_CLASSES)[number];

export interface RateLimits extends Readonly<Record<RouteClass, number>> {
  /** Of one address, whoever it is: also what is refused. */
  readonly client: number;
}

const WINDOW_SECONDS = 60;
/** Addresses and callers that a replica remembers for itself, for when Redis is away. */
const MAX_LOCAL_KEYS = 50_000;

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
export function rateLimitHeaders(states: readonly State[]): { 'ratelimit-policy': string; ratelimit: string } {
  let [policies, limits] = ['', ''];
  for (const { policy, limit, remaining, reset } of states) {
    policies += `${policies && ', '}"${policy}";q=${limit};w=${WINDOW_SECONDS}`;
    limits += `${limits && ', '}"${policy}";r=${remaining};t=${reset}`;
  }
  return { 'ratelimit-policy': policies, ratelimit: limits };
}

type Take = readonly [policy: keyof RateLimits, who: string];

/** One bucket for each class of routes and each caller, shared by all replicas; one for each address before that. */
export class RequestLimiter {
  readonly #buckets: Readonly<Record<keyof RateLimits, RateLimiter>>;
  readonly limits: RateLimits;

  constructor(redis: Redis | undefined, limits: RateLimits) {
    this.limits = limits;
    const bucket = (name: keyof RateLimits) =>
      new RateLimiter({ redis, name, limit: limits[name], windowSeconds: WINDOW_SECONDS, maxLocalKeys: MAX_LOCAL_KEYS });
    const entries = (['client', ...ROUTE_CLASSES] as const).map((name) => [name, bucket(name)] as const);
    this.#buckets = Object.fromEntries(entries) as Record<keyof RateLimits, RateLimiter>;
  }

  /**
   * Takes of several buckets at once. `who` names an address or a caller, the same in every replica and after every restart.
   * Throws a 429.
   */
  take(request: FastifyRequest, reply: FastifyReply, takes: readonly Take[]): Awaitable<void> {
    const answers = takes.map(([policy, who]) => this.#buckets[policy].takeOne(who));
    // All that is asked of Redis is asked at once.
    const all = answers.some((answer) => answer instanceof Promise) ? Promise.all(answers) : (answers as RateLimitAnswer[]);
    return after(all, (known) => this.#decide(request, reply, takes, known));
  }

  #decide(request: FastifyRequest, reply: FastifyReply, takes: readonly Take[], answers: readonly RateLimitAnswer[]): void {
    for (const [index, { limit, remaining, resetSeconds: reset }] of answers.entries())
      request.rateLimits.push({ policy: (takes[index] as Take)[0], limit, remaining, reset });
    reply.headers(rateLimitHeaders(request.rateLimits));
    const index = answers.findIndex(({ allowed }) => !allowed);
    if (index < 0) return;
    const policy = (takes[index] as Take)[0];
    const { limit, retryAfterSeconds } = answers[index] as RateLimitAnswer;
    const what = policy === 'client' ? 'requests from your address' : `requests of yours of the class "${policy}"`;
    throw new Problem(429, `more than ${limit} ${what} in ${WINDOW_SECONDS} seconds: wait ${retryAfterSeconds} s`, {
      headers: { 'retry-after': String(retryAfterSeconds) },
    });
  }
}
