import { Redis } from 'ioredis';

export interface RedisOptions {
  /** redis:// or rediss://, with user, password and database number. One database for one installation. */
  url: string;
  connectionName?: string;
  /** For one command. A slow Redis is as good as none. */
  commandTimeoutMilliseconds?: number;
  maxBackoffMilliseconds?: number;
  /** Commands of one turn of the event loop go out in one write. Not for a connection that blocks or subscribes. */
  batch?: boolean;
}

const COMMAND_TIMEOUT_MILLISECONDS = 2_000;
const CONNECT_TIMEOUT_MILLISECONDS = 3_000;
const MIN_BACKOFF_MILLISECONDS = 100;
const MAX_BACKOFF_MILLISECONDS = 5_000;
/** A socket that gave no answer to a command for this long is replaced: half-open TCP looks like silence. */
const STALE_SOCKET_MILLISECONDS = 10_000;

/**
 * Redis or Valkey. Connects in the background and for ever; while there is none every command fails at once instead of
 * waiting in a queue, so nobody who uses it is ever blocked by it.
 */
export function connectRedis(options: RedisOptions): Redis {
  const max = options.maxBackoffMilliseconds ?? MAX_BACKOFF_MILLISECONDS;
  const redis = new Redis(options.url, {
    connectionName: options.connectionName ?? 'crucible',
    connectTimeout: CONNECT_TIMEOUT_MILLISECONDS,
    commandTimeout: options.commandTimeoutMilliseconds ?? COMMAND_TIMEOUT_MILLISECONDS,
    socketTimeout: STALE_SOCKET_MILLISECONDS,
    keepAlive: 5_000,
    enableAutoPipelining: options.batch ?? false,
    enableOfflineQueue: false,
    // A command whose connection broke may have been done: that is for the caller to think about.
    autoResendUnfulfilledCommands: false,
    // Nobody would catch it when that fails, and the process would end: who subscribes does it again when it is ready.
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    disableClientInfo: true,
    protocol: 2,
    retryStrategy: (times) => Math.min(MIN_BACKOFF_MILLISECONDS * 2 ** Math.min(times, 16), max) * (0.5 + Math.random() / 2),
    // A replica after a failover: the address leads to the new primary when it is resolved again.
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
  });
  // Without a listener an unreachable server would end the process. Who uses it sees its own commands fail.
  redis.on('error', () => undefined);
  return redis;
}

export function isUp(redis: Redis): boolean {
  return redis.status === 'ready';
}

/** Why Redis refused or could not, without the address, which may hold a password. */
export function redisReason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  if (/^(OOM|NOAUTH|WRONGPASS|NOPERM|READONLY|LOADING|MISCONF|BUSY|NOSCRIPT)\b/.test(message)) return message.split(' ')[0] ?? 'refused';
  if (message.includes('timed out')) return 'timeout';
  return /isn't writeable|Connection is closed|ECONN|ENOTFOUND|EAI_AGAIN|EPIPE|ended|max retries per request|Socket closed/.test(message) ? 'unreachable' : 'refused';
}
