import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { connect } from './database.ts';
import type { Database } from './database.ts';
import { DrillRepository } from './drills.ts';
import { listDrills } from './queries/drills.ts';
import type { DrillFilter } from './queries/drills.ts';
import type { DrillOutcome, NewDrill } from './drills.ts';
import { prepareDatabase } from './testing.ts';

let database: TestDatabase;
const users = {} as Record<'owner' | 'operator' | 'api', Database>;
let operator: DrillRepository;
let api: DrillRepository;

beforeAll(async () => {
  database = await createDatabase('drills');
  const dsns = await prepareDatabase(database.dsn);
  for (const user of ['owner', 'operator', 'api'] as const) users[user] = connect(dsns[user]);
  operator = new DrillRepository(users.operator);
  api = new DrillRepository(users.api);
});
afterAll(async () => {
  await Promise.all(Object.values(users).map((db) => db.close()));
  await database?.drop();
});

const drill = (minutesAgo: number, changes: Partial<NewDrill> = {}): NewDrill => {
  const finishedAt = new Date(Date.now() - minutesAgo * 60_000);
  return {
    id: randomUUID(), kind: 'quick', runtimeClass: null, trigger: 'start', outcome: 'held', held: 1, broken: 0, open: 0,
    startedAt: new Date(finishedAt.getTime() - 10_000), finishedAt, epoch: 1,
    findings: [{ attack: 'identity', rule: 1, outcome: 'held', evidence: 'uid: 100000' }],
    ...changes,
  };
};

test('the operator adds, the API reads: newest first, by pages, with findings', async () => {
  const drills = [drill(3), drill(2, { runtimeClass: 'gvisor' }), drill(1, { outcome: 'broken', held: 0, broken: 1 })];
  for (const one of drills) await operator.record(one);
  await operator.record(drills[0]!);
  const newest = drills.map(({ id }) => id).reverse();
  const list = async (filter: DrillFilter = {}) => (await listDrills(users.api, filter)).items.map(({ id }) => id);
  expect(await list()).toEqual(newest);
  const first = await listDrills(users.api, { limit: 1 });
  expect(await list({ cursor: first.nextCursor! })).toEqual(newest.slice(1));
  expect((await listDrills(users.api, { limit: 3 })).nextCursor).toBeUndefined();
  expect(await list({ runtimeClass: 'gvisor' })).toEqual([drills[1]!.id]);
  expect(await list({ runtimeClass: '', outcome: 'broken' })).toEqual([drills[2]!.id]);
  expect(await list({ kind: 'full' })).toEqual([]);
  expect(await api.get(drills[1]!.id)).toMatchObject({ runtimeClass: 'gvisor', trigger: 'start', findings: drills[1]!.findings });
  expect(await api.get(randomUUID())).toBeUndefined();
  expect((await api.latest()).map(({ id, runtimeClass }) => [runtimeClass, id])).toEqual([[null, newest[0]], ['gvisor', drills[1]!.id]]);
});

test('what a sandbox printed is stored, whatever it is', async () => {
  const evidence = 'nul \0, half a pair \ud800, \x1b[2J';
  const one = drill(0, { findings: [{ attack: 'identity', rule: 1, outcome: 'open', evidence }] });
  await operator.record(one);
  expect((await api.get(one.id))?.findings[0]?.evidence).toBe('nul \\u0000, half a pair \\ud800, \x1b[2J');
});

test('a drill that contradicts itself is refused whole', async () => {
  const one = drill(0, { outcome: 'held', broken: 1 });
  await expect(operator.record(one)).rejects.toThrow();
  const bad = drill(0, { findings: [{ attack: 'a', rule: 0, outcome: 'held', evidence: '' }] });
  await expect(operator.record(bad)).rejects.toThrow();
  expect(await api.get(bad.id)).toBeUndefined();
});

test('what was found broken is told until the same attack is shown to hold, of each class by itself, however long ago', async () => {
  const days = 24 * 60;
  const of = (daysAgo: number, runtimeClass: string | null, ...outcomes: [string, DrillOutcome][]) =>
    drill(daysAgo * days, { runtimeClass, findings: outcomes.map(([attack, outcome]) => ({ attack, rule: 22, outcome, evidence: `${daysAgo}` })) });
  const breach = of(150, 'kata', ['forks', 'broken'], ['disk', 'broken']);
  for (const one of [
    breach, of(149, 'kata', ['forks', 'open'], ['disk', 'held']), of(148, 'other', ['forks', 'held']), of(1, 'kata', ['identity', 'held']),
  ]) await operator.record(one);
  const told = [{ attack: 'forks', rule: 22, outcome: 'broken', evidence: '150' }];
  expect(await operator.broken('kata')).toEqual(told);
  expect(await operator.broken('other')).toEqual([]);
  expect(await operator.broken(null)).toEqual([]);
  await operator.expire();
  expect(await operator.broken('kata')).toEqual(told);
  await operator.record(of(0, 'kata', ['forks', 'held']));
  expect(await operator.broken('kata')).toEqual([]);
  await operator.expire();
  expect(await api.get(breach.id)).toBeUndefined();
});

test('what is older than 90 days goes, except the newest of each class', async () => {
  const days = 24 * 60;
  const old = [drill(200 * days, { runtimeClass: 'old' }), drill(100 * days, { runtimeClass: 'old' }), drill(95 * days)];
  for (const one of old) await operator.record(one);
  expect(await operator.expire()).toBe(2);
  expect(await Promise.all(old.map(async ({ id }) => (await api.get(id)) !== undefined))).toEqual([false, true, false]);
});
