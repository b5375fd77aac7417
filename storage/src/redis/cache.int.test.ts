import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { testServer } from '../../../test/integration/environment.ts';
import { Cache } from './cache.ts';
import { connectRedis } from './connection.ts';

let redis: Redis;

beforeAll(async () => {
  redis = connectRedis({ url: testServer('CRUCIBLE_TEST_REDIS') });
  await once(redis, 'ready');
});

afterAll(() => redis.disconnect());

const newCache = (options: Partial<{ redis: Redis | undefined; ttlSeconds: number }> = {}) =>
  new Cache<unknown>({ redis, name: randomUUID(), ttlSeconds: 60, ...options });

test('a miss loads and keeps, a hit does not load, forgetting makes a miss; all of it counted', async () => {
  const cache = newCache();
  let loads = 0;
  const load = () => Promise.resolve({ loads: (loads += 1) });
  expect(await cache.get('a', load)).toEqual({ loads: 1 });
  expect(await cache.get('a', load)).toEqual({ loads: 1 });
  expect(await cache.get('b', load)).toEqual({ loads: 2 });
  await cache.forget('a');
  expect(await cache.get('a', load)).toEqual({ loads: 3 });
  expect(cache.counters).toEqual({ hits: 1, misses: 3 });
});

test('an answer goes when its time is over', async () => {
  const cache = newCache({ ttlSeconds: 1 });
  await cache.get('a', () => Promise.resolve(1));
  await expect.poll(() => cache.get('a', () => Promise.resolve(2)), { timeout: 5_000 }).toBe(2);
});

test('who asks for the same at once waits for one load, and all see it fail', async () => {
  const cache = newCache();
  let loads = 0;
  const answers = Array.from({ length: 10 }, () => cache.get('a', async () => {
    loads += 1;
    await new Promise((resolve) => setTimeout(resolve, 50));
    return 'x';
  }));
  expect(new Set(await Promise.all(answers))).toEqual(new Set(['x']));
  expect(loads).toBe(1);
  await expect(cache.get('b', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await cache.get('b', () => Promise.resolve(1))).toBe(1);
});

test('without Redis, or with one that is away or holds rubbish, every answer is loaded', async () => {
  const away = connectRedis({ url: 'redis://127.0.0.1:1' });
  for (const none of [undefined, away]) {
    const cache = newCache({ redis: none });
    expect(await cache.get('a', () => Promise.resolve(1))).toBe(1);
    expect(await cache.get('a', () => Promise.resolve(2))).toBe(2);
    await cache.forget('a');
    expect(cache.counters).toEqual({ hits: 0, misses: 2 });
  }
  away.disconnect();
  const name = randomUUID();
  await redis.set(`cache:${name}:a`, '{');
  expect(await new Cache({ redis, name, ttlSeconds: 1 }).get('a', () => Promise.resolve(1))).toBe(1);
});
