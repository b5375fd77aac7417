import { connect, connectRedis, EVENT_STREAM, EvaluationRepository, type Database } from '@crucible/storage';
import { buildEvaluation, prepareDatabase, type RoleDsns } from '@crucible/storage/testing';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../test/integration/database.ts';
import { testServer } from '../../../test/integration/environment.ts';
import { startRelay } from './relay.ts';

let database: TestDatabase;
let dsns: RoleDsns;
let owner: Database;
// Of the servers' 64 databases one that no other test uses.
const redisUrl = `${testServer('CRUCIBLE_TEST_REDIS')}/41`;

beforeAll(async () => {
  database = await createDatabase('relay');
  dsns = await prepareDatabase(database.dsn);
  owner = connect(dsns.owner);
});

afterAll(async () => {
  await owner.close();
  await database.drop();
});

const relay = (registry: Registry, url: string | undefined, lines: string[] = []) => {
  const logger = pino({ level: 'info', base: {} }, { write: (line: string) => void lines.push(line) });
  return startRelay({ config: { databaseUrl: dsns.recorder, redisUrl: url, id: 'test' }, registry, logger });
};
const accept = () => new EvaluationRepository(owner).upsertAccepted(buildEvaluation({ uid: crypto.randomUUID() }));

async function value(registry: Registry, name: string): Promise<number | undefined> {
  return (await registry.getSingleMetric(name)?.get())?.values[0]?.value;
}

it('has every series from the start, and they say what happens', async () => {
  const registry = new Registry();
  const redis = connectRedis({ url: redisUrl });
  await expect.poll(() => redis.status).toBe('ready');
  await redis.flushdb();
  const running = relay(registry, redisUrl);
  for (const name of ['relay_active', 'relay_lag', 'published_total', 'dead_letters', 'stream_rewrites_total']) {
    expect(await value(registry, `crucible_events_${name}`)).toBe(0);
  }
  expect(await value(registry, 'crucible_redis_up')).toBe(0);
  await accept();
  await expect.poll(() => value(registry, 'crucible_events_published_total')).toBe(1);
  expect(await redis.xlen(EVENT_STREAM)).toBe(1);
  await expect.poll(() => value(registry, 'crucible_redis_up')).toBe(1);
  await expect.poll(() => value(registry, 'crucible_events_relay_lag')).toBe(0);
  await running.stop();
  expect(await value(registry, 'crucible_events_relay_active')).toBe(0);
  redis.disconnect();
});

it('starts, numbers, warns once and stops without a Redis that answers; the log has no password', async () => {
  const registry = new Registry();
  const lines: string[] = [];
  const running = relay(registry, 'redis://:s3cret@127.0.0.1:1', lines);
  await accept();
  const waiting = async () => (await owner.query('SELECT FROM crucible.events WHERE position IS NULL')).rowCount;
  await expect.poll(waiting).toBe(0);
  await expect.poll(() => value(registry, 'crucible_events_relay_lag')).toBeGreaterThan(0);
  expect(await value(registry, 'crucible_redis_up')).toBe(0);
  const begun = performance.now();
  await running.stop();
  // Not the time-outs of connections, 3 s and 5 s, one after another.
  expect(performance.now() - begun).toBeLessThan(5_000);
  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ store: 'redis', reason: 'unreachable', msg: 'events wait in Postgres' });
  expect(lines[0]).not.toContain('s3cret');
});
