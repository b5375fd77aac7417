import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { createDatabase } from '../integration/database.ts';
import type { TestDatabase } from '../integration/database.ts';
import { CommitProxy } from './commit-proxy.ts';

let database: TestDatabase;
let proxy: CommitProxy;
let direct: Client;
let client: Client;

beforeAll(async () => {
  database = await createDatabase('commits');
  direct = new Client({ connectionString: database.dsn });
  await direct.connect();
  await direct.query('create table kept (value text)');
});
afterAll(async () => {
  await direct.end();
  await database.drop();
});
beforeEach(async () => {
  await direct.query('truncate kept');
  const { hostname, port } = new URL(database.dsn);
  proxy = new CommitProxy({ host: hostname, port: Number(port) });
  await proxy.up();
  client = new Client({ connectionString: proxy.through(database.dsn) });
  client.on('error', () => {});
  await client.connect();
});
afterEach(async () => {
  await client.end().catch(() => undefined);
  await proxy.down();
});

const kept = async (): Promise<number> => (await direct.query('select 1 from kept')).rows.length;
const write = async (value: string): Promise<void> => {
  await client.query('BEGIN');
  await client.query('insert into kept values ($1)', [value]);
  await client.query('COMMIT');
};

it('counts transactions that write and single statements that write, and nothing else', async () => {
  await write('a');
  await client.query('BEGIN');
  await client.query('select $1::text', ['x']);
  await client.query('COMMIT');
  await client.query('BEGIN');
  await client.query('insert into kept values ($1)', ['b']);
  await client.query('ROLLBACK');
  await client.query('insert into kept values ($1)', ['c']);
  await client.query(`insert into kept values ('d')`);
  expect(proxy.points.map(({ number }) => number)).toEqual([1, 2, 3]);
  expect(await kept()).toBe(3);
});

it('counts each execution of a prepared statement, whose text is sent once', async () => {
  for (const value of ['a', 'b', 'c']) await client.query({ name: 'keep', text: 'insert into kept values ($1)', values: [value] });
  await client.query({ name: 'look', text: 'select $1::text', values: ['x'] });
  expect(proxy.points.map(({ statements }) => statements)).toEqual(Array(3).fill(['insert into kept values ($1)']));
});

it('before: the commit never gets there', async () => {
  let acted = false;
  proxy.rule = () => ({ when: 'before', act: () => void (acted = true) });
  await expect(write('a')).rejects.toThrow();
  expect([acted, await kept()]).toEqual([true, 0]);
});

it('after: it is done, and the client does not learn it', async () => {
  let seen = -1;
  proxy.rule = () => ({ when: 'after', act: async () => void (seen = await kept()) });
  await expect(write('a')).rejects.toThrow();
  expect(seen).toBe(1);
});

it('late: it gets there after what the test does, and the client learns it', async () => {
  let seen = -1;
  proxy.rule = () => ({ when: 'late', act: async () => void (seen = await kept()) });
  await write('a');
  expect([seen, await kept()]).toEqual([0, 1]);
});

it('counts what the server refused, and connections that were lost on its side, but not those that the client ended', async () => {
  await expect(client.query('select 1 from nowhere')).rejects.toThrow();
  expect([proxy.refusals('42P01'), proxy.refusals('53300')]).toEqual([1, 0]);
  const other = new Client({ connectionString: proxy.through(database.dsn) });
  await other.connect();
  await other.end();
  expect(proxy.lost).toBe(0);
  const { rows } = await client.query('select pg_backend_pid() as pid');
  const gone = new Promise((resolve) => client.once('end', resolve));
  await direct.query('select pg_terminate_backend($1)', [rows[0].pid]);
  await gone;
  await expect.poll(() => proxy.lost).toBe(1);
  client = new Client({ connectionString: proxy.through(database.dsn) });
  client.on('error', () => {});
  await client.connect();
  await proxy.down();
  expect(proxy.lost).toBe(2);
});

it('goes away and comes back at the same address', async () => {
  await proxy.down();
  const address = proxy.through(database.dsn);
  await expect(new Client({ connectionString: address }).connect()).rejects.toThrow('ECONNREFUSED');
  await proxy.up();
  expect(proxy.through(database.dsn)).toBe(address);
  client = new Client({ connectionString: address });
  await client.connect();
  await write('a');
  expect(await kept()).toBe(1);
});
