import { Pool, types } from 'pg';
import type { CustomTypesConfig, PoolClient } from 'pg';
import { QueryError, StorageError, UnavailableError, toStorageError } from './errors.ts';
import { runExclusively } from './exclusive.ts';
import { safeText } from './json.ts';
import { Listener } from './listen.ts';
import type { ListenSignal } from './listen.ts';
import { Turns } from './turns.ts';

/** Something that runs statements: the pool, or one transaction. */
export interface Queryable {
  query<R extends object = Record<string, unknown>>(text: string, values?: readonly unknown[]): Promise<Result<R>>;
}

export interface Result<R> {
  rows: R[];
  rowCount: number;
}

/** Handed to the callback of Database.transaction(). Pass it to repository methods to make them part of it. */
export interface Transaction extends Queryable {
  readonly transaction: true;
}

export interface DatabaseOptions {
  connectionString: string;
  /** Shown in pg_stat_activity. */
  applicationName?: string;
  /** Connections at most, listeners aside. */
  poolSize?: number;
  statementTimeoutSeconds?: number;
  /** For a new connection, and for a free one when all are in use. */
  connectTimeoutSeconds?: number;
  /**
   * Whoever finds all connections in use waits in turn for as long as others are answered, and fails only once nobody has
   * been for connectTimeoutSeconds: for a process whose crowd is its own, and that must not take it for Postgres being away.
   */
  patient?: boolean;
  /**
   * Statements are planned once for each connection: for processes that repeat few statements by key. Not for those
   * whose best plan depends on the values: those name the texts that are (READS_BY_KEY).
   */
  prepared?: boolean | ReadonlySet<string>;
}

const DEFAULTS = { applicationName: 'crucible', poolSize: 8, statementTimeoutSeconds: 15, connectTimeoutSeconds: 5 };
// A half-open connection answers never: the client gives up this long after the server should have.
const SERVER_SILENCE_SECONDS = 5;
const DEADLOCK_RETRIES = 3;
/** Beyond this many texts, somebody makes them up as he goes: those are not kept. */
const MAX_PREPARED = 500;
const INT8 = 20;

// Sequence numbers, sizes and epochs are int8, which the driver gives as strings. All are far below 2^53.
function int8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new QueryError(`an integer of Postgres is too large: ${text}`, undefined);
  return value;
}

const TYPES: CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === INT8 && format !== 'binary' ? int8 : types.getTypeParser(oid, format)) as CustomTypesConfig['getTypeParser'],
};

/**
 * A bounded pool. Connects lazily: constructing it needs no server, and every method throws UnavailableError while there
 * is none. Repositories take it as their constructor argument.
 */
export class Database implements Queryable {
  readonly #options: DatabaseOptions;
  readonly #pool: Pool;
  readonly #listeners = new Set<Listener>();
  readonly #names: StatementNames | undefined;
  readonly #turns: Turns | undefined;

  constructor(options: DatabaseOptions) {
    const { prepared } = options;
    if (prepared !== undefined && prepared !== false) this.#names = new StatementNames(prepared === true ? undefined : prepared);
    this.#options = options;
    const merged = { ...DEFAULTS, ...options };
    if (options.patient === true) this.#turns = new Turns(merged.poolSize, merged.connectTimeoutSeconds * 1000);
    this.#pool = new Pool({
      connectionString: options.connectionString,
      application_name: merged.applicationName,
      max: merged.poolSize,
      connectionTimeoutMillis: merged.connectTimeoutSeconds * 1000,
      idleTimeoutMillis: 30_000,
      statement_timeout: merged.statementTimeoutSeconds * 1000,
      // Someone who was paused in a transaction must not hold a row lock for the others.
      idle_in_transaction_session_timeout: merged.statementTimeoutSeconds * 1000,
      query_timeout: (merged.statementTimeoutSeconds + SERVER_SILENCE_SECONDS) * 1000,
      keepAlive: true,
      types: TYPES,
    });
    // A broken connection is an error of the query that uses it; without a listener it would end the process.
    this.#pool.on('error', ignore);
    this.#pool.on('connect', (client) => client.on('error', ignore));
  }

  /** One statement in a transaction of its own. */
  query<R extends object = Record<string, unknown>>(text: string, values: readonly unknown[] = []): Promise<Result<R>> {
    return this.#withClient((client) => run<R>(this.#statements(client), text, values));
  }

  /**
   * Runs `work` in one transaction: commits when it returns, rolls back when it throws. Deadlocks are repeated, so `work`
   * must not have effects outside the transaction. Throws UnavailableError (with commitUnknown when the connection was
   * lost while committing: repeat, everything here is idempotent), ConflictError, … and whatever `work` throws.
   */
  async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    for (let retry = 0; ; retry += 1) {
      try {
        return await this.#withClient((client) => transact(this.#statements(client), work));
      } catch (error) {
        if (retry >= DEADLOCK_RETRIES || !isDeadlock(error)) throw error;
      }
    }
  }

  /**
   * LISTENs on a connection of its own that reconnects for ever with capped backoff. `onSignal` is called with
   * `connected` after the first connect and after every reconnect, because notifications in between are lost: look at
   * everything then. It must not throw.
   */
  listen(channel: string, onSignal: (signal: ListenSignal) => void): Listener {
    const listener = new Listener({
      connectionString: this.#options.connectionString,
      applicationName: `${this.#options.applicationName ?? DEFAULTS.applicationName} listen`,
      channel,
      onSignal,
    });
    this.#listeners.add(listener);
    return listener;
  }

  /**
   * Runs `work` while this process holds the advisory lock `key`, on a connection of its own, again and again until the
   * signal aborts. See runExclusively.
   */
  async exclusively(
    key: number,
    signal: AbortSignal,
    work: (held: AbortSignal) => Promise<void>,
    onTrouble?: (reason: string | undefined) => void,
  ): Promise<void> {
    const applicationName = `${this.#options.applicationName ?? DEFAULTS.applicationName} lock`;
    const { connectionString } = this.#options;
    await runExclusively({ connectionString, applicationName, key, signal, ...(onTrouble !== undefined && { onTrouble }) }, work);
  }

  /** How many connections are open, idle, and how many callers wait for one: for metrics. */
  get usage(): { open: number; idle: number; waiting: number } {
    return { open: this.#pool.totalCount, idle: this.#pool.idleCount, waiting: this.#pool.waitingCount + (this.#turns?.waiting ?? 0) };
  }

  /** Waits for what runs, then closes everything, listeners too. */
  async close(): Promise<void> {
    await Promise.all([...this.#listeners].map((listener) => listener.close()));
    await this.#pool.end();
  }

  #statements(client: PoolClient): Connection {
    return { client, names: this.#names, answered: () => this.#turns?.answered() };
  }

  #withClient<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    return this.#turns === undefined ? this.#onClient(work) : this.#inTurn(this.#turns, work);
  }

  async #inTurn<T>(turns: Turns, work: (client: PoolClient) => Promise<T>): Promise<T> {
    await turns.take();
    try {
      return await this.#onClient(work);
    } finally {
      turns.giveBack();
    }
  }

  async #onClient<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    let client: PoolClient;
    try {
      client = await this.#pool.connect();
    } catch (error) {
      throw toStorageError(error);
    }
    let broken = false;
    try {
      return await work(client);
    } catch (error) {
      // After a time-out the old statement may still run on it; a connection that failed is not worth a second try.
      broken = error instanceof UnavailableError && !isDeadlock(error);
      throw error;
    } finally {
      client.release(broken);
    }
  }
}

