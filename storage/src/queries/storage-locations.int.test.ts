import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../../test/integration/database.ts';
import type { TestDatabase } from '../../../test/integration/database.ts';
import { testServer } from '../../../test/integration/environment.ts';
import { PositionRepository } from '../bus/positions.ts';
import { EVENT_STREAM, EventStream, eventText } from '../bus/stream.ts';
import { DirectoryFileStore } from '../directory-files.ts';
import { CACHE_STATISTICS_KEY } from '../redis/cache.ts';
import { connectRedis } from '../redis/connection.ts';
import { markPending } from '../redis/pending.ts';
import { expire, sweepFiles } from '../retention.ts';
import { prepareDatabase } from '../testing.ts';
import { listRedisItems, listStorageLocations, readOutputRange, readStorageTotals } from './index.ts';
import type { StorageLocation } from './index.ts';
import { connectRoles, makeRun } from './testing.ts';

let database: TestDatabase;
let roles: ReturnType<typeof connectRoles>;
let directory: string;
let files: DirectoryFileStore;
let redis: Redis;

beforeAll(async () => {
  database = await createDatabase('locations');
  roles = connectRoles(await prepareDatabase(database.dsn));
  directory = await mkdtemp(join(tmpdir(), 'crucible-locations-'));
  files = new DirectoryFileStore({ directory });
  // A database of this server that no other test file uses: the stream's key is fixed.
  const url = new URL(testServer('CRUCIBLE_TEST_REDIS'));
  url.pathname = '/11';
  redis = connectRedis({ url: url.href });
  await once(redis, 'ready');
  await redis.flushdb();
});
afterAll(async () => {
  await redis?.flushdb();
  redis?.disconnect();
  await roles?.close();
  await database?.drop();
  await rm(directory, { recursive: true, force: true });
});

const list = (uid: string) => listStorageLocations(roles.api, { files, redis }, uid, 'all');

/** As whoever looks for it would; answers how many bytes there are. */
async function open(uid: string, { backend, holds, location, attempt, items }: StorageLocation): Promise<number> {
  if (backend === 'file') return (await files.read(location)).length;
  if (holds === 'pending') return (await redis.getBuffer(location))!.length;
  if (holds === 'eventStream') {
    const texts = (await redis.xrange(location, '-', '+')).map(([, fields]) => eventText(fields)).filter((text) => text.includes(`"subject":"${uid}"`));
    expect(texts).toHaveLength(items);
    return texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  }
  if (holds === 'stdout' || holds === 'stderr') return (await readOutputRange(roles.api, { uid, attempt: attempt! }, holds, 'all'))!.data.length;
  const key = location === 'crucible.evaluations' || location === 'crucible.submissions' ? 'uid' : 'evaluation_uid';
  const { rowCount } = await roles.api.query(`SELECT FROM ${location} WHERE ${key} = $1 AND ($2::integer IS NULL OR to_jsonb(${location.split('.')[1]}) ->> 'attempt' = $2::text)`, [uid, attempt]);
  expect(rowCount).toBe(items);
  return -1;
}

async function openAll(uid: string): Promise<StorageLocation[]> {
  const locations = await list(uid);
  for (const location of locations) {
    const bytes = await open(uid, location);
    if (bytes !== -1) expect(bytes, JSON.stringify(location)).toBe(location.bytes);
  }
  return locations;
}

const names = (locations: readonly StorageLocation[]) => locations.map(({ backend, holds }) => `${backend} ${holds}`).sort();

async function publish(): Promise<void> {
  const positions = new PositionRepository(roles.recorder);
  const before = await positions.last();
  await positions.assign();
  await new EventStream(redis).publish(before, await positions.after(before));
}

