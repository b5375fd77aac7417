import { createServer, connect as connectTcp } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { connect } from './database.ts';
import type { Database } from './database.ts';
import { QueryError, UnavailableError } from './errors.ts';
import { Listener } from './listen.ts';
import type { ListenSignal } from './listen.ts';

let database: TestDatabase;
let db: Database;

beforeAll(async () => {
  database = await createDatabase('database');
  db = connect({ connectionString: database.dsn, applicationName: 'subject', poolSize: 4, statementTimeoutSeconds: 2, connectTimeoutSeconds: 1 });
  await db.query('CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)');
});

afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const kill = (application: string) =>
  db.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()', [application]);

test('a transaction commits what it did, or nothing', async () => {
  await db.transaction((tx) => tx.query('INSERT INTO t VALUES (1, 1)'));
  await expect(db.transaction(async (tx) => {
    await tx.query('INSERT INTO t VALUES (2, 2)');
    throw new Error('mine');
  })).rejects.toThrow('mine');
  expect((await db.query('SELECT id FROM t')).rows).toEqual([{ id: 1 }]);
});

test('an error that was swallowed inside does not pass for a commit', async () => {
  const work = db.transaction(async (tx) => {
    await tx.query('INSERT INTO t VALUES (3, 3)');
    await tx.query('SELECT 1 / 0').catch(() => undefined);
  });
  await expect(work).rejects.toThrow(/rolled back because a statement in it failed/);
  expect((await db.query('SELECT FROM t WHERE id = 3')).rowCount).toBe(0);
});

test('killed in the middle of a transaction: unavailable, nothing stored, and the next call works', async () => {
  const other = connect({ connectionString: database.dsn, applicationName: 'victim' });
  const work = other.transaction(async (tx) => {
    await tx.query('INSERT INTO t VALUES (4, 4)');
    await kill('victim');
    await tx.query('INSERT INTO t VALUES (5, 5)');
  });
  await expect(work).rejects.toThrow(UnavailableError);
  expect((await other.query('SELECT FROM t WHERE id IN (4, 5)')).rowCount).toBe(0);
  await kill('victim');
  await expect.poll(() => other.query('SELECT 1').then(() => 'ok', (error: unknown) => error)).toBe('ok');
  await other.close();
});

test('deadlocks are repeated', async () => {
  // Postgres looks for deadlocks after a second: not with the short timeouts of the others.
  const patient = connect(database.dsn);
  await db.query('INSERT INTO t VALUES (10, 0), (11, 0)');
  const meet = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
  const both = ([[10, 11], [11, 10]] as const).map(([first, second], index) =>
    patient.transaction(async (tx) => {
      await tx.query('UPDATE t SET v = v + 1 WHERE id = $1', [first]);
      meet[index]?.resolve();
      await Promise.all(meet.map(({ promise }) => promise));
      await tx.query('UPDATE t SET v = v + 1 WHERE id = $1', [second]);
    }),
  );
  await Promise.all(both);
  await patient.close();
  expect((await db.query('SELECT v FROM t WHERE id IN (10, 11)')).rows).toEqual([{ v: 2 }, { v: 2 }]);
});

test('a statement that takes too long, and a pool that is used up, are unavailability', async () => {
  await expect(db.query('SELECT pg_sleep(10)')).rejects.toThrow(UnavailableError);
  const release = Promise.withResolvers<void>();
  const busy = Array.from({ length: 4 }, () => db.transaction(() => release.promise));
  await expect(db.query('SELECT 1')).rejects.toThrow(UnavailableError);
  release.resolve();
  await Promise.all(busy);
  await expect(db.query('SELECT 1')).resolves.toMatchObject({ rowCount: 1 });
});

test('no server, no database, no role, a wrong statement: told apart, without values', async () => {
  const failing = async (dsn: string): Promise<Error> => {
    const broken = connect(dsn);
    const error = await broken.query('SELECT 1').then(() => new Error('no error'), (reason: Error) => reason);
    await broken.close();
    return error;
  };
  const absent = new URL(database.dsn);
  absent.pathname = '/absent';
  expect(await failing(absent.href)).toBeInstanceOf(UnavailableError);
  expect(await failing('postgresql://a:b@127.0.0.1:1/x')).toBeInstanceOf(UnavailableError);
  expect(await failing('postgresql://a:b@does-not-exist.invalid/x')).toBeInstanceOf(UnavailableError);
  await expect(db.query('SELEC 1')).rejects.toThrow(QueryError);
  const duplicate = await db.query('INSERT INTO t VALUES (1, 777)').catch((error: unknown) => error);
  expect(duplicate).toMatchObject({ name: 'ConflictError', cause: { code: '23505' } });
  expect(JSON.stringify(duplicate) + String(duplicate)).not.toContain('777');
});