export function connect(options: DatabaseOptions | string): Database {
  return new Database(typeof options === 'string' ? { connectionString: options } : options);
}

/** Runs in the caller's transaction when there is one, else in one of its own. */
export function inTransaction<T>(db: Database, tx: Transaction | undefined, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return tx === undefined ? db.transaction(work) : work(tx);
}

interface Connection {
  readonly client: PoolClient;
  /** undefined when none are prepared. */
  readonly names: StatementNames | undefined;
  readonly answered: () => void;
}

async function transact<T>(connection: Connection, work: (tx: Transaction) => Promise<T>): Promise<T> {
  await run(connection, 'BEGIN', []);
  let result: T;
  try {
    result = await work({ transaction: true, query: (text, values = []) => run(connection, text, values) });
  } catch (error) {
    await run(connection, 'ROLLBACK', []).catch((rollbackError: unknown) => {
      // The connection is gone, and with it the transaction; say so, so that it is not used again.
      if (!(error instanceof UnavailableError)) throw toStorageError(rollbackError);
    });
    throw error;
  }
  await commit(connection.client);
  return result;
}

async function commit(client: PoolClient): Promise<void> {
  let command: string;
  try {
    command = (await client.query('COMMIT')).command;
  } catch (error) {
    const known = toStorageError(error);
    if (!(known instanceof UnavailableError) || isDeadlock(known)) throw known;
    throw new UnavailableError(known.message, { cause: known.cause, commitUnknown: true });
  }
  // COMMIT of a failed transaction succeeds as ROLLBACK: somebody swallowed an error.
  if (command !== 'COMMIT') throw new QueryError('the transaction was rolled back because a statement in it failed', undefined);
}

async function run<R extends object>({ client, names, answered }: Connection, text: string, values: readonly unknown[]): Promise<Result<R>> {
  try {
    const safe = values.map((value) => (typeof value === 'string' ? safeText(value) : value));
    const name = names === undefined || values.length === 0 ? undefined : names.of(text);
    const { rows, rowCount } = await client.query<R>(name === undefined ? { text, values: safe } : { text, values: safe, name });
    answered();
    return { rows, rowCount: rowCount ?? 0 };
  } catch (error) {
    const known = toStorageError(error);
    if (!(known instanceof UnavailableError)) answered();
    throw known;
  }
}

/** Of prepared statements, by their text. */
class StatementNames {
  readonly #only: ReadonlySet<string> | undefined;
  readonly #names = new Map<string, string>();

  constructor(only: ReadonlySet<string> | undefined) {
    this.#only = only;
  }

  of(text: string): string | undefined {
    const known = this.#names.get(text);
    if (known !== undefined || this.#names.size >= MAX_PREPARED || this.#only?.has(text) === false) return known;
    const name = `s${this.#names.size}`;
    this.#names.set(text, name);
    return name;
  }
}

function isDeadlock(error: unknown): boolean {
  const code = error instanceof StorageError ? (error.cause as { code?: string } | undefined)?.code : undefined;
  return code === '40P01' || code === '40001';
}

function ignore(): void {}
