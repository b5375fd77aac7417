import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import { connect as tlsConnect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Redis } from 'ioredis';
import { TcpProxy } from '../../test/faults/tcp-proxy.ts';
import { createRedis } from '../../test/integration/redis.ts';
import { Sandbox, freePort } from '../../test/integration/processes.ts';
import { makeCertificate, type ApiProcess } from './testing/process.ts';
import { World, newUid } from './testing/world.ts';

// Several processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

// How the process behaves around its routes: start, limits, TLS, loss of what it stands on, end.

let world: World;
let api: ApiProcess;
let writer: string;

beforeAll(async () => {
  world = await World.start();
  [api, writer] = await Promise.all([world.api(), world.cluster.person('writer', 'writer', world.cluster.evals)]);
});
afterAll(() => world?.stop());

test('until the schema is there it is alive, says 503 and when to come back, and then serves without a restart', async () => {
  await world.database.query('ALTER TABLE crucible.schema_migrations RENAME TO schema_migrations_away');
  try {
    const early = await world.launch();
    const get = async () => await early.call('/api/evaluations', { token: writer }).catch(() => undefined);
    await early.until('it to say what it waits for', async () => (await get())?.json?.detail?.includes('the database is not migrated yet') === true);
    expect((await early.call('/healthz')).status).toBe(200);
    const answer = await get();
    expect([answer?.status, answer?.headers['retry-after']]).toEqual([503, '2']);
    expect((await early.call('/api/evaluations')).status).toBe(503);
    await world.database.query('ALTER TABLE crucible.schema_migrations_away RENAME TO schema_migrations');
    await early.ready();
    expect((await get())?.status).toBe(200);
    expect(await early.stop()).toBe(0);
  } finally {
    await world.database.query('ALTER TABLE IF EXISTS crucible.schema_migrations_away RENAME TO schema_migrations');
  }
});

test('a limit that is used up is a 429 with the time to wait, told before in the headers, per caller and class', async () => {
  const limited = await world.api({ CRUCIBLE_RATE_READ: '3', CRUCIBLE_REDIS_URL: '' });
  const get = async (token = writer) => await limited.call('/api/session', { token });
  const first = await get();
  expect(first.headers['ratelimit-policy']).toBe('"client";q=1000000;w=60, "read";q=3;w=60');
  expect(first.headers['ratelimit']).toMatch(/^"client";r=9999\d\d;t=\d+, "read";r=2;t=\d+$/);
  const answers = [await get(), await get(), await get()];
  // A new minute may begin in between; then one more is needed.
  while (answers.at(-1)!.status === 200 && answers.length < 8) answers.push(await get());
  const refused = answers.at(-1)!;
  expect(refused.status).toBe(429);
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
  expect(refused.headers['ratelimit']).toContain('"read";r=0;t=');
  // Another token is no way around it.
  expect((await get(await world.cluster.token('writer'))).status).toBe(429);
  const other = await world.cluster.person(`other-${newUid().slice(0, 6)}`, 'reader', world.cluster.evals);
  expect((await get(other)).status).toBe(200);
  await limited.stop();
});

test('replicas count together through Redis, and a restart forgets nothing', async () => {
  const [one, two] = await Promise.all([world.api({ CRUCIBLE_RATE_DOWNLOAD: '5' }), world.api({ CRUCIBLE_RATE_DOWNLOAD: '5' })]);
  const path = `/api/evaluations/${newUid()}/output/stdout`;
  const statuses: number[] = [];
  while (!statuses.includes(429) && statuses.length < 20) for (const each of [one, two]) statuses.push((await each.call(path, { token: writer })).status);
  expect(statuses.indexOf(429)).toBeLessThanOrEqual(10);
  expect(statuses.filter((status) => status === 404).length).toBeGreaterThanOrEqual(5);
  await Promise.all([one.stop(), two.stop()]);
  // A successor, with another token of theirs, goes on counting where the others were: there is one count.
  const successor = await world.api({ CRUCIBLE_RATE_DOWNLOAD: '5' });
  await successor.call(path, { token: await world.cluster.token('writer') });
  const redis = new Redis(world.env['CRUCIBLE_REDIS_URL']!);
  expect(await redis.keys('rate:download:*')).toHaveLength(1);
  redis.disconnect();
  await successor.stop();
});

test('one caller has so many event streams at once, and is told so; others have theirs', async () => {
  const limited = await world.api({ CRUCIBLE_MAX_STREAMS_PER_CALLER: '2' });
  const other = await world.cluster.person(`streams-${newUid().slice(0, 6)}`, 'reader', world.cluster.evals);
  const open = async (token = writer) => await limited.open('/api/events', { token }, false);
  const streams = [await open(), await open()];
  const refused = await limited.call('/api/events', { token: await world.cluster.token('writer') });
  expect([refused.status, refused.headers['content-type'], refused.headers['retry-after']]).toEqual([429, 'application/problem+json', '10']);
  expect(refused.json.detail).toContain('2 event streams of yours are open');
  const theirs = await open(other);
  expect([...streams, theirs].map(({ statusCode }) => statusCode)).toEqual([200, 200, 200]);
  streams[0]!.destroy();
  await limited.until('a place to be free', async () => {
    const again = await open();
    again.destroy();
    return again.statusCode === 200;
  });
  for (const stream of [streams[1]!, theirs]) stream.destroy();
  await limited.stop();
});

