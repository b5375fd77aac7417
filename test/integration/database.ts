import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { testServer } from './environment.ts';

export interface TestDatabase {
  /** DSN of a superuser on a database that only this test file uses. */
  readonly dsn: string;
  readonly name: string;
  drop(): Promise<void>;
}

/** An empty database of the test file's own: create it in beforeAll, drop it in afterAll. */
export async function createDatabase(prefix = 'test'): Promise<TestDatabase> {
  const server = testServer('CRUCIBLE_TEST_POSTGRES');
  const name = `${prefix}_${randomBytes(6).toString('hex')}`;
  await onServer(server, `create database "${name}"`);
  const dsn = new URL(server);
  dsn.pathname = `/${name}`;
  return { dsn: dsn.href, name, drop: () => onServer(server, `drop database if exists "${name}" with (force)`) };
}

async function onServer(dsn: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: dsn });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
