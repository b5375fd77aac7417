import * as z from 'zod';
import { databaseUrl, list, logLevel, port, readEnvironment } from '../environment.ts';
import { storageConfig, storageVariables, type StorageConfig } from './storage-config.ts';

const seconds = (fallback: number) => z.coerce.number().int().min(1).max(3600).default(fallback);

const schema = z.object({
  CRUCIBLE_DATABASE_URL: databaseUrl,
  // Empty or absent: no Redis. It is only speed.
  CRUCIBLE_REDIS_URL: z
    .string()
    .regex(/^(rediss?:\/\/.+)?$/, 'a redis:// URL')
    .default(''),
  CRUCIBLE_NAMESPACES: list(z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'a namespace name')),
  ...storageVariables,
  CRUCIBLE_DATA_DIR: z.string().startsWith('/', 'an absolute path'),
  CRUCIBLE_MAX_FOLLOWS: z.coerce.number().int().min(1).max(10_000).default(500),
  CRUCIBLE_MAX_FINAL_READS: z.coerce.number().int().min(1).max(100).default(4),
  CRUCIBLE_MAX_SPOOL_BYTES: z.coerce
    .number()
    .int()
    .min(0)
    .default(1024 ** 3),
  CRUCIBLE_SHUTDOWN_SECONDS: seconds(20),
  CRUCIBLE_KUBECONFIG: z.string().min(1).optional(),
  // The pod's name: a container restarted in its pod takes its own captures up again at once.
  HOSTNAME: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,200}$/)
    .default('recorder'),
  LOG_LEVEL: logLevel,
  PORT: port,
});

export interface RecorderConfig {
  readonly databaseUrl: string;
  readonly redisUrl: string | undefined;
  /** Evaluation namespaces; none is allowed, and idle. */
  readonly namespaces: readonly string[];
  readonly dataDir: string;
  readonly storage: StorageConfig;
  readonly maxFollows: number;
  readonly maxFinalReads: number;
  readonly maxSpoolBytes: number;
  readonly shutdownSeconds: number;
  readonly kubeconfig: string | undefined;
  readonly id: string;
  readonly logLevel: string;
  readonly port: number;
}

/** The only reader of this process's environment. Throws with every mistake in one message, without values. */
export function readConfig(env: Readonly<Record<string, string | undefined>> = process.env): RecorderConfig {
  const values = readEnvironment(schema, env, 'recorder');
  return {
    databaseUrl: values.CRUCIBLE_DATABASE_URL,
    redisUrl: values.CRUCIBLE_REDIS_URL || undefined,
    namespaces: values.CRUCIBLE_NAMESPACES,
    dataDir: values.CRUCIBLE_DATA_DIR,
    storage: storageConfig(values),
    maxFollows: values.CRUCIBLE_MAX_FOLLOWS,
    maxFinalReads: values.CRUCIBLE_MAX_FINAL_READS,
    maxSpoolBytes: values.CRUCIBLE_MAX_SPOOL_BYTES,
    shutdownSeconds: values.CRUCIBLE_SHUTDOWN_SECONDS,
    kubeconfig: values.CRUCIBLE_KUBECONFIG,
    id: values.HOSTNAME,
    logLevel: values.LOG_LEVEL,
    port: values.PORT,
  };
}
