import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { ConflictError, FencedError, NotFoundError } from './errors.ts';
import { listSuiteEvents, listSuiteRuns, listSuites, readSuite } from './queries/index.ts';
import { connectRoles } from './queries/testing.ts';
import type { Roles } from './queries/testing.ts';
import { expire } from './retention.ts';
import { SuiteRepository } from './suites.ts';
import type { AcceptedSuite, RunResult } from './suites.ts';
import { prepareDatabase } from './testing.ts';

// Everything here runs as the operator's and the API's own roles, so that a missing grant fails it.

let database: TestDatabase;
let roles: Roles & { close(): Promise<void> };
let suites: SuiteRepository;
const NAMESPACE_UID = randomUUID();

beforeAll(async () => {
  database = await createDatabase('suites');
  roles = connectRoles(await prepareDatabase(database.dsn));
  suites = new SuiteRepository(roles.operator);
});
afterAll(async () => {
  await roles?.close();
  await database?.drop();
});

async function accepted(changes: Partial<AcceptedSuite> = {}): Promise<string> {
  const input: AcceptedSuite = {
    uid: randomUUID(), namespace: 'evals', namespaceUid: NAMESPACE_UID, name: 'sums', generation: 1, spec: { samples: 2 }, labels: { team: 'a' },
    phase: 'Pending', cells: [{ A: '1\ud800' }, { A: '2' }], samples: 2, createdAt: new Date('2026-01-02T03:04:05Z'), epoch: 1, ...changes,
  };
  for (const created of [true, false]) expect(await suites.upsertAccepted(input)).toEqual({ created });
  return input.uid;
}

const run = (uid: string, sample = 1) => ({ uid, epoch: 1, cell: 1, sample, evaluationUid: randomUUID(), evaluationName: `sums-1-${sample}` });
const passed: RunResult = { cell: 1, sample: 1, outcome: 'Passed', verdictClass: 'Succeeded', attempts: 2, finishedAt: new Date(5000) };
const progress = { epoch: 1, phase: 'Running', summary: { passed: 1 }, cells: [{ cell: 1, summary: { passed: 1 } }], results: [passed] };
const end = { reason: 'Succeeded', message: 'All\0 runs passed.', finishedAt: new Date(6000) };

test('a suite from admission to its end, each step twice, is read by the API as it was written', async () => {
  const uid = await accepted();
  const first = run(uid);
  for (let i = 0; i < 2; i += 1) await suites.addRun(first);
  await expect(suites.addRun({ ...first, evaluationUid: randomUUID() })).rejects.toThrow(ConflictError);
  for (let i = 0; i < 2; i += 1) expect(await suites.save({ uid, ...progress })).toBe('saved');
  expect(await suites.save({ uid, ...progress, results: [{ ...passed, outcome: 'Failed' }] })).toBe('saved');
  expect(await suites.runs(uid)).toMatchObject([{ cell: 1, sample: 1, outcome: 'Passed', attempts: 2, evaluation: null }]);
  expect(await suites.save({ uid, ...progress, phase: 'Succeeded', end })).toBe('saved');
  expect(await suites.save({ uid, ...progress, phase: 'Failed', end: { ...end, reason: 'Other' } })).toBe('already');
  expect(await suites.get(uid)).toMatchObject({ phase: 'Succeeded', reason: 'Succeeded', total: 4, finishedAt: new Date(6000) });
  expect((await suites.listUnfinished()).some((row) => row.uid === uid)).toBe(false);

  const { api } = roles;
  const scope = [NAMESPACE_UID];
  expect(await readSuite(api, scope, uid)).toMatchObject({
    namespaceUid: NAMESPACE_UID, labels: { team: 'a' }, spec: { samples: 2 }, summary: { passed: 1 }, message: 'All\\u0000 runs passed.',
    cells: [{ cell: 1, parameters: { A: '1\\ud800' }, summary: { passed: 1 } }, { cell: 2, parameters: { A: '2' }, summary: {} }],
  });
  expect(await listSuiteRuns(api, scope, uid)).toMatchObject([{ cell: 1, sample: 1, evaluationUid: first.evaluationUid, outcome: 'Passed' }]);
  const events = await listSuiteEvents(api, scope, uid);
  expect(events.map(({ seq, type }) => [seq, type])).toEqual([[1, 'suite.accepted'], [2, 'suite.phase'], [3, 'suite.finished']]);
  for (const [others, id] of [[[randomUUID()], uid], [[], uid], [scope, randomUUID()], [scope, 'no uid']] as const) {
    expect(await readSuite(api, others, id)).toBeUndefined();
    expect(await listSuiteRuns(api, others, id)).toEqual([]);
    expect(await listSuiteEvents(api, others, id)).toEqual([]);
  }
});

test('a list is filtered by namespace UID and phase, newest first, in pages', async () => {
  const namespaceUid = randomUUID();
  const uids: string[] = [];
  for (let i = 0; i < 5; i += 1)
    uids.unshift(await accepted({ namespaceUid, name: `s${i}`, phase: i === 0 ? 'Running' : 'Pending', createdAt: new Date(1000 * Math.floor(i / 2)) }));
  const seen: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await listSuites(roles.api, [namespaceUid], { limit: 2, ...(cursor !== undefined && { cursor }) });
    seen.push(...page.items.map(({ uid }) => uid));
    cursor = page.nextCursor;
    if (cursor === undefined) break;
  }
  expect([...seen].sort()).toEqual([...uids].sort());
  expect((await listSuites(roles.api, [namespaceUid], { phases: ['Running'] })).items.map(({ name }) => name)).toEqual(['s0']);
  expect((await listSuites(roles.api, [namespaceUid], { name: '3' })).items.map(({ name }) => name)).toEqual(['s3']);
  expect((await listSuites(roles.api, [])).items).toEqual([]);
  expect((await listSuites(roles.api, 'all')).items.length).toBeGreaterThanOrEqual(5);
  await expect(listSuites(roles.api, 'all', { cursor: 'x' })).rejects.toThrow(RangeError);
});

