import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Sandbox } from '../integration/processes.ts';
import { createRedis } from '../integration/redis.ts';
import type { RestartableRedis } from '../integration/redis.ts';
import { RedisProxy } from './redis-proxy.ts';

const sandbox = new Sandbox();
let server: RestartableRedis;
let direct: Redis;
let proxy: RedisProxy;
let client: Redis;
const open = (url: string): Redis => {
  const redis = new Redis(url, { retryStrategy: () => null, maxRetriesPerRequest: 0, protocol: 2, disableClientInfo: true });
  redis.on('error', () => undefined);
  return redis;
};
const ADD = "redis.call('XADD', KEYS[1], ARGV[1], 'event', ARGV[2])";

beforeAll(async () => {
  const made = await createRedis(sandbox);
  if (made === undefined) throw new Error('apt-get install redis-server (or valkey-server)');
  server = made;
  direct = open(await server.start());
});
afterAll(async () => {
  direct.disconnect();
  await sandbox.stop();
});
beforeEach(async () => {
  await direct.flushall();
  const { hostname, port } = new URL(server.url);
  proxy = new RedisProxy({ host: hostname, port: Number(port) });
  await proxy.up();
  client = open(proxy.through(server.url));
});
afterEach(async () => {
  client.disconnect();
  await proxy.down();
});

const add = (position: number) => client.eval(ADD, 1, 'stream', `${position}-0`, 'x'.repeat(5000));

it('counts what publishes, alone or in a pipeline, and nothing else', async () => {
  await add(1);
  await client.set('a', '*3\r\n$7\r\npublish\r\n');
  await client.pipeline().publish('channel', '').get('a').publish('channel', '').exec();
  expect(proxy.points.map(({ number, kind }) => `${number} ${kind}`)).toEqual(['1 events', '2 output', '3 output']);
  expect(await client.xlen('stream')).toBe(1);
});

it('before: the command never gets there', async () => {
  let acted = false;
  proxy.rule = () => ({ when: 'before', act: () => void (acted = true) });
  await expect(add(1)).rejects.toThrow();
  expect([await direct.xlen('stream'), acted]).toEqual([0, true]);
});

it('after: it is done, and who sent it never knows', async () => {
  proxy.rule = () => ({ when: 'after' });
  await expect(add(1)).rejects.toThrow();
  await expect.poll(() => direct.xlen('stream')).toBe(1);
});

it('slow: everything arrives, later', async () => {
  await client.ping();
  proxy.delayMs = 150;
  const begun = performance.now();
  expect(await client.ping()).toBe('PONG');
  expect(performance.now() - begun).toBeGreaterThanOrEqual(295);
});