test('each location can be opened and holds what it says; what is deleted, trimmed or forgotten is not named', async () => {
  const shared = Buffer.from('both have it');
  const { uid } = await makeRun(roles, { stdout: Buffer.from('hello\n') });
  await publish();
  expect(names(await openAll(uid))).toEqual([
    'database attempts', 'database events', 'database ledger', 'database record', 'database stdout', 'redis eventStream', 'redis pending',
  ]);
  const artifacts = { 'out/a': Buffer.from('own'), 'out/b': shared };
  const done = await makeRun(roles, { stdout: Buffer.from('hello\n'), artifacts, files, verdict: { class: 'Succeeded' } });
  const other = await makeRun(roles, { stdout: Buffer.from('x\n'), artifacts: { c: shared }, files, verdict: { class: 'Succeeded' } });
  await publish();
  const all = await openAll(done.uid);
  // Finished, so nothing is pending any more.
  expect(names(all)).toEqual([
    'database artifactNames', 'database attempts', 'database events', 'database ledger', 'database record', 'database stdout',
    'file artifact', 'file artifact', 'redis eventStream',
  ]);
  expect(all.filter(({ backend }) => backend === 'file').map(({ path, bytes }) => [path, bytes])).toEqual([['out/a', 3], ['out/b', 12]]);

  await redis.del(EVENT_STREAM);
  expect(names(await openAll(done.uid))).not.toContain('redis eventStream');
  // A file that was cut, and one that somebody took away by hand.
  const cut = all.find(({ path }) => path === 'out/b')!.location;
  await truncate(join(directory, cut.slice(0, 2), cut.slice(2)), 5);
  expect((await list(done.uid)).filter(({ backend }) => backend === 'file').map(({ path }) => path)).toEqual(['out/a']);
  await files.put(shared);
  await files.delete(all.find(({ path }) => path === 'out/a')!.location);
  expect((await openAll(done.uid)).filter(({ backend }) => backend === 'file').map(({ path }) => path)).toEqual(['out/b']);

  await roles.owner.query('ALTER TABLE crucible.evaluations DISABLE TRIGGER guard');
  await roles.owner.query(`UPDATE crucible.evaluations SET finished_at = now() - interval '9 days' WHERE uid = $1`, [done.uid]);
  await roles.owner.query('ALTER TABLE crucible.evaluations ENABLE TRIGGER guard');
  for (const kind of ['output', 'artifacts'] as const) expect(await expire(roles.recorder, { class: kind, days: 7, maxRuns: 10 })).toBe(1);
  await sweepFiles(roles.recorder, files, { graceSeconds: 0, now: () => Date.now() + 60_000 });
  expect(names(await openAll(done.uid))).toEqual([
    'database artifactNames', 'database attempts', 'database events', 'database ledger', 'database record',
  ]);
  // Another run still has the content that both named.
  expect((await openAll(other.uid)).filter(({ backend }) => backend === 'file')).toHaveLength(1);
  await expire(roles.recorder, { class: 'records', days: 7, maxRuns: 10 });
  expect(await list(done.uid)).toEqual([]);
});

test('a backend that is away is not named, and the others are', async () => {
  const { uid } = await makeRun(roles, { stdout: Buffer.from('hello\n') });
  const away = connectRedis({ url: 'redis://127.0.0.1:1' });
  const locations = await listStorageLocations(roles.api, { redis: away, files: { stat: () => Promise.reject(new Error('away')) } }, uid, 'all');
  away.disconnect();
  expect(new Set(locations.map(({ backend }) => backend))).toEqual(new Set(['database']));
});

test('keys of unfinished runs by page and counted, of the scope alone; the hit rate is of all processes', async () => {
  const own = { namespaceUid: randomUUID(), namespace: 'keys' };
  const at = (second: number) => ({ createdAt: new Date(Date.UTC(2026, 0, 1, 0, 0, second)) });
  const uids: string[] = [];
  for (let n = 0; n < 5; n += 1) uids.unshift((await makeRun(roles, { ...own, ...at(n), ...(n % 2 === 0 && { stdout: Buffer.alloc(1) }) })).uid);
  await makeRun(roles, { ...own, stdout: Buffer.from('x\n'), verdict: { class: 'Succeeded' } });
  const other = await makeRun(roles, { namespaceUid: randomUUID(), namespace: 'others' });
  for (const uid of [...uids.filter((_, index) => index !== 1), other.uid]) expect(await markPending(redis, uid)).toBe(true);
  const scope = [own.namespaceUid];

  const pages: string[][] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await listRedisItems(roles.api, redis, scope, { limit: 2, ...(cursor && { cursor }) });
    pages.push(page!.items.map(({ uid }) => uid));
    for (const { key, expiresInSeconds } of page!.items) expect(await redis.ttl(key)).toBeGreaterThan(expiresInSeconds! - 60);
    cursor = page!.nextCursor;
    if (cursor === undefined) break;
  }
  expect(pages).toEqual([[uids[0]], [uids[2], uids[3]], [uids[4]]]);
  expect((await listRedisItems(roles.api, redis, 'all', { limit: 200 }))!.items.map(({ uid }) => uid)).toEqual(expect.arrayContaining([uids[0], other.uid]));
  await expect(listRedisItems(roles.api, redis, scope, { cursor: 'x' })).rejects.toThrow(RangeError);

  await redis.hset(CACHE_STATISTICS_KEY, { hits: 3, misses: 1 });
  expect((await readStorageTotals(roles.api, redis, scope)).redis).toEqual({ keys: 4, hitRate: 0.75 });
  expect((await readStorageTotals(roles.api, redis, [])).redis).toEqual({ keys: 0, hitRate: 0.75 });
  expect((await readStorageTotals(roles.api, redis, 'all')).redis).toEqual({ keys: await redis.dbsize(), hitRate: 0.75 });
  expect((await readStorageTotals(roles.api, undefined, scope)).redis).toBeNull();
});
