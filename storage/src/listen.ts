import { Client } from 'pg';

/** `connected`: look at everything, notifications before it may be lost. */
export type ListenSignal = { type: 'connected' } | { type: 'notification'; payload: string };

export interface ListenerOptions {
  connectionString: string;
  applicationName: string;
  channel: string;
  onSignal: (signal: ListenSignal) => void;
  minBackoffMilliseconds?: number;
  maxBackoffMilliseconds?: number;
  /** A connection on which nothing comes back within this time is replaced: half-open TCP looks like silence. */
  pingMilliseconds?: number;
  random?: () => number;
}

const DEFAULTS = { minBackoffMilliseconds: 100, maxBackoffMilliseconds: 10_000, pingMilliseconds: 15_000, random: Math.random };
const CONNECT_TIMEOUT_MILLISECONDS = 5_000;
/** As long as this a connection must have lived to count as a success that resets the backoff. */
const HEALTHY_MILLISECONDS = 5_000;

/** One connection that LISTENs, and its successors, until close(). Made by Database.listen(). */
export class Listener {
  readonly #options: Required<ListenerOptions>;
  readonly #stopping = new AbortController();
  readonly #done: Promise<void>;

  constructor(options: ListenerOptions) {
    this.#options = { ...DEFAULTS, ...options };
    this.#done = this.#supervise();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#done;
  }

  async #supervise(): Promise<void> {
    const { minBackoffMilliseconds: min, maxBackoffMilliseconds: max, random } = this.#options;
    const { signal } = this.#stopping;
    let backoff = min;
    while (!signal.aborted) {
      const startedAt = performance.now();
      await this.#connection().catch(() => undefined);
      backoff = performance.now() - startedAt > HEALTHY_MILLISECONDS ? min : Math.min(backoff * 2, max);
      await pause(backoff * (0.5 + random() / 2), signal);
    }
  }

  /** Settles when the connection has ended, for whatever reason. */
  async #connection(): Promise<void> {
    const { connectionString, applicationName, channel, onSignal, pingMilliseconds } = this.#options;
    const client = new Client({
      connectionString,
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MILLISECONDS,
      query_timeout: pingMilliseconds,
      keepAlive: true,
    });
    const stopping = this.#stopping.signal;
    const ended = Promise.withResolvers<void>();
    const end = () => ended.resolve();
    client.on('error', end);
    client.on('end', end);
    stopping.addEventListener('abort', end);
    client.on('notification', ({ payload }) => onSignal({ type: 'notification', payload: payload ?? '' }));
    let ping: NodeJS.Timeout | undefined;
    try {
      const connected = client.connect();
      connected.catch(end);
      await Promise.race([connected, ended.promise]);
      if (stopping.aborted) return;
      await client.query(`LISTEN ${client.escapeIdentifier(channel)}`);
      onSignal({ type: 'connected' });
      const lost = new Promise<void>((_, reject) => {
        ping = setInterval(() => void client.query('SELECT 1').catch(reject), pingMilliseconds);
      });
      await Promise.race([ended.promise, lost]);
    } finally {
      clearInterval(ping);
      stopping.removeEventListener('abort', end);
      await closed(client);
    }
  }
}

/** end() waits for the server's farewell, which never comes on a dead connection. */
export async function closed(client: Client): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const end = client.end().catch(() => undefined);
  await Promise.race([end, new Promise((resolve) => (timer = setTimeout(resolve, 1_000)))]);
  clearTimeout(timer);
}

/** Resolves early when the signal aborts. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done);
  });
}
