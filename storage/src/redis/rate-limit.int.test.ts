import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TcpProxy, late } from '../../../test/faults/tcp-proxy.ts';
import { TestRedis, serversHere } from '../bus/testing/redis.ts';
import { eventually } from '../bus/testing/world.ts';
import { Cache } from './cache.ts';
import { connectRedis } from './connection.ts';
import { redisOverview } from './overview.ts';
import { isPending, markPending, pendingKey } from './pending.ts';
import { RateLimiter } from './rate-limit.ts';

const rule = { name: 'read', limit: 10, windowSeconds: 3600 };

describe.each(serversHere())('with $kind', ({ kind, program }) => {
  let server: TestRedis;
  let redis: Redis;
  const ready = async (url: string): Promise<Redis> => {
    const made = connectRedis({ url, maxBackoffMilliseconds: 100 });
    await once(made, 'ready');
    return made;
  };

  beforeAll(async () => {
    server = await TestRedis.start(program);
    redis = await ready(server.url);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.kill();
  });

  test('any number of processes share one limit, exactly', async () => {
    const key = randomUUID();
    const limiters = Array.from({ length: 4 }, () => new RateLimiter({ redis, ...rule }));
    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => limiters[n % 4]!.take(key)));
    expect(answers.filter(({ allowed }) => allowed)).toHaveLength(10);
    expect(answers.every(({ source }) => source === 'redis')).toBe(true);
    const refused = await limiters[0]!.take(key);
    expect(refused).toMatchObject({ allowed: false, limit: 10, remaining: 0 });
    // One every six minutes comes back; all of them within the hour.
    expect(refused.retryAfterSeconds).toBeGreaterThan(300);
    expect(refused.retryAfterSeconds).toBeLessThanOrEqual(360);
    expect(refused.resetSeconds).toBeGreaterThan(3500);
    expect(refused.resetSeconds).toBeLessThanOrEqual(3600);
  });

  test('remaining counts down to nothing, a cost counts as many, and time gives back', async () => {
    const key = randomUUID();
    const limiter = new RateLimiter({ redis, ...rule });
    expect([await limiter.take(key), await limiter.take(key, 4), await limiter.take(key, 5)].map(({ remaining }) => remaining)).toEqual([9, 5, 0]);
    expect((await limiter.take(key, 10)).allowed).toBe(false);
    await expect(limiter.take(key, 11)).rejects.toThrow(/never fits/);
    const quick = new RateLimiter({ redis, name: 'quick', limit: 1, windowSeconds: 1 });
    expect((await quick.take(key)).allowed).toBe(true);
    await eventually(async () => expect((await quick.take(key)).allowed).toBe(true));
  });

  test('who asks often costs few calls, shares the limit all the same, and is never given more than it', async () => {
    const key = randomUUID();
    const limiters = Array.from({ length: 2 }, () => new RateLimiter({ redis, name: 'often', limit: 1600, windowSeconds: 36_000 }));
    const calls = async (): Promise<number> => Number(/cmdstat_eval:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
    const before = await calls();
    const answers = await Promise.all(Array.from({ length: 16 }, async (_, client) => {
      const own = [];
      for (let n = 0; n < 110; n += 1) own.push(await limiters[client % 2]!.take(key));
      return own;
    }));
    const all = answers.flat();
    const allowed = all.filter((answer) => answer.allowed).length;
    expect(allowed).toBeLessThanOrEqual(1600);
    // What one has taken ahead the other may miss, and what a slow machine has not used in time is lost.
    expect(allowed).toBeGreaterThan(800);
    expect(await calls() - before).toBeLessThan(700);
    expect(all.every(({ source }) => source === 'redis')).toBe(true);
    expect(all.filter((answer) => !answer.allowed).every(({ retryAfterSeconds, remaining }) => retryAfterSeconds > 0 && remaining === 0)).toBe(true);
  });

  test('who asks seldom loses nothing to what is taken ahead', async () => {
    let now = 0;
    const [key, limiter] = [randomUUID(), new RateLimiter({ redis, name: 'seldom', limit: 1600, windowSeconds: 360_000, now: () => now })];
    for (let n = 1; n <= 50; n += 1, now += 2_000_000) expect(await limiter.take(key)).toMatchObject({ allowed: true, remaining: 1600 - n });
    const left = [];
    for (let n = 0; n < 20; n += 1) left.push((await limiter.take(key)).remaining);
    expect(left).toEqual(Array.from({ length: 20 }, (_, n) => 1549 - n));
  });

  test('keys expire, and hold no token', async () => {
    const token = `token-${randomUUID()}`;
    await new RateLimiter({ redis, name: 'expiry', limit: 2, windowSeconds: 60 }).take(token);
    const keys = await redis.keys('rate:expiry:*');
    expect(keys).toHaveLength(1);
    expect(keys[0]).not.toContain('token');
    const left = await redis.pttl(keys[0]!);
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(30_000);
    // Garbage under the key, or a clock that was set back, is no lock-out and no error.
    await redis.set(keys[0]!, 'garbage');
    expect(await new RateLimiter({ redis, name: 'expiry', limit: 2, windowSeconds: 60 }).take(token)).toMatchObject({ allowed: true, source: 'redis' });
    await redis.set(keys[0]!, '9e15');
    expect((await new RateLimiter({ redis, name: 'expiry', limit: 2, windowSeconds: 60 }).take(token)).retryAfterSeconds).toBeLessThanOrEqual(60);
  });

  test('flushed: the limit begins anew, nothing else', async () => {
    const [key, limiter] = [randomUUID(), new RateLimiter({ redis, ...rule })];
    for (let n = 0; n < 11; n += 1) await limiter.take(key);
    await redis.flushall();
    expect(await limiter.take(key)).toMatchObject({ allowed: true, remaining: 9, source: 'redis' });
  });

  test('away: this process decides, and remembers what it has seen; back: Redis decides again', async () => {
    const own = await TestRedis.start(program);
    const client = await ready(own.url);
    const [key, limiter] = [randomUUID(), new RateLimiter({ redis: client, ...rule })];
    for (let n = 0; n < 8; n += 1) expect((await limiter.take(key)).source).toBe('redis');
    await own.kill();
    const answers = [];
    for (let n = 0; n < 5; n += 1) answers.push(await limiter.take(key));
    expect(answers.map(({ allowed, source }) => `${source} ${allowed}`)).toEqual([
      'process true', 'process true', 'process false', 'process false', 'process false',
    ]);
    await own.start();
    await eventually(async () => expect((await limiter.take(randomUUID())).source).toBe('redis'));
    client.disconnect();
    await own.kill();
  });

  test('slow: a request waits a moment once, then Redis is left alone', async () => {
    let delay = 0;
    const proxy = new TcpProxy({ host: '127.0.0.1', port: server.port }, late(() => delay));
    await proxy.up();
    const client = await ready(proxy.through(server.url));
    const limiter = new RateLimiter({ redis: client, ...rule });
    expect((await limiter.take('a')).source).toBe('redis');
    delay = 1_000;
    const begun = performance.now();
    const sources = [];
    for (let n = 0; n < 100; n += 1) sources.push((await limiter.take(`client ${n}`)).source);
    expect(new Set(sources)).toEqual(new Set(['process']));
    // One patience, not a hundred of them.
    expect(performance.now() - begun).toBeLessThan(3_000);
    delay = 0;
    await eventually(async () => expect((await limiter.take(randomUUID())).source).toBe('redis'));
    client.disconnect();
    await proxy.down();
  });

  test('the overview tells keys and hit rates, and nothing when Redis is away', async () => {
    await redis.flushall();
    expect(await redisOverview(redis)).toMatchObject({ keys: 0, hitRate: null, server: kind });
    const cache = new Cache<number>({ redis, name: 'overview', ttlSeconds: 60 });
    const load = () => Promise.resolve(1);
    await cache.get('a', load);
    // Counted at once the first time, then once a second.
    await eventually(async () => {
      await cache.get('a', load);
      const seen = await redisOverview(redis);
      expect(seen?.hitRate).toBeGreaterThan(0.4);
      expect(seen?.keys).toBe(2);
    });
    expect((await redisOverview(redis))?.usedMemoryBytes).toBeGreaterThan(100_000);
    expect((await redisOverview(redis))?.version).toMatch(/^\d+\.\d+/);
    const away = connectRedis({ url: 'redis://127.0.0.1:1' });
    expect(await redisOverview(away)).toBeUndefined();
    expect(await redisOverview(undefined)).toBeUndefined();
    away.disconnect();
  });

  test('a pending mark has an expiry, stays as it is when it is there, and is only a hint', async () => {
    const uid = randomUUID();
    expect(await markPending(redis, uid)).toBe(true);
    expect(await isPending(redis, uid)).toBe(true);
    const before = await redis.ttl(pendingKey(uid));
    expect(before).toBeGreaterThan(86_000);
    await redis.expire(pendingKey(uid), 100);
    await markPending(redis, uid);
    expect(await redis.ttl(pendingKey(uid))).toBeLessThanOrEqual(100);
    await redis.flushall();
    expect(await isPending(redis, uid)).toBeUndefined();
    const away = connectRedis({ url: 'redis://127.0.0.1:1' });
    expect([await markPending(away, uid), await markPending(undefined, uid), await isPending(away, uid)]).toEqual([false, false, undefined]);
    away.disconnect();
  });
});

test('without Redis the process counts, for a bounded number of keys, those used last', async () => {
  let now = 0;
  const limiter = new RateLimiter({ redis: undefined, name: 'local', limit: 2, windowSeconds: 10, maxLocalKeys: 3, now: () => now });
  const left = async (key: string): Promise<number> => (await limiter.take(key)).remaining;
  expect([await left('a'), await left('a'), await left('a')]).toEqual([1, 0, 0]);
  expect(await limiter.take('a')).toMatchObject({ allowed: false, retryAfterSeconds: 5, resetSeconds: 10, source: 'process' });
  now += 5_000_000;
  expect((await limiter.take('a')).allowed).toBe(true);
  expect((await limiter.take('a')).allowed).toBe(false);
  for (const key of ['b', 'c', 'd']) await limiter.take(key);
  // Forgotten, because three others came after it.
  expect((await limiter.take('a')).remaining).toBe(1);
  expect((await limiter.take('d')).remaining).toBe(0);
  expect(() => new RateLimiter({ redis: undefined, name: 'x', limit: 0, windowSeconds: 1 })).toThrow(RangeError);
});
