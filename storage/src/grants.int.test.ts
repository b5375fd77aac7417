import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { AttemptRepository } from './attempts.ts';
import { CaptureRepository } from './captures.ts';
import { connect } from './database.ts';
import type { Database } from './database.ts';
import { EvaluationRepository } from './evaluations.ts';
import { buildAttempt, buildEvaluation, buildFinish, prepareDatabase } from './testing.ts';

type User = 'owner' | 'operator' | 'recorder' | 'api';

let database: TestDatabase;
const users = {} as Record<User, Database>;
const uid = randomUUID();
const podUid = randomUUID();

// One finished run and one that is still captured, so that every statement below meets a row it could change.
beforeAll(async () => {
  database = await createDatabase('storage');
  const dsns = await prepareDatabase(database.dsn);
  for (const user of ['owner', 'operator', 'recorder', 'api'] as const) users[user] = connect(dsns[user]);
  const evaluations = new EvaluationRepository(users.operator);
  const attempts = new AttemptRepository(users.operator);
  const captures = new CaptureRepository(users.recorder);
  const key = { evaluationUid: uid, attempt: 1, podUid, recorder: 'r' };
  await evaluations.upsertAccepted(buildEvaluation({ uid }));
  await attempts.create(buildAttempt(uid));
  await captures.begin(key);
  const chunks = [{ stream: 'stdout' as const, firstSeq: 1, lastSeq: 1, lines: 1, data: Buffer.from('hi\n') }];
  await captures.append({ ...key, afterSeq: 0, lastSeq: 1, chunks });
  const artifacts = [{ index: 0, path: 'a', size: 1, sha256: 'a'.repeat(64), complete: true }];
  await captures.finish(buildFinish(key, { lastSeq: 1, stdout: { bytes: 3, lines: 1 }, artifacts }));
  const verdict = { class: 'Succeeded' };
  await attempts.finalize({
    evaluationUid: uid, number: 1, epoch: 1, podUid, startedAt: null, finishedAt: null, exitCode: 0, signal: null, verdict,
  });
  await attempts.accept({ evaluationUid: uid, number: 1, epoch: 1 });
  await evaluations.finish({ uid, epoch: 1, phase: 'Succeeded', verdict, passed: null, finishedAt: new Date() });
  const open = buildEvaluation();
  await evaluations.upsertAccepted(open);
  await attempts.create(buildAttempt(open.uid));
  await captures.begin({ ...key, evaluationUid: open.uid, podUid: randomUUID() });
});

afterAll(async () => {
  await Promise.all(Object.values(users).map((db) => db.close()));
  await database?.drop();
});

const TABLES = [
  'evaluations', 'attempts', 'captures', 'streams', 'output_chunks', 'artifacts', 'events', 'event_positions', 'schema_migrations',
];
/** Of runs: what retention deletes. */
const RECORDS = TABLES.slice(0, -2);
const everyTable = (user: User, statement: (table: string) => string, tables = TABLES): [User, string][] =>
  tables.map((table) => [user, statement(table)]);
const remove = (table: string) => `DELETE FROM crucible.${table}`;
const truncate = (table: string) => `TRUNCATE crucible.${table} CASCADE`;

