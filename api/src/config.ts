import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { parseFileStoreUrl } from '@crucible/storage';
import type { FileStoreCredentials, FileStoreLocation } from '@crucible/storage';
import { readOperatorConfig } from '@crucible/operator/sandbox';
import type { Settings } from '@crucible/operator/sandbox';
import * as z from 'zod';
import type { RateLimits } from './http/rate-limit.ts';

const path = z.string().startsWith('/', 'an absolute path');
const perMinute = (fallback: number) => z.coerce.number().int().min(1).max(10_000_000).default(fallback);

const schema = z.object({
  CRUCIBLE_DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, 'a postgres:// URL'),
  CRUCIBLE_REDIS_URL: z.string().regex(/^rediss?:\/\//, 'a redis:// URL').optional(),
  CRUCIBLE_FILE_STORE_URL: z.string().transform(toLocation),
  CRUCIBLE_FILE_STORE_ACCESS_KEY_FILE: path.optional(),
  CRUCIBLE_FILE_STORE_SECRET_KEY_FILE: path.optional(),
  CRUCIBLE_KUBECONFIG: path.optional(),
  /** Of this process, where a pod has it elsewhere: a folder with `token` and `ca.crt`. */
  CRUCIBLE_SERVICE_ACCOUNT_DIR: path.optional(),
  CRUCIBLE_TLS_CERT: path.optional(),
  CRUCIBLE_TLS_KEY: path.optional(),
  CRUCIBLE_TLS_POLL_SECONDS: z.coerce.number().min(0.1).max(3600).default(5),
  CRUCIBLE_INSECURE_DEV: z.enum(['true', 'false']).default('false'),
  /** One secret a line; the first is used for new sessions. */
  CRUCIBLE_SESSION_KEY_FILE: path.optional(),
  /** Ed25519, PEM: signs evidence bundles. */
  CRUCIBLE_SIGNING_KEY_FILE: path.optional(),
  /** Where the dashboard's files are; without it only the API is served. */
  CRUCIBLE_DASHBOARD_DIR: path.optional(),
  /** Proxies whose X-Forwarded-For is believed: addresses and networks, separated by commas. */
  CRUCIBLE_TRUSTED_PROXIES: z.string().default(''),
  CRUCIBLE_RATE_CLIENT: perMinute(6000),
  CRUCIBLE_RATE_READ: perMinute(1200),
  CRUCIBLE_RATE_WRITE: perMinute(300),
  CRUCIBLE_RATE_STREAM: perMinute(300),
  CRUCIBLE_RATE_DOWNLOAD: perMinute(600),
  CRUCIBLE_RATE_SESSION: perMinute(30),
  CRUCIBLE_MAX_STREAMS: z.coerce.number().int().min(1).max(100_000).default(5000),
  /** The newest events, for streams: who is further behind is told from Postgres. */
  CRUCIBLE_KEPT_EVENTS: z.coerce.number().int().min(1).max(1_000_000).default(5000),
  CRUCIBLE_MAX_STREAMS_PER_CALLER: z.coerce.number().int().min(1).max(100_000).default(100),
  /** For tests: each answer is compared with the contract before it is sent, which takes longer than to write it. */
  CRUCIBLE_CHECK_ANSWERS: z.enum(['true', 'false']).default('false'),
  CRUCIBLE_SHUTDOWN_SECONDS: z.coerce.number().int().min(1).max(600).default(20),
  HOST: z.string().refine((host) => isIP(host) !== 0, 'an IP address').default('0.0.0.0'),
  PORT: z.coerce.number().int().min(0).max(65_535).default(8443),
  METRICS_HOST: z.string().refine((host) => isIP(host) !== 0, 'an IP address').default('0.0.0.0'),
  METRICS_PORT: z.coerce.number().int().min(0).max(65_535).default(8080),
  HOSTNAME: z.string().min(1).default('api'),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
});

export interface ApiConfig {
  readonly databaseUrl: string;
  readonly redisUrl: string | undefined;
  readonly files: { readonly location: FileStoreLocation; readonly credentials: () => FileStoreCredentials | undefined };
  readonly kubeconfig: string | undefined;
  readonly serviceAccountRoot: string | undefined;
  /** Paths of certificate and key (PEM); undefined only for plain HTTP on loopback. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly tlsPollSeconds: number;
  readonly sessionSecrets: readonly string[];
  readonly signingKeyFile: string | undefined;
  readonly dashboardDirectory: string | undefined;
  readonly trustedProxies: readonly string[];
  readonly rateLimits: RateLimits;
  readonly keptEvents: number;
  readonly maxStreams: number;
  readonly maxStreamsPerCaller: number;
  readonly checkAnswers: boolean;
  readonly shutdownSeconds: number;
  readonly host: string;
  readonly port: number;
  readonly metrics: { readonly host: string; readonly port: number };
  readonly instance: string;
  readonly logLevel: string;
  /** The operator's, for plans: the chart gives both processes the same. */
  readonly operator: Settings;
}

