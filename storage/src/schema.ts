import type { Queryable } from './database.ts';
import { MigrationError, QueryError, UnavailableError } from './errors.ts';
import type { SchemaState } from './types.ts';

/** The newest file in storage/migrations (a test compares). Here, so that a process needs no files to ask. */
export const SCHEMA_VERSION = 19;

const UNDEFINED_TABLE = '42P01';
const UNDEFINED_SCHEMA = '3F000';
/** The schema is there and the grants are not yet: they are made in the same transaction, so this is an old one. */
const NOT_PERMITTED = '42501';

/**
 * `ok`, or `behind`: wait for `migrate`; or `ahead`: this image is older than the database and must not touch it.
 * Throws UnavailableError while Postgres, the database or the role is not there.
 */
export async function schemaReady(db: Queryable): Promise<SchemaState> {
  try {
    const { rows } = await db.query<{ version: number | null }>('SELECT max(version) AS version FROM crucible.schema_migrations');
    const version = rows[0]?.version ?? 0;
    if (version === SCHEMA_VERSION) return 'ok';
    return version < SCHEMA_VERSION ? 'behind' : 'ahead';
  } catch (error) {
    if (error instanceof QueryError && [UNDEFINED_TABLE, UNDEFINED_SCHEMA, NOT_PERMITTED].includes(error.code ?? '')) return 'behind';
    throw error;
  }
}

export const WRONG_SCHEMA: Readonly<Record<Exclude<SchemaState, 'ok'>, string>> = {
  behind: 'the database is not migrated yet',
  ahead: 'the database is newer than this image',
};

export interface WaitForSchema {
  signal: AbortSignal;
  /** Called when the answer changes, with a constant sentence for the log. */
  onWait?: (reason: string) => void;
  intervalSeconds?: number;
}

/** Returns once the schema is `ok`. Waits for ever while it is not, also when it is ahead: a rollback may follow. */
export async function waitForSchema(db: Queryable, options: WaitForSchema): Promise<void> {
  await waitWhile(db, options, () => true);
}

/** Waits while the schema is another one. Returns at once when nobody can say: whoever goes on uses a CheckedDatabase. */
export async function waitForSchemaUnlessAway(db: Queryable, options: WaitForSchema): Promise<'ok' | 'away'> {
  return await waitWhile(db, options, ({ away }) => !away);
}

/** Returns once the schema is `ok`; throws when it turns out to be another one. */
export async function confirmSchema(db: Queryable, options: WaitForSchema): Promise<void> {
  await waitWhile(db, options, ({ away, reason }) => {
    if (!away) throw new MigrationError(`${reason}: nothing can be done with it`);
    return true;
  });
}

interface Doubt {
  /** A constant sentence. */
  readonly reason: string;
  /** It cannot be asked; otherwise it is another one. */
  readonly away: boolean;
}

async function waitWhile(db: Queryable, options: WaitForSchema, worthIt: (doubt: Doubt) => boolean): Promise<'ok' | 'away'> {
  let last: string | undefined;
  for (;;) {
    options.signal.throwIfAborted();
    const doubt = await doubtOf(db);
    if (doubt === undefined) return 'ok';
    if (doubt.reason !== last) options.onWait?.(doubt.reason);
    last = doubt.reason;
    if (!worthIt(doubt)) return 'away';
    await delay((options.intervalSeconds ?? 1) * 1000, options.signal);
  }
}

async function doubtOf(db: Queryable): Promise<Doubt | undefined> {
  try {
    const state = await schemaReady(db);
    return state === 'ok' ? undefined : { reason: WRONG_SCHEMA[state], away: false };
  } catch (error) {
    if (error instanceof UnavailableError) return { reason: error.message, away: true };
    throw error;
  }
}

function delay(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, milliseconds);
    signal.addEventListener('abort', finish);
  });
}