const DENIED: [User, string][] = [
  ...(['operator', 'recorder', 'api'] as const).flatMap((user) => [
    ...everyTable(user, remove),
    ...everyTable(user, truncate),
    [user, 'CREATE TABLE crucible.mine (a int)'],
    [user, 'CREATE SCHEMA mine'],
    [user, 'DROP TABLE crucible.events'],
    [user, 'ALTER TABLE crucible.attempts DISABLE TRIGGER ALL'],
    [user, `SET session_replication_role = 'replica'`],
    [user, 'UPDATE crucible.evaluations SET event_seq = event_seq + 1'],
    [user, `INSERT INTO crucible.events (evaluation_uid, seq, type, at) VALUES ('${uid}', 99, 'a.b', now())`],
    [user, `UPDATE crucible.events SET data = '{}'`],
    [user, `UPDATE crucible.event_positions SET last_position = 1000`],
    [user, `INSERT INTO crucible.schema_migrations (version, name, checksum) VALUES (9, 'x', 'x')`],
  ] as [User, string][]),
  // The history of drills is only added to, by the operator alone.
  ...(['operator', 'recorder', 'api'] as const).flatMap((user) =>
    ['drills', 'drill_findings'].flatMap((table): [User, string][] => [
      [user, remove(table)],
      [user, truncate(table)],
      [user, `UPDATE crucible.${table} SET outcome = 'held'`],
      ...(user === 'operator' ? [] : [[user, `INSERT INTO crucible.${table} SELECT * FROM crucible.${table}`] as [User, string]]),
    ]),
  ),
  ['recorder', 'SELECT * FROM crucible.drills'],
  ['recorder', 'SELECT crucible.expire_drills()'],
  ['api', 'SELECT crucible.expire_drills()'],
  // The operator judges and does not touch what came out of a sandbox.
  ...everyTable('operator', (table) => `INSERT INTO crucible.${table} SELECT * FROM crucible.${table}`, ['captures', 'streams', 'output_chunks', 'artifacts']),
  ['operator', `UPDATE crucible.captures SET complete = true`],
  ['operator', `UPDATE crucible.streams SET sha256 = null`],
  ['operator', `UPDATE crucible.output_chunks SET data = 'x'`],
  ['operator', `UPDATE crucible.artifacts SET path = 'x'`],
  ['operator', `UPDATE crucible.evaluations SET uid = gen_random_uuid()`],
  ['operator', `UPDATE crucible.evaluations SET namespace_uid = gen_random_uuid()`],
  ['operator', `UPDATE crucible.attempts SET number = 7`],
  ['operator', `SELECT crucible.append_capture_event('${uid}', 'capture.x', '{}')`],
  ['operator', `SELECT crucible.assign_positions(1)`],
  // The recorder reads hostile bytes: no code, no verdicts, no way to make one.
  ['recorder', `SELECT spec FROM crucible.evaluations`],
  ['recorder', `SELECT verdict FROM crucible.evaluations`],
  ['recorder', `SELECT verdict FROM crucible.attempts`],
  ['recorder', `UPDATE crucible.events SET position = 1`],
  ['recorder', `UPDATE crucible.event_positions SET last_position = 9`],
  ['recorder', `SELECT nextval('crucible.event_arrivals')`],
  ['recorder', `UPDATE crucible.evaluations SET verdict = '{}'`],
  ['recorder', `UPDATE crucible.evaluations SET phase = 'Succeeded'`],
  ['recorder', `UPDATE crucible.attempts SET verdict = '{}'`],
  ['recorder', `UPDATE crucible.attempts SET pod_uid = gen_random_uuid()`],
  ['recorder', `INSERT INTO crucible.attempts (evaluation_uid, number, job_name, image, epoch) VALUES ('${uid}', 2, 'x', 'x', 1)`],
  ['recorder', `UPDATE crucible.captures SET pod_uid = gen_random_uuid()`],
  ['recorder', `UPDATE crucible.output_chunks SET data = 'x'`],
  ['recorder', `UPDATE crucible.artifacts SET path = 'x'`],
  ['recorder', `SELECT crucible.append_event('${uid}', 'evaluation.finished', '{}')`],
  ['recorder', `SELECT crucible.append_capture_event('${uid}', 'evaluation.finished', '{}')`],
  // The API shows. What it adds is a submission, in the state and at the time that the database says.
  ['api', `INSERT INTO crucible.submissions (uid, namespace, namespace_uid, name, submitted_by)
           VALUES (gen_random_uuid(), 'n', gen_random_uuid(), 'n', 'x')`],
  ['api', `SELECT crucible.tell_not_admitted('${uid}', 'n', '${uid}', 'n', now(), 'x', 'x', true)`],
  ['operator', `SELECT crucible.record_submission('${uid}', 'n', '${uid}', 'n', 'x')`],
  ['recorder', `SELECT crucible.tell_not_admitted('${uid}', 'n', '${uid}', 'n', now(), 'x', 'x', true)`],
  ['recorder', `SELECT crucible.record_submission('${uid}', 'n', '${uid}', 'n', 'x')`],
  ['api', `UPDATE crucible.submissions SET submitted_by = 'x'`],
  ['api', `DELETE FROM crucible.submissions`],
  ['api', `SELECT crucible.withdraw_submission('${uid}')`],
  ['api', `SELECT crucible.observe_namespace(gen_random_uuid(), 'evals')`],
  ['api', `SELECT crucible.end_namespace('${uid}')`],
  ['api', `INSERT INTO crucible.namespaces (uid, name) VALUES (gen_random_uuid(), 'x')`],
  ['api', `UPDATE crucible.namespace_usage SET evaluations = 0`],
  ['api', `DELETE FROM crucible.evaluation_labels`],
  ['operator', `UPDATE crucible.namespaces SET gone_at = now()`],
  ['operator', `UPDATE crucible.evaluations SET attempts = 9`],
  ['operator', `INSERT INTO crucible.submissions (uid, namespace, namespace_uid, name, submitted_by)
                VALUES (gen_random_uuid(), 'n', gen_random_uuid(), 'n', 'x')`],
  ['recorder', `SELECT * FROM crucible.submissions`],
  ['recorder', `UPDATE crucible.namespace_usage SET output_bytes = 0`],
  ...everyTable('api', (table) => `INSERT INTO crucible.${table} DEFAULT VALUES`),
  ['api', `UPDATE crucible.evaluations SET phase = 'x'`],
  ['api', `UPDATE crucible.captures SET recorder = 'x'`],
  ['api', `SELECT crucible.assign_positions(1)`],
  ['api', `SELECT crucible.append_event('${uid}', 'a.b', '{}')`],
  ['api', `SELECT crucible.append_capture_event('${uid}', 'capture.b', '{}')`],
  ['api', `SELECT * FROM crucible.captures FOR UPDATE`],
];

