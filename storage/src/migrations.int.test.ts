import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { CheckedDatabase } from './checked-database.ts';
import { connect } from './database.ts';
import { UnavailableError } from './errors.ts';
import { migrate, migrationsDirectory, readMigrations } from './migrations.ts';
import { ensureRoles } from './roles.ts';
import { SCHEMA_VERSION, confirmSchema, schemaReady, waitForSchema, waitForSchemaUnlessAway } from './schema.ts';
import { prepareDatabase } from './testing.ts';

const run = promisify(execFile);
const NAMES = (await readMigrations(migrationsDirectory())).map(({ name }) => name);
const COMMAND = fileURLToPath(new URL('./migrate.ts', import.meta.url));

let database: TestDatabase;
let scratch: string;

beforeEach(async () => {
  database = await createDatabase('migrate');
  scratch = await mkdtemp(join(tmpdir(), 'crucible-migrations-'));
});

afterEach(async () => {
  await database.drop();
  await rm(scratch, { recursive: true });
});

async function sql<R extends object>(statement: string, dsn = database.dsn): Promise<R[]> {
  const client = new Client({ connectionString: dsn });
  await client.connect();
  try {
    return (await client.query<R>(statement)).rows;
  } finally {
    await client.end();
  }
}

async function state(dsn = database.dsn): Promise<string> {
  const db = connect(dsn);
  try {
    return await schemaReady(db);
  } finally {
    await db.close();
  }
}

/** A copy of the migrations with one more. */
async function withSecond(statements: string): Promise<string> {
  await cp(migrationsDirectory(), scratch, { recursive: true });
  await writeFile(join(scratch, `${String(SCHEMA_VERSION + 1).padStart(4, '0')}_next.sql`), statements);
  return scratch;
}

test('from empty, then again: applied once', async () => {
  expect(await state()).toBe('behind');
  const first = await migrate({ connectionString: database.dsn });
  expect(first).toEqual({ version: SCHEMA_VERSION, applied: NAMES });
  expect(await migrate({ connectionString: database.dsn })).toEqual({ version: SCHEMA_VERSION, applied: [] });
  expect(await state()).toBe('ok');
});

test('five migrators at once', async () => {
  const results = await Promise.all(Array.from({ length: 5 }, () => prepareDatabase(database.dsn)));
  expect(await sql('SELECT version FROM crucible.schema_migrations')).toEqual(NAMES.map((_, index) => ({ version: index + 1 })));
  for (const dsn of [results[0]?.operator, results[1]?.recorder, results[2]?.api]) expect(await state(dsn)).toBe('ok');
});

test('a changed file is refused and nothing happens', async () => {
  await migrate({ connectionString: database.dsn });
  const directory = await withSecond('CREATE TABLE crucible.second (a int)');
  const path = join(directory, '0001_init.sql');
  await writeFile(path, `${await readFile(path, 'utf8')}\n-- harmless`);
  await expect(migrate({ connectionString: database.dsn, directory })).rejects.toThrow(/0001_init\.sql was changed after it had been applied/);
  expect(await sql(`SELECT to_regclass('crucible.second') AS found`)).toEqual([{ found: null }]);
});

test('a failing migration leaves the version before it, whole', async () => {
  await migrate({ connectionString: database.dsn });
  const directory = await withSecond('CREATE TABLE crucible.second (a int); SELECT 1 / 0');
  await expect(migrate({ connectionString: database.dsn, directory })).rejects.toThrow(/division by zero/);
  expect(await sql(`SELECT to_regclass('crucible.second') AS found`)).toEqual([{ found: null }]);
  expect(await state()).toBe('ok');
});

test('a newer database: processes see it, an older migrate refuses it, grants reach new tables', async () => {
  const { api } = await prepareDatabase(database.dsn);
  const directory = await withSecond('CREATE TABLE crucible.second (a int)');
  const grants = join(directory, 'grants.sql');
  await writeFile(grants, `${await readFile(grants, 'utf8')}\nGRANT SELECT ON crucible.second TO crucible_api;`);
  expect(await migrate({ connectionString: database.dsn, directory })).toMatchObject({ applied: [`${String(SCHEMA_VERSION + 1).padStart(4, '0')}_next.sql`] });
  expect(await sql('SELECT * FROM crucible.second', api)).toEqual([]);
  expect(await state(api)).toBe('ahead');
  await expect(migrate({ connectionString: database.dsn })).rejects.toThrow(/newer than this image: it has \d+_next\.sql/);
});