test('a crowd takes turns on a patient pool, where an impatient one calls Postgres away', async () => {
  const options = { connectionString: database.dsn, poolSize: 1, connectTimeoutSeconds: 2 };
  const outcomes = async (patient: boolean): Promise<string[]> => {
    const pool = connect({ ...options, patient });
    const crowd = Array.from({ length: 4 }, () => pool.query('SELECT pg_sleep(0.9)').then(() => 'served', (error: Error) => error.name));
    const found = await Promise.all(crowd);
    await pool.close();
    return found;
  };
  const [patient, impatient] = await Promise.all([outcomes(true), outcomes(false)]);
  expect(patient).toEqual(['served', 'served', 'served', 'served']);
  expect(impatient).toContain('UnavailableError');
});

test('integers beyond 2^53 are refused rather than rounded', async () => {
  expect((await db.query('SELECT 9007199254740991::bigint AS n')).rows).toEqual([{ n: 9007199254740991 }]);
  await expect(db.query('SELECT 9007199254740993::bigint AS n')).rejects.toThrow(/too large/);
});

test('a prepared statement that the connection lost, or that returns something else now, is one failure that passes', async () => {
  const prepared = connect({ connectionString: database.dsn, applicationName: 'prepared', poolSize: 1, prepared: true });
  const read = async (): Promise<unknown> => (await prepared.query('SELECT p.* FROM prepared p WHERE id = $1', [1])).rows[0];
  const kept = `SELECT FROM pg_prepared_statements WHERE statement LIKE 'SELECT p.*%' AND $1`;
  await db.query('CREATE TABLE prepared AS SELECT 1 AS id');
  expect(await read()).toEqual({ id: 1 });
  expect((await prepared.query(kept, [true])).rowCount).toBe(1);
  await db.query('ALTER TABLE prepared ADD COLUMN more int DEFAULT 2');
  await expect(read()).rejects.toThrow(UnavailableError);
  expect(await read()).toEqual({ id: 1, more: 2 });
  await prepared.query('DEALLOCATE ALL');
  await expect(read()).rejects.toThrow(UnavailableError);
  expect(await read()).toEqual({ id: 1, more: 2 });
  await prepared.close();
});

test('a listener that is killed reconnects, calls back once, and misses nothing after that', async () => {
  const signals: ListenSignal[] = [];
  const listener = db.listen('drum', (signal) => signals.push(signal));
  const notify = (payload: string) => db.query(`SELECT pg_notify('drum', $1)`, [payload]);
  await expect.poll(() => signals).toEqual([{ type: 'connected' }]);
  await notify('one');
  await expect.poll(() => signals.length).toBe(2);
  for (let round = 0; round < 3; round += 1) {
    signals.length = 0;
    await kill('subject listen');
    await expect.poll(() => signals, { timeout: 10_000 }).toEqual([{ type: 'connected' }]);
    await notify(`round ${round}`);
    await expect.poll(() => signals[1]).toEqual({ type: 'notification', payload: `round ${round}` });
  }
  await listener.close();
  await notify('after');
  expect((await db.query(`SELECT FROM pg_stat_activity WHERE application_name = 'subject listen' AND datname = current_database()`)).rowCount).toBe(0);
  expect(signals).toHaveLength(2);
});

test('a listener notices a connection that went silent', async () => {
  const target = new URL(database.dsn);
  const upstreams = new Set<Socket>();
  let connections = 0;
  let silent = false;
  const proxy = createServer((client) => {
    connections += 1;
    const upstream = connectTcp(Number(target.port), target.hostname);
    upstreams.add(upstream);
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
    client.on('data', (data) => silent || upstream.write(data));
    upstream.on('data', (data) => silent || client.write(data));
    client.on('close', () => upstream.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const through = new URL(database.dsn);
  through.port = String((proxy.address() as AddressInfo).port);
  const signals: ListenSignal[] = [];
  const listener = new Listener({
    connectionString: through.href, applicationName: 'silent', channel: 'drum', onSignal: (signal) => signals.push(signal), pingMilliseconds: 500,
  });
  await expect.poll(() => signals.length).toBeGreaterThan(0);
  silent = true;
  // On a busy machine it may have taken slowness for silence before: that is no fault.
  const [before, heard] = [connections, signals.length];
  await expect.poll(() => connections).toBeGreaterThan(before);
  silent = false;
  await expect.poll(() => signals.length).toBeGreaterThan(heard);
  expect(new Set(signals.map(({ type }) => type))).toEqual(new Set(['connected']));
  await listener.close();
  for (const upstream of upstreams) upstream.destroy();
  proxy.close();
});
