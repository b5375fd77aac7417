import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { PositionRepository } from './bus/positions.ts';
import { UnavailableError } from './errors.ts';
import { EventRepository } from './events.ts';
import { connectRoles, makeRun } from './queries/testing.ts';
import { expire, maintainEventPartitions } from './retention.ts';
import { prepareDatabase } from './testing.ts';

let database: TestDatabase;
let roles: ReturnType<typeof connectRoles>;

beforeAll(async () => {
  database = await createDatabase('partitions');
  roles = connectRoles(await prepareDatabase(database.dsn));
});
afterAll(async () => {
  await roles?.close();
  await database?.drop();
});

async function partitions(): Promise<string[]> {
  const { rows } = await roles.owner.query<{ name: string }>(
    `SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'crucible.events'::regclass ORDER BY 1`,
  );
  return rows.map(({ name }) => name.replace('crucible.', ''));
}

const month = (offset: number) => {
  const now = new Date();
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + offset, 1));
};
const nameOf = (date: Date) => `events_${date.toISOString().slice(0, 7).replace('-', '_')}`;
const partitionOf = async (uid: string) =>
  (await roles.owner.query<{ name: string }>('SELECT DISTINCT tableoid::regclass::text AS name FROM crucible.events WHERE evaluation_uid = $1', [uid])).rows;
const makePartition = (date: Date) => roles.owner.query('SELECT crucible.make_event_partition($1::date)', [date.toISOString().slice(0, 10)]);

test('made ahead once, however many ask at once', async () => {
  expect(await partitions()).toEqual(['events_default', ...[0, 1, 2, 3].map((n) => nameOf(month(n)))].sort());
  await roles.owner.query(`DROP TABLE crucible.${nameOf(month(3))}`);
  const results = await Promise.all(Array.from({ length: 4 }, () => maintainEventPartitions(roles.recorder)));
  expect(results.reduce((sum, { made }) => sum + made, 0)).toBe(1);
  expect(await partitions()).toContain(nameOf(month(3)));
});

test('a run and its events are in the partition of its month, or in the default one', async () => {
  const { uid } = await makeRun(roles, { createdAt: month(0) });
  const old = await makeRun(roles, { createdAt: month(-30), stdout: Buffer.from('x\n'), verdict: { class: 'Succeeded' } });
  expect(await partitionOf(uid)).toEqual([{ name: `crucible.${nameOf(month(0))}` }]);
  expect(await partitionOf(old.uid)).toEqual([{ name: 'crucible.events_default' }]);
  const seqs = (await new EventRepository(roles.operator).list(old.uid)).map(({ seq }) => seq);
  expect(seqs).toEqual(seqs.map((_, index) => index + 1));
  // There are events of that month in the default partition, so they stay there.
  expect((await makePartition(month(-30))).rows).toEqual([{ make_event_partition: false }]);
});

test('a number is given once for a run, and a position once for all, also by hands that may do more', async () => {
  const { uid } = await makeRun(roles, { createdAt: month(0) });
  const insert = (created: Date) =>
    roles.owner.query(
      `INSERT INTO crucible.events (evaluation_uid, evaluation_created_at, seq, type, at) VALUES ($1, $2, 1, 'a.b', now())`, [uid, created],
    );
  await expect(insert(month(0))).rejects.toThrow(/duplicate key/);
  // In another partition nothing would be doubled: the foreign key allows the run one time of creation.
  for (const other of [month(1), month(-30)]) await expect(insert(other)).rejects.toThrow(/foreign key/);
  const positions = new PositionRepository(roles.recorder);
  while ((await positions.assign()).assigned > 0);
  const { uid: next } = await makeRun(roles, { createdAt: month(1) });
  const last = await positions.last();
  await expect(roles.owner.query('UPDATE crucible.events SET position = $2 WHERE evaluation_uid = $1', [next, last])).rejects.toThrow(/never given twice/);
  expect(await positions.assign()).toEqual({ assigned: 1, last: last + 1 });
  const { rows } = await roles.owner.query('SELECT count(*) AS all, count(DISTINCT position) AS given FROM crucible.events');
  expect(rows[0]).toEqual({ all: last + 1, given: last + 1 });
});

test('a past month that retention has emptied is dropped, one that holds a run is not', async () => {
  const [emptied, kept] = [month(-20), month(-21)];
  for (const date of [emptied, kept]) await makePartition(date);
  const ended = { stdout: Buffer.from('x\n'), verdict: { class: 'Succeeded' } };
  const gone = await makeRun(roles, { ...ended, createdAt: emptied });
  const stays = await makeRun(roles, { ...ended, createdAt: kept });
  expect(await maintainEventPartitions(roles.recorder)).toEqual({ made: 0, dropped: 0 });
  await roles.owner.query('ALTER TABLE crucible.evaluations DISABLE TRIGGER guard');
  await roles.owner.query(`UPDATE crucible.evaluations SET finished_at = now() - interval '9 days' WHERE uid = $1`, [gone.uid]);
  await roles.owner.query('ALTER TABLE crucible.evaluations ENABLE TRIGGER guard');
  expect(await expire(roles.recorder, { class: 'records', days: 7, maxRuns: 10 })).toBe(1);
  expect(await maintainEventPartitions(roles.recorder)).toEqual({ made: 0, dropped: 1 });
  expect(await partitions()).not.toContain(nameOf(emptied));
  expect(await partitions()).toContain(nameOf(kept));
  expect((await new EventRepository(roles.operator).list(stays.uid)).length).toBeGreaterThan(3);
  // What comes for that month all the same finds a place.
  expect(await partitionOf((await makeRun(roles, { createdAt: emptied })).uid)).toEqual([{ name: 'crucible.events_default' }]);
});

test('no partition is emptied by hand', async () => {
  for (const name of await partitions()) {
    await expect(roles.owner.query(`TRUNCATE crucible.${name}`)).rejects.toThrow(/deleted by retention only/);
    await expect(roles.recorder.query(`SELECT * FROM crucible.${name}`)).rejects.toThrow(/permission denied/);
  }
  await expect(roles.owner.query(`DELETE FROM crucible.events WHERE evaluation_uid = $1`, [randomUUID()])).resolves.toMatchObject({ rowCount: 0 });
});

test('who reads for long is not disturbed: the partition goes next time', async () => {
  await makePartition(month(-10));
  await roles.owner.transaction(async (reader) => {
    await reader.query('SELECT count(*) FROM crucible.events');
    await expect(maintainEventPartitions(roles.recorder)).rejects.toThrow(UnavailableError);
  });
  expect(await maintainEventPartitions(roles.recorder)).toEqual({ made: 0, dropped: 1 });
});