test('from 0001 with data: events keep what they say, and get an order that follows their numbers', async () => {
  await cp(join(migrationsDirectory(), '0001_init.sql'), join(scratch, '0001_init.sql'));
  await writeFile(join(scratch, 'grants.sql'), '');
  await migrate({ connectionString: database.dsn, directory: scratch });
  // The clock was set back between `a`'s first and second event, and forward again before its third.
  const [a, b] = ['aaaaaaaa-0000-4000-8000-000000000000', 'bbbbbbbb-0000-4000-8000-000000000000'];
  await sql(`
    INSERT INTO crucible.evaluations (uid, namespace, namespace_uid, name, generation, spec, phase, created_at, epoch, event_seq)
      SELECT u, 'evals', u, 'n', 1, '{}', 'Queued', now(), 1, 3 FROM unnest(ARRAY['${a}', '${b}']::uuid[]) u;
    INSERT INTO crucible.events (evaluation_uid, seq, type, data, at) VALUES
      ('${a}', 2, 'a.b', '{"n": 2}', '2026-01-01T00:00:01Z'), ('${a}', 1, 'a.b', '{"n": 1}', '2026-01-01T00:00:05Z'),
      ('${a}', 3, 'a.b', '{"n": 3}', '2026-01-01T00:00:09Z'), ('${b}', 1, 'a.b', '{"n": 1}', '2026-01-01T00:00:03Z'),
      ('${b}', 2, 'a.b', '{"n": 2}', '2026-01-01T00:00:07Z'), ('${b}', 3, 'a.b', '{"n": 3}', '2026-01-01T00:00:11Z')`);
  const before = await sql('SELECT evaluation_uid, seq, type, data, at, position FROM crucible.events ORDER BY 1, 2');
  expect(await migrate({ connectionString: database.dsn })).toMatchObject({ version: SCHEMA_VERSION, applied: NAMES.slice(1) });
  expect(await sql('SELECT evaluation_uid, seq, type, data, at, position FROM crucible.events ORDER BY 1, 2')).toEqual(before);
  await sql(`SELECT crucible.append_event('${a}', 'a.b', '{"n": 4}')`);
  expect(await sql('SELECT assigned::int, last::int FROM crucible.assign_positions(100)')).toEqual([{ assigned: 7, last: 7 }]);
  const order = await sql<{ e: string }>(`SELECT left(evaluation_uid::text, 1) || seq AS e FROM crucible.events ORDER BY position`);
  expect(order.map(({ e }) => e)).toEqual(['b1', 'a1', 'a2', 'b2', 'a3', 'b3', 'a4']);
  await expect(sql(`UPDATE crucible.events SET data = '{}'`)).rejects.toThrow(/an event never changes/);
});

// What every version could hold: two finished runs of one name in different namespaces and months, one that waits.
const [OLD, NEW, WAITING] = ['aaaaaaaa-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000003'];
const DATA = `
  INSERT INTO crucible.evaluations (uid, namespace, namespace_uid, name, generation, spec, labels, phase, created_at, accepted_at, epoch) VALUES
    ('${OLD}', 'evals', 'bbbbbbbb-0000-4000-8000-000000000001', 'n', 1, '{"code": "a\\u0000b", "priority": 7, "runtime": "python"}', '{"team": "a"}', 'Running', '2025-11-30T23:59:59Z', '2025-12-01T00:00:00Z', 1),
    ('${NEW}', 'evals', 'bbbbbbbb-0000-4000-8000-000000000002', 'n', 1, '{"priority": -3}', '{"team": "a", "x": ""}', 'Running', '2025-12-01T00:00:00Z', '2025-12-01T00:00:01Z', 1),
    ('${WAITING}', 'other', 'bbbbbbbb-0000-4000-8000-000000000003', 'w', 1, '{}', '{}', 'Queued', '2026-02-01T00:00:00Z', '2026-02-01T00:00:00Z', 1);
  INSERT INTO crucible.attempts (evaluation_uid, number, job_name, image, epoch)
    SELECT uid, 1, 'j', 'i', 1 FROM crucible.evaluations WHERE uid <> '${WAITING}';
  INSERT INTO crucible.captures (evaluation_uid, attempt, pod_uid, recorder) SELECT evaluation_uid, 1, evaluation_uid, 'r' FROM crucible.attempts;
  INSERT INTO crucible.streams (evaluation_uid, attempt, stream, bytes, lines)
    SELECT evaluation_uid, 1, s, CASE s WHEN 'stdout' THEN 3 ELSE 0 END, 0 FROM crucible.attempts, unnest(ARRAY['stdout', 'stderr']) s;
  INSERT INTO crucible.output_chunks (evaluation_uid, attempt, stream, first_seq, last_seq, byte_offset, lines, data)
    SELECT evaluation_uid, 1, 'stdout', 1, 1, 0, 1, 'hi\n' FROM crucible.attempts;
  INSERT INTO crucible.artifacts (evaluation_uid, attempt, index, path, size, sha256, complete)
    SELECT evaluation_uid, 1, 0, 'a', 5, repeat('a', 64), true FROM crucible.attempts;
  UPDATE crucible.captures SET state = 'captured', captured_at = now(), complete = true, artifacts_complete = true;
  UPDATE crucible.attempts SET state = 'finalized', finalized_at = now(), verdict = '{"class": "Succeeded"}', pod_uid = evaluation_uid;
  SELECT crucible.append_event(uid, 'evaluation.accepted', '{"n": 1}') FROM crucible.evaluations;
  SELECT crucible.append_event('${OLD}', 'evaluation.finished', '{"n": 2}');
  UPDATE crucible.evaluations SET accepted_attempt = 1, phase = 'Succeeded', finished_at = now(), verdict = '{"class": "Succeeded"}' WHERE uid <> '${WAITING}'`;