type Values = z.output<typeof schema>;
const isLoopback = (host: string): boolean => host === '::1' || host.startsWith('127.');
const words = (text: string): string[] => text.split(/[\s,]+/).filter((word) => word !== '');

/**
 * The only reader of this process's environment. Throws with every mistake in one message, without values.
 * Without a certificate it refuses: plain HTTP is for development, on loopback, when asked for by name.
 */
export function readConfig(env: Readonly<Record<string, string | undefined>> = process.env): ApiConfig {
  // A chart writes an empty string where nothing is set.
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new Error(`the API's configuration is wrong: ${mistakes.join('; ')}`);
  }
  const values = parsed.data;
  return {
    databaseUrl: values.CRUCIBLE_DATABASE_URL,
    redisUrl: values.CRUCIBLE_REDIS_URL,
    files: { location: values.CRUCIBLE_FILE_STORE_URL, credentials: () => fileStoreCredentials(values) },
    kubeconfig: values.CRUCIBLE_KUBECONFIG,
    serviceAccountRoot: values.CRUCIBLE_SERVICE_ACCOUNT_DIR,
    tls: tlsFiles(values),
    tlsPollSeconds: values.CRUCIBLE_TLS_POLL_SECONDS,
    sessionSecrets: sessionSecrets(values.CRUCIBLE_SESSION_KEY_FILE),
    signingKeyFile: values.CRUCIBLE_SIGNING_KEY_FILE,
    dashboardDirectory: values.CRUCIBLE_DASHBOARD_DIR,
    trustedProxies: words(values.CRUCIBLE_TRUSTED_PROXIES),
    rateLimits: {
      client: values.CRUCIBLE_RATE_CLIENT,
      read: values.CRUCIBLE_RATE_READ,
      write: values.CRUCIBLE_RATE_WRITE,
      stream: values.CRUCIBLE_RATE_STREAM,
      download: values.CRUCIBLE_RATE_DOWNLOAD,
      session: values.CRUCIBLE_RATE_SESSION,
    },
    keptEvents: values.CRUCIBLE_KEPT_EVENTS,
    maxStreams: values.CRUCIBLE_MAX_STREAMS,
    maxStreamsPerCaller: values.CRUCIBLE_MAX_STREAMS_PER_CALLER,
    checkAnswers: values.CRUCIBLE_CHECK_ANSWERS === 'true',
    shutdownSeconds: values.CRUCIBLE_SHUTDOWN_SECONDS,
    host: values.HOST,
    port: values.PORT,
    metrics: { host: values.METRICS_HOST, port: values.METRICS_PORT },
    instance: values.HOSTNAME,
    logLevel: values.LOG_LEVEL,
    operator: readOperatorConfig({ ...given, PORT: undefined, HOSTNAME: undefined }).settings,
  };
}

function tlsFiles(values: Values): ApiConfig['tls'] {
  const { CRUCIBLE_TLS_CERT: cert, CRUCIBLE_TLS_KEY: key, CRUCIBLE_INSECURE_DEV: insecure } = values;
  if (insecure === 'true' ? !isLoopback(values.HOST) : cert === undefined || key === undefined) {
    throw new Error(
      'the API serves HTTPS only: set CRUCIBLE_TLS_CERT and CRUCIBLE_TLS_KEY to a certificate and its key, ' +
        'or for development CRUCIBLE_INSECURE_DEV=true with HOST=127.0.0.1',
    );
  }
  return insecure === 'true' || cert === undefined || key === undefined ? undefined : { cert, key };
}

const MIN_SECRET_CHARACTERS = 32;

function sessionSecrets(file: string | undefined): string[] {
  if (file === undefined) return [];
  const secrets = words(readFileSync(file, 'utf8'));
  if (secrets.length === 0 || secrets.some((secret) => secret.length < MIN_SECRET_CHARACTERS))
    throw new Error(`CRUCIBLE_SESSION_KEY_FILE: secrets of at least ${MIN_SECRET_CHARACTERS} characters, one a line`);
  return secrets;
}

function fileStoreCredentials(values: Values): FileStoreCredentials | undefined {
  const { CRUCIBLE_FILE_STORE_ACCESS_KEY_FILE: access, CRUCIBLE_FILE_STORE_SECRET_KEY_FILE: secret } = values;
  if (access === undefined || secret === undefined) return undefined;
  return { accessKeyId: readFileSync(access, 'utf8').trim(), secretAccessKey: readFileSync(secret, 'utf8').trim() };
}

function toLocation(value: string, context: z.RefinementCtx<string>): FileStoreLocation {
  try {
    return parseFileStoreUrl(value);
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
}