test('a renewed certificate is served to new connections; one that is open goes on', async () => {
  const folder = join(world.folder, 'renewed');
  mkdirSync(folder);
  const renewed = makeCertificate(folder);
  const peer = async (): Promise<string> => {
    const socket: TLSSocket = tlsConnect({ host: '127.0.0.1', port: api.port, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const { fingerprint256 } = socket.getPeerCertificate();
    socket.destroy();
    return fingerprint256;
  };
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: api.ca });
  const stream = await api.open('/api/events', { token: writer }, false);
  let cut = false;
  stream.once('close', () => (cut = true)).resume();
  (await api.open('/healthz', {}, agent)).resume();
  const before = await peer();
  // First half of a renewal: the key does not fit yet, and the old pair is served on.
  copyFileSync(renewed.cert, world.tls.cert);
  await api.until('the reload to be refused', () => api.log.includes('the certificate was not renewed'));
  expect(await peer()).toBe(before);
  copyFileSync(renewed.key, world.tls.key);
  await api.until('the new one', async () => (await peer()) !== before);
  expect(await peer()).toBe(new X509Certificate(readFileSync(renewed.cert)).fingerprint256);
  const again = await api.open('/healthz', {}, agent);
  again.resume();
  expect([again.statusCode, cut]).toEqual([200, false]);
  stream.destroy();
  agent.destroy();
});

test('plain HTTP is not spoken on the HTTPS port', async () => {
  await expect(fetch(`http://127.0.0.1:${api.port}/healthz`)).rejects.toThrow();
});

describe('without what it stands on', () => {
  test('Redis lost: everything is answered; Redis alone: what has not finished is still 202, to those who may know', async () => {
    const sandbox = new Sandbox();
    const redis = await createRedis(sandbox);
    if (redis === undefined) throw new Error('no Redis on this machine');
    const dsn = new URL(world.dsns.api);
    const postgres = new TcpProxy({ host: dsn.hostname, port: Number(dsn.port) });
    const stranger = await world.cluster.person('stranger', 'writer', world.cluster.other);
    try {
      await Promise.all([redis.start(), postgres.up()]);
      const cut = await world.api({ CRUCIBLE_REDIS_URL: redis.url, CRUCIBLE_DATABASE_URL: postgres.through(world.dsns.api) });
      const { uid } = await world.record.running();
      const status = async (token = writer) => (await cut.call(`/api/eval-status/${uid}`, { token })).status;
      await world.relayTo(redis.url, uid);
      expect(await status()).toBe(202);
      await postgres.down();
      expect(await status()).toBe(202);
      expect(await status(stranger)).toBe(404);
      const list = await cut.call('/api/evaluations', { token: writer });
      expect([list.status, list.headers['retry-after']]).toEqual([503, '2']);
      const body = { metadata: { namespace: world.cluster.evals, name: 'not-now' }, spec: { runtime: world.cluster.runtime, code: 'x' } };
      expect((await cut.call('/api/evaluations', { method: 'POST', token: writer, body })).status).toBe(503);
      expect((await world.cluster.admin.get(`/apis/crucible.dev/v1alpha1/namespaces/${world.cluster.evals}/evaluations/not-now`)).status).toBe(404);
      await postgres.up();
      await cut.until('Postgres to be back', async () => (await cut.call('/api/evaluations', { token: writer })).status === 200);
      await redis.kill();
      expect(await status()).toBe(202);
      expect((await cut.call('/api/storage/overview', { token: writer })).json.backends.redis).toBeNull();
      expect((await cut.call('/api/storage/redis', { token: writer })).status).toBe(503);
      await cut.stop();
    } finally {
      await postgres.down();
      await sandbox.stop();
    }
  });
});

test('on SIGTERM streams end, a download under way comes whole, and the process ends with 0', async () => {
  const stdout = Buffer.alloc(900_000, 'x');
  const { uid } = await world.record.finished({ stdout });
  const leaving = await world.api();
  const stream = await leaving.open('/api/events', { token: writer }, false);
  const download = await leaving.open(`/api/evaluations/${uid}/output/stdout`, { token: writer }, false);
  const ended = once(stream.resume(), 'end');
  const stopped = leaving.stop();
  await ended;
  const chunks: Buffer[] = [];
  for await (const chunk of download) chunks.push(chunk as Buffer);
  expect(createHash('sha256').update(Buffer.concat(chunks)).digest('hex')).toBe(createHash('sha256').update(stdout).digest('hex'));
  expect(await stopped).toBe(0);
});

test('metrics are on a port of their own, and count without names', async () => {
  const port = await freePort();
  const measured = await world.api({ METRICS_PORT: String(port) });
  await measured.call('/api/evaluations', { token: writer });
  await measured.call('/api/evaluations');
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  expect(text).toMatch(/crucible_api_request_duration_seconds_count\{method="GET",route="\/api\/evaluations",status="200"\} 1/);
  expect(text).toMatch(/crucible_api_refused_total\{reason="unauthenticated"\} 1/);
  expect(text).toMatch(/crucible_api_certificate_expiry_timestamp_seconds \d{10}/);
  expect((await measured.call('/metrics')).status).toBe(404);
  await measured.stop();
});