const SPEC_BYTES = 56;
const RECORD = `
  SELECT (SELECT json_agg(e ORDER BY uid) FROM (SELECT uid, namespace_uid, name, spec::text, labels, phase, verdict, created_at, finished_at, event_seq FROM crucible.evaluations) e) AS evaluations,
         (SELECT json_agg(a ORDER BY evaluation_uid) FROM (SELECT evaluation_uid, number, state, verdict, pod_uid FROM crucible.attempts) a) AS attempts,
         (SELECT json_agg(o ORDER BY evaluation_uid) FROM (SELECT evaluation_uid, stream, data FROM crucible.output_chunks) o) AS output,
         (SELECT json_agg(s ORDER BY evaluation_uid, stream) FROM (SELECT evaluation_uid, stream, bytes FROM crucible.streams) s) AS streams,
         (SELECT json_agg(v ORDER BY evaluation_uid, seq) FROM (SELECT evaluation_uid, seq, type, data, at FROM crucible.events) v) AS events`;

test.each(NAMES.slice(0, -1).map((name, index) => [name, index + 1] as const))('from %s with data: the record stays, and what is derived from it is right', async (_, version) => {
  for (const name of NAMES.slice(0, version)) await cp(join(migrationsDirectory(), name), join(scratch, name));
  await writeFile(join(scratch, 'grants.sql'), '');
  await migrate({ connectionString: database.dsn, directory: scratch });
  await sql(DATA);
  const before = await sql(RECORD);
  expect(await migrate({ connectionString: database.dsn })).toMatchObject({ version: SCHEMA_VERSION });
  expect(await sql(RECORD)).toEqual(before);
  expect(await sql('SELECT name, right(uid::text, 1) AS uid, gone_at IS NULL AS current FROM crucible.namespaces ORDER BY uid')).toEqual([
    { name: 'evals', uid: '1', current: false }, { name: 'evals', uid: '2', current: true }, { name: 'other', uid: '3', current: true },
  ]);
  // Since 0006 it is the operator's code that writes what it takes out of the spec; here it was not.
  const [high, low, runtime] = version < 6 ? [7, -3, 'python'] : [0, 0, null];
  expect(await sql('SELECT priority, runtime, attempts, spec_bytes FROM crucible.evaluations ORDER BY uid')).toEqual([
    { priority: high, runtime, attempts: 1, spec_bytes: SPEC_BYTES }, { priority: low, runtime: null, attempts: 1, spec_bytes: 16 },
    { priority: 0, runtime: null, attempts: 0, spec_bytes: 2 },
  ]);
  expect(await sql('SELECT label FROM crucible.evaluation_labels ORDER BY label')).toEqual([{ label: 'team=a' }, { label: 'team=a' }, { label: 'x=' }]);
  expect(await sql('SELECT evaluations::int, spec_bytes::int, output_bytes::int FROM crucible.namespace_usage ORDER BY namespace_uid')).toEqual([
    { evaluations: 1, spec_bytes: SPEC_BYTES, output_bytes: 3 }, { evaluations: 1, spec_bytes: 16, output_bytes: 3 }, { evaluations: 1, spec_bytes: 2, output_bytes: 0 },
  ]);
  // A run's events are in the partition of the month of its creation. What comes after 0009 to a month that has none, and
  // not by the operator's code, is in the default one.
  const months = [
    { partition: 'crucible.events_2025_11', events: 2 }, { partition: 'crucible.events_2025_12', events: 1 }, { partition: 'crucible.events_2026_02', events: 1 },
  ];
  expect(await sql(`SELECT tableoid::regclass::text AS partition, count(*)::int AS events FROM crucible.events GROUP BY 1 ORDER BY 1`)).toEqual(
    version < 9 ? months : [{ partition: 'crucible.events_default', events: 4 }],
  );
  expect(await sql('SELECT assigned::int, last::int FROM crucible.assign_positions(100)')).toEqual([{ assigned: 4, last: 4 }]);
  await expect(sql(`UPDATE crucible.events SET data = '{}'`)).rejects.toThrow(/an event never changes/);
  await expect(sql('TRUNCATE crucible.events')).rejects.toThrow(/deleted by retention only/);
});

