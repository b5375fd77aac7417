import { Client } from 'pg';
import { toStorageError } from './errors.ts';
import { closed, pause } from './listen.ts';

export interface ExclusiveOptions {
  connectionString: string;
  applicationName: string;
  /** Of the advisory lock: one number a purpose. */
  key: number;
  signal: AbortSignal;
  retryMilliseconds?: number;
  /** A connection on which nothing comes back within this time is given up, and the work with it. */
  pingMilliseconds?: number;
  /** Why there is no session that could hold the lock, when that begins or changes; undefined when there is one again. */
  onTrouble?: (reason: string | undefined) => void;
}

const RETRY_MILLISECONDS = 1_000;
const PING_MILLISECONDS = 5_000;
const CONNECT_TIMEOUT_MILLISECONDS = 5_000;
// The server has to notice a vanished client about as soon as the client notices a vanished server, or the lock stays.
const SESSION = 'SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2';

/**
 * Runs `work` whenever this process holds the lock, until the signal aborts. The lock is the session's: a process that is
 * killed loses it at once. `work` gets a signal that aborts when the session is lost; somebody else may have begun by
 * then, so the work itself has to stand two of its kind at once for a moment.
 */
export async function runExclusively(options: ExclusiveOptions, work: (held: AbortSignal) => Promise<void>): Promise<void> {
  let known: string | undefined;
  const tell = (reason: string | undefined): void => {
    if (reason !== known && !options.signal.aborted) options.onTrouble?.(reason);
    known = reason;
  };
  while (!options.signal.aborted) {
    await session(options, () => tell(undefined), work).catch((error: unknown) => tell(String(toStorageError(error))));
    await pause(options.retryMilliseconds ?? RETRY_MILLISECONDS, options.signal);
  }
}

async function session(options: ExclusiveOptions, onAnswer: () => void, work: (held: AbortSignal) => Promise<void>): Promise<void> {
  const lost = new AbortController();
  const held = AbortSignal.any([lost.signal, options.signal]);
  const client = new Client({
    connectionString: options.connectionString,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MILLISECONDS,
    query_timeout: CONNECT_TIMEOUT_MILLISECONDS,
    keepAlive: true,
  });
  client.on('error', () => lost.abort());
  client.on('end', () => lost.abort());
  let ping: NodeJS.Timeout | undefined;
  try {
    await client.connect();
    await client.query(SESSION);
    onAnswer();
    await acquire(client, options, held);
    if (held.aborted) return;
    ping = setInterval(() => void client.query('SELECT 1').catch(() => lost.abort()), options.pingMilliseconds ?? PING_MILLISECONDS);
    await work(held);
  } finally {
    clearInterval(ping);
    await closed(client);
  }
}

/** Asks again and again instead of waiting in the server: a waiting statement cannot be told from a dead connection. */
async function acquire(client: Client, options: ExclusiveOptions, held: AbortSignal): Promise<void> {
  while (!held.aborted) {
    const { rows } = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [options.key]);
    if (rows[0]?.locked === true) return;
    await pause(options.retryMilliseconds ?? RETRY_MILLISECONDS, held);
  }
}
