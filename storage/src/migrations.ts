import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import { MigrationError, UnavailableError, toStorageError } from './errors.ts';
import { ensureRoles } from './roles.ts';
import type { RolePasswords } from './roles.ts';

export interface MigrateOptions {
  /** Of the owner: it may create the schema `crucible`, and roles unless they exist. */
  connectionString: string;
  rolePasswords?: RolePasswords;
  /** Default: `migrations` beside this file's bundle, or storage/migrations in the source tree. */
  directory?: string;
  /** How long to wait for another migrator. */
  lockTimeoutSeconds?: number;
  onProgress?: (message: string) => void;
}

export interface Migration {
  version: number;
  name: string;
  sql: string;
  /** sha256 of the file, hex. */
  checksum: string;
}

const FILE_NAME = /^(\d{4})_[a-z0-9_]+\.sql$/;
const GRANTS = 'grants.sql';
/** Any number that nobody else uses on this database. */
const LOCK_KEY = 0x6372756369;
const LOCK_TIMEOUT_SECONDS = 120;
const LOCK_NOT_AVAILABLE = '55P03';
/** int8multirange. */
const MINIMUM_SERVER = 140000;

const BOOTSTRAP = `
  CREATE TABLE IF NOT EXISTS crucible.schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
  )`;

/**
 * Brings the database to this code's schema, all or nothing: pending migrations and grants are one transaction, under an
 * advisory lock, so any number of migrators may start at once. Throws MigrationError with what to do, or UnavailableError.
 */
export async function migrate(options: MigrateOptions): Promise<{ version: number; applied: string[] }> {
  const directory = options.directory ?? migrationsDirectory();
  const migrations = await readMigrations(directory);
  const grants = await readFile(join(directory, GRANTS), 'utf8');
  const client = new Client({
    connectionString: options.connectionString,
    application_name: 'crucible migrate',
    connectionTimeoutMillis: 5_000,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return await locked(client, options.lockTimeoutSeconds ?? LOCK_TIMEOUT_SECONDS, async () => {
      await checkServer(client);
      await ensureRoles(client, options.rolePasswords ?? {});
      return await applyAll(client, migrations, grants, options.onProgress ?? (() => undefined));
    });
  } catch (error) {
    throw toStorageError(error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

export function migrationsDirectory(): string {
  const candidates = ['./migrations', '../migrations'].map((path) => fileURLToPath(new URL(path, import.meta.url)));
  const found = candidates.find((path) => existsSync(join(path, GRANTS)));
  if (found === undefined) throw new MigrationError(`The migrations are not in this image: looked in ${candidates.join(' and ')}.`);
  return found;
}

/** In order; refuses a directory with a hole, a duplicate or a file that is neither a migration nor the grants. */
export async function readMigrations(directory: string): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => name !== GRANTS).sort();
  const migrations: Migration[] = [];
  for (const name of names) {
    const version = Number(FILE_NAME.exec(name)?.[1]);
    if (version !== migrations.length + 1) {
      throw new MigrationError(`The migration ${name} is out of order: expected ${String(migrations.length + 1).padStart(4, '0')}_….sql.`);
    }
    const sql = await readFile(join(directory, name), 'utf8');
    migrations.push({ version, name, sql, checksum: createHash('sha256').update(sql).digest('hex') });
  }
  return migrations;
}

async function locked<T>(client: Client, timeoutSeconds: number, work: () => Promise<T>): Promise<T> {
  await client.query(`SET lock_timeout = '${timeoutSeconds}s'`);
  try {
    await client.query('SELECT pg_advisory_lock($1)', [LOCK_KEY]);
  } catch (error) {
    if ((error as { code?: string }).code !== LOCK_NOT_AVAILABLE) throw error;
    throw new UnavailableError(`another migration has been running for more than ${timeoutSeconds} s`);
  }
  // The lock goes with the connection.
  return await work();
}

async function checkServer(client: Client): Promise<void> {
  const { rows } = await client.query<{ version: string; encoding: string; readonly: boolean }>(
    `SELECT current_setting('server_version_num') AS version, current_setting('server_encoding') AS encoding,
            pg_is_in_recovery() AS readonly`,
  );
  const server = rows[0];
  if (Number(server?.version) < MINIMUM_SERVER) throw new MigrationError('Crucible needs Postgres 14 or newer.');
  if (server?.encoding !== 'UTF8') throw new MigrationError(`The database's encoding must be UTF8, not ${server?.encoding}.`);
  if (server.readonly) throw new UnavailableError('the server is a read-only replica: a failover may be under way');
}

async function applyAll(
  client: Client,
  migrations: readonly Migration[],
  grants: string,
  onProgress: (message: string) => void,
): Promise<{ version: number; applied: string[] }> {
  await client.query('BEGIN');
  try {
    await bootstrap(client);
    const { rows } = await client.query<Omit<Migration, 'sql'>>(
      'SELECT version, name, checksum FROM crucible.schema_migrations ORDER BY version',
    );
    const pending = verify(migrations, rows);
    for (const migration of pending) {
      onProgress(`applying ${migration.name}`);
      await client.query(migration.sql);
      await client.query('INSERT INTO crucible.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)', [
        migration.version, migration.name, migration.checksum,
      ]);
    }
    await client.query(grants);
    await client.query('COMMIT');
    return { version: migrations.length, applied: pending.map(({ name }) => name) };
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

async function bootstrap(client: Client): Promise<void> {
  try {
    // Not CREATE … IF NOT EXISTS: that wants the right to create even where an administrator has made the schema.
    const { rows } = await client.query(`SELECT to_regnamespace('crucible') IS NOT NULL AS exists`);
    if (!rows[0].exists) await client.query('CREATE SCHEMA crucible');
    await client.query(BOOTSTRAP);
  } catch (error) {
    if ((error as { code?: string }).code !== '42501') throw error;
    throw new MigrationError(
      'The database user may not create the schema crucible here. Have an administrator run: CREATE SCHEMA crucible AUTHORIZATION …;',
    );
  }
}

/** What is still to apply. Refuses a history that is not a prefix of ours. */
export function verify(migrations: readonly Migration[], applied: readonly Omit<Migration, 'sql'>[]): Migration[] {
  for (const { version, name, checksum } of applied) {
    const known = migrations[version - 1];
    if (known === undefined) {
      throw new MigrationError(`The database is newer than this image: it has ${name}. Use the image that migrated it, or a newer one.`);
    }
    if (known.checksum !== checksum) {
      throw new MigrationError(
        `${known.name} was changed after it had been applied (as ${name}). Applied migrations are never edited: restore the file and add a new one.`,
      );
    }
  }
  return migrations.slice(applied.length);
}