test('a right that grants.sql does not list is taken away', async () => {
  const { recorder } = await prepareDatabase(database.dsn);
  await sql('GRANT ALL ON crucible.evaluations TO crucible_recorder; GRANT SELECT (verdict) ON crucible.attempts TO crucible_recorder');
  await sql('SELECT spec FROM crucible.evaluations', recorder);
  await migrate({ connectionString: database.dsn });
  await expect(sql('SELECT spec FROM crucible.evaluations', recorder)).rejects.toThrow(/permission denied/);
  await expect(sql('SELECT verdict FROM crucible.attempts', recorder)).rejects.toThrow(/permission denied/);
});

test('processes wait until it is migrated', async () => {
  // The role exists from the first migration of this server; here it finds a database that is not migrated.
  const elsewhere = await createDatabase('migrate');
  await prepareDatabase(elsewhere.dsn);
  await elsewhere.drop();
  const recorderDsn = new URL(database.dsn);
  [recorderDsn.username, recorderDsn.password] = ['crucible_recorder', 'test-recorder-password'];
  const db = connect(recorderDsn.href);
  const reasons: string[] = [];
  const ready = waitForSchema(db, { signal: AbortSignal.timeout(20_000), onWait: (reason) => reasons.push(reason), intervalSeconds: 0.05 });
  await expect.poll(() => reasons).toEqual(['the database is not migrated yet']);
  await migrate({ connectionString: database.dsn });
  await ready;
  await db.close();
});

test('one that does not wait is refused every statement until the schema is its own', async () => {
  await prepareDatabase(database.dsn);
  await migrate({ connectionString: database.dsn });
  await sql(`INSERT INTO crucible.schema_migrations (version, name, checksum) VALUES (9999, '9999_newer.sql', 'none')`);
  const db = new CheckedDatabase({ connectionString: database.dsn });
  const refused = new UnavailableError('the database is newer than this image');
  await expect(db.query('SELECT 1')).rejects.toThrow(refused);
  await expect(db.transaction((tx) => tx.query('SELECT 1'))).rejects.toThrow(refused);
  expect(await waitForSchemaUnlessAway(connect('postgresql://x@127.0.0.1:1/none'), { signal: AbortSignal.timeout(20_000) })).toBe('away');
  await expect(confirmSchema(db.unchecked, { signal: AbortSignal.timeout(20_000) })).rejects.toThrow(/newer than this image/);
  await sql('DELETE FROM crucible.schema_migrations WHERE version = 9999');
  expect((await Promise.all([1, 2, 3].map(() => db.transaction((tx) => tx.query('SELECT 1'))))).length).toBe(3);
  await confirmSchema(db.unchecked, { signal: AbortSignal.timeout(20_000) });
  await db.close();
});

