import type { Redis } from 'ioredis';
import type { RateLimitStore } from './rate-limit.ts';

/** Count and expiry in one step: a key without an end would shut somebody out for ever. */
const HIT = `
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {count, left}`;

/** Counts of all replicas together. Throws while Redis is away. */
export class RedisRateLimitStore implements RateLimitStore {
  readonly #redis: Redis;

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  async hit(key: string, windowSeconds: number): Promise<{ count: number; resetSeconds: number }> {
    const [count, left] = (await this.#redis.eval(HIT, 1, `rate:${key}`, String(windowSeconds * 1000))) as [number, number];
    return { count, resetSeconds: left / 1000 };
  }
}