test('an older leader is refused, and a new one learns the highest epoch', async () => {
  const uid = await accepted({ epoch: 41 });
  await expect(suites.addRun(run(uid))).rejects.toThrow(FencedError);
  await expect(suites.save({ uid, ...progress })).rejects.toThrow(FencedError);
  await expect(suites.save({ uid: randomUUID(), ...progress })).rejects.toThrow(NotFoundError);
  expect(await suites.maxEpoch()).toBe(41);
});

test('a changed spec is taken over, and never an older one', async () => {
  const uid = await accepted({ generation: 2 });
  const input = { uid, namespace: 'evals', namespaceUid: NAMESPACE_UID, name: 'sums', phase: 'Pending', cells: [{}], samples: 1, createdAt: new Date(0), epoch: 1 };
  await suites.upsertAccepted({ ...input, generation: 1, spec: { old: true } });
  await suites.upsertAccepted({ ...input, generation: 3, spec: { parallelism: 9 } });
  expect(await suites.get(uid)).toMatchObject({ generation: 3, spec: { parallelism: 9 }, total: 4 });
});

describe('not permitted', () => {
  const TABLES = ['suites', 'suite_cells', 'suite_runs', 'suite_events'];
  test('to anybody: deleting; to the API and the recorder: writing', async () => {
    for (const table of TABLES) {
      for (const db of [roles.operator, roles.api, roles.recorder])
        await expect(db.query(`DELETE FROM crucible.${table}`)).rejects.toMatchObject({ code: '42501' });
      for (const db of [roles.api, roles.recorder])
        await expect(db.query(`INSERT INTO crucible.${table} SELECT * FROM crucible.${table}`)).rejects.toMatchObject({ code: '42501' });
      await expect(roles.recorder.query(`SELECT * FROM crucible.${table}`)).rejects.toMatchObject({ code: '42501' });
    }
    for (const statement of ['UPDATE crucible.suites SET total = 9', 'UPDATE crucible.suites SET uid = gen_random_uuid()', 'UPDATE crucible.suite_runs SET evaluation_uid = gen_random_uuid()', `UPDATE crucible.suite_events SET data = '{}'`])
      await expect(roles.operator.query(statement)).rejects.toMatchObject({ code: '42501' });
    await expect(roles.api.query(`SELECT crucible.append_suite_event('${randomUUID()}', 'a.b', '{}')`)).rejects.toMatchObject({ code: '42501' });
  });

  test('even to the owner: changing what is final', async () => {
    const uid = await accepted();
    await suites.addRun(run(uid));
    await suites.save({ uid, ...progress, phase: 'Succeeded', end });
    const where = `WHERE suite_uid = '${uid}'`;
    for (const statement of [
      `UPDATE crucible.suites SET summary = '{}' WHERE uid = '${uid}'`, `UPDATE crucible.suites SET finished_at = NULL, reason = NULL, message = NULL WHERE uid = '${uid}'`,
      `UPDATE crucible.suites SET namespace = 'x' WHERE uid = '${uid}'`, `UPDATE crucible.suite_runs SET outcome = 'Failed' ${where}`,
      `UPDATE crucible.suite_cells SET summary = '{"x": 1}' ${where}`, `UPDATE crucible.suite_events SET data = '{"x": 1}' ${where}`,
      `INSERT INTO crucible.suite_runs (suite_uid, cell, sample, evaluation_uid, evaluation_name) VALUES ('${uid}', 2, 1, gen_random_uuid(), 'x')`,
      `DELETE FROM crucible.suites WHERE uid = '${uid}'`, 'TRUNCATE crucible.suites CASCADE',
    ])
      await expect(roles.owner.query(statement), statement).rejects.toThrow(ConflictError);
  });
});

test('retention of records takes finished suites with all that hangs on them, and nothing younger', async () => {
  const [old, young, unfinished] = [await accepted(), await accepted(), await accepted()];
  for (const uid of [old, young]) await suites.addRun(run(uid));
  const daysAgo = (days: number): Date => new Date(Date.now() - days * 86_400_000);
  await suites.save({ uid: old, ...progress, phase: 'Succeeded', end: { ...end, finishedAt: daysAgo(40) } });
  await suites.save({ uid: young, ...progress, phase: 'Succeeded', end: { ...end, finishedAt: daysAgo(2) } });
  await expire(roles.recorder, { class: 'records', days: 30, maxRuns: 100 });
  expect([await suites.get(old), (await suites.runs(old)).length]).toEqual([undefined, 0]);
  for (const uid of [young, unfinished]) expect(await suites.get(uid)).toBeDefined();
  await expect(roles.recorder.query(`SELECT crucible.expire_suites(interval '1 hour', 10)`)).rejects.toThrow(/before it is a day old/);
});