test('an owner who may not create roles: told what to run, then it works with roles made by others', async () => {
  await prepareDatabase(database.dsn);
  const name = `limited_${database.name}`;
  await sql(`CREATE ROLE ${name} LOGIN PASSWORD 'limited-password'; GRANT CREATE ON DATABASE "${database.name}" TO ${name}; DROP SCHEMA crucible CASCADE`);
  const limited = new URL(database.dsn);
  [limited.username, limited.password] = [name, 'limited-password'];
  const client = new Client({ connectionString: limited.href });
  await client.connect();
  try {
    const absent = ['crucible_api', 'crucible_absent', 'crucible_missing'];
    await expect(ensureRoles(client, {}, absent)).rejects.toThrow(
      /may not create roles.*: CREATE ROLE crucible_absent LOGIN PASSWORD '…'; CREATE ROLE crucible_missing LOGIN PASSWORD '…';/,
    );
    const passwords = { crucible_api: 'something-else' };
    await expect(migrate({ connectionString: limited.href, rolePasswords: passwords })).rejects.toThrow(/may not set the password of crucible_api/);
    expect(await migrate({ connectionString: limited.href })).toMatchObject({ version: SCHEMA_VERSION });
    expect(await state(limited.href)).toBe('ok');
    expect(await sql(`SELECT relowner::regrole::text AS owner FROM pg_class WHERE oid = 'crucible.events'::regclass`)).toEqual([{ owner: name }]);
  } finally {
    await client.end();
    await sql(`DROP SCHEMA IF EXISTS crucible CASCADE; DROP OWNED BY ${name}; DROP ROLE ${name}`);
  }
});

test('a migrator that waits too long for another one says so', async () => {
  const holder = new Client({ connectionString: database.dsn });
  await holder.connect();
  await holder.query('SELECT pg_advisory_lock($1)', [0x6372756369]);
  const waiting = migrate({ connectionString: database.dsn, lockTimeoutSeconds: 1 });
  await expect(waiting).rejects.toThrow(UnavailableError);
  await expect(waiting).rejects.toThrow(/another migration has been running/);
  await holder.end();
});

async function command(env: Record<string, string>): Promise<{ code: number; output: string }> {
  try {
    const { stdout, stderr } = await run(process.execPath, [COMMAND], { env: { PATH: process.env['PATH'], ...env } });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, output: stdout + stderr };
  }
}

test('the command: one sentence and an exit code, never a password', async () => {
  const passwords = { CRUCIBLE_ROLE_PASSWORD_API: 'test-api-password', CRUCIBLE_ROLE_PASSWORD_OPERATOR: '' };
  const done = await command({ CRUCIBLE_DATABASE_URL: database.dsn, ...passwords });
  expect(done).toEqual({
    code: 0,
    output: [
      ...NAMES.map((name) => `migrate: applying ${name}\n`),
      `migrate: The database is at schema version ${SCHEMA_VERSION} (applied ${NAMES.join(', ')}).\n`,
    ].join(''),
  });
  const limit = { CRUCIBLE_MIGRATE_TIMEOUT_SECONDS: '1' };
  const away = await command({ CRUCIBLE_DATABASE_URL: 'postgresql://me:s3cret@127.0.0.1:1/x', ...limit });
  expect(away.code).toBe(1);
  expect(away.output).toMatch(/^migrate: waiting: Postgres is not available: .*\nmigrate: Gave up after 1 s: Postgres is not available: .*\.\n$/);
  expect(away.output).not.toContain('s3cret');
  const bad = await command({ CRUCIBLE_DATABASE_URL: 'mysql://me:s3cret@h/x', CRUCIBLE_ROLE_PASSWORD_API: 'pass wörd' });
  expect(bad).toEqual({
    code: 1,
    output: 'migrate: CRUCIBLE_DATABASE_URL must start with postgresql://. CRUCIBLE_ROLE_PASSWORD_API must be 8 to 256 printable ASCII characters.\n',
  });
});

test('from 0011: a namespace that was called gone while it was disabled is present again, unless its name has another', async () => {
  for (const name of NAMES.slice(0, 11)) await cp(join(migrationsDirectory(), name), join(scratch, name));
  await writeFile(join(scratch, 'grants.sql'), '');
  await migrate({ connectionString: database.dsn, directory: scratch });
  const uid = (n: number) => `bbbbbbbb-0000-4000-8000-00000000000${n}`;
  await sql(`INSERT INTO crucible.namespaces (uid, name, first_seen_at, gone_at) VALUES
    ('${uid(1)}', 'disabled', '2026-01-01', '2026-01-02'), ('${uid(2)}', 'disabled', '2026-01-03', '2026-01-05'),
    ('${uid(3)}', 'again', '2026-01-01', '2026-01-02'), ('${uid(4)}', 'again', '2026-01-02', NULL)`);
  await migrate({ connectionString: database.dsn });
  expect(await sql('SELECT right(uid::text, 1) AS uid, name FROM crucible.namespaces WHERE gone_at IS NULL ORDER BY uid')).toEqual([
    { uid: '2', name: 'disabled' }, { uid: '4', name: 'again' },
  ]);
});