describe('not permitted', () => {
  test.each(DENIED)('%s: %s', async (user, statement) => {
    await expect(users[user].query(statement)).rejects.toMatchObject({ code: '42501' });
  });
});

const where = `evaluation_uid = '${uid}'`;
// What even the owner of the tables is refused: the triggers, not the grants.
const FINAL: [User, string][] = [
  ['operator', `UPDATE crucible.attempts SET verdict = '{"class": "Other"}' WHERE ${where}`],
  ['operator', `UPDATE crucible.attempts SET exit_code = 1 WHERE ${where}`],
  ['operator', `UPDATE crucible.attempts SET state = 'running', finalized_at = NULL, verdict = NULL WHERE ${where}`],
  ['operator', `UPDATE crucible.evaluations SET verdict = '{"class": "Other"}' WHERE uid = '${uid}'`],
  ['operator', `UPDATE crucible.evaluations SET finished_at = NULL, verdict = NULL WHERE uid = '${uid}'`],
  ['operator', `UPDATE crucible.evaluations SET accepted_attempt = NULL WHERE uid = '${uid}'`],
  ['operator', `UPDATE crucible.evaluations SET epoch = 0 WHERE uid = '${uid}'`],
  ['operator', `UPDATE crucible.evaluations SET priority = 7 WHERE uid = '${uid}'`],
  ['operator', `UPDATE crucible.evaluations SET queue_reason = 'X', queue_message = 'x' WHERE uid = '${uid}'`],
  ['operator', `UPDATE crucible.evaluations SET accepted_attempt = 1 WHERE uid <> '${uid}'`],
  ['recorder', `UPDATE crucible.captures SET state = 'following', captured_at = NULL WHERE ${where}`],
  ['recorder', `UPDATE crucible.captures SET last_seq = 9 WHERE ${where}`],
  ['recorder', `UPDATE crucible.streams SET bytes = 0 WHERE ${where}`],
  ['recorder', `UPDATE crucible.output_chunks SET byte_offset = 9 WHERE ${where}`],
  ['recorder', `INSERT INTO crucible.output_chunks VALUES ('${uid}', 1, 'stdout', 2, 2, 3, 1, 'x')`],
  ['recorder', `INSERT INTO crucible.artifacts VALUES ('${uid}', 1, 7, 'x', 0, NULL, false)`],
  ['owner', `UPDATE crucible.attempts SET verdict = '{}' WHERE ${where}`],
  ['owner', `UPDATE crucible.output_chunks SET data = 'x' WHERE ${where}`],
  ['owner', `UPDATE crucible.events SET data = '{"x": 1}' WHERE ${where}`],
  ['owner', `UPDATE crucible.evaluations SET event_seq = 1 WHERE uid = '${uid}'`],
  ['owner', `UPDATE crucible.evaluations SET namespace = 'x' WHERE uid = '${uid}'`],
  ['owner', `UPDATE crucible.event_positions SET last_position = last_position - 1`],
  ['owner', `DELETE FROM crucible.event_positions`],
  ...everyTable('owner', remove, RECORDS),
  ...everyTable('owner', truncate, RECORDS),
];

describe('final', () => {
  test.each(FINAL)('%s: %s', async (user, statement) => {
    await expect(users[user].query(statement)).rejects.toMatchObject({ name: 'ConflictError', cause: { code: 'CRU01' } });
  });
});

test('only the recorder has positions given, and what it gets is dense', async () => {
  const { rows } = await users.recorder.query<{ assigned: number; last: number }>('SELECT * FROM crucible.assign_positions(1000)');
  const { rows: given } = await users.recorder.query('SELECT position FROM crucible.events ORDER BY position');
  expect(rows).toEqual([{ assigned: given.length, last: given.length }]);
  expect(given).toEqual(given.map((_, index) => ({ position: index + 1 })));
  await expect(users.owner.query('UPDATE crucible.events SET position = position + 100')).rejects.toMatchObject({ cause: { code: 'CRU01' } });
});

test('the API reads every table', async () => {
  for (const table of TABLES) expect((await users.api.query(`SELECT * FROM crucible.${table}`)).rowCount).toBeGreaterThan(0);
});

test('retention, which says so, deletes a whole run', async () => {
  await users.owner.transaction(async (tx) => {
    await tx.query(`SET LOCAL crucible.retention = 'on'`);
    await tx.query('DELETE FROM crucible.evaluations WHERE uid = $1', [uid]);
    for (const table of ['attempts', 'captures', 'streams', 'output_chunks', 'artifacts', 'events']) {
      expect((await tx.query(`SELECT FROM crucible.${table} WHERE ${where}`)).rowCount).toBe(0);
    }
  });
});
