import { isIP } from 'node:net';
import { z } from 'zod';

const schema = z.object({
  CRUCIBLE_DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, 'a postgres:// URL'),
  CRUCIBLE_TLS_CERT: z.string().startsWith('/', 'an absolute path').optional(),
  CRUCIBLE_TLS_KEY: z.string().startsWith('/', 'an absolute path').optional(),
  CRUCIBLE_INSECURE_DEV: z.enum(['true', 'false']).default('false'),
  HOST: z.string().refine((host) => isIP(host) !== 0, 'an IP address').default('0.0.0.0'),
  PORT: z.coerce.number().int().min(0).max(65_535).default(8443),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
});

export interface ApiConfig {
  readonly databaseUrl: string;
  /** Paths of certificate and key (PEM); undefined only for plain HTTP on loopback. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly host: string;
  readonly port: number;
  readonly logLevel: string;
}

const isLoopback = (host: string): boolean => host === '::1' || host.startsWith('127.');

/**
 * The only reader of this process's environment. Throws with every mistake in one message, without values.
 * Without a certificate it refuses: plain HTTP is for development, on loopback, when asked for by name.
 */
export function readConfig(env: Readonly<Record<string, string | undefined>> = process.env): ApiConfig {
  const parsed = schema.safeParse(env);
  if (!parsed.success) {
    const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new Error(`the API's configuration is wrong: ${mistakes.join('; ')}`);
  }
  const { CRUCIBLE_TLS_CERT: cert, CRUCIBLE_TLS_KEY: key, CRUCIBLE_INSECURE_DEV: insecure, ...values } = parsed.data;
  if (insecure === 'true' ? !isLoopback(values.HOST) : cert === undefined || key === undefined) {
    throw new Error(
      'the API serves HTTPS only: set CRUCIBLE_TLS_CERT and CRUCIBLE_TLS_KEY to a certificate and its key, ' +
        'or for development CRUCIBLE_INSECURE_DEV=true with HOST=127.0.0.1',
    );
  }
  return {
    databaseUrl: values.CRUCIBLE_DATABASE_URL,
    tls: insecure === 'true' || cert === undefined || key === undefined ? undefined : { cert, key },
    host: values.HOST,
    port: values.PORT,
    logLevel: values.LOG_LEVEL,
  };
}
