// The command that brings the database to this image's schema: run before the other processes use it, any number at once.
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { MigrationError, UnavailableError } from './errors.ts';
import { migrate } from './migrations.ts';
import type { RolePasswords } from './roles.ts';

// Printable ASCII: what every client, proxy and DSN treats alike.
const password = z.string().regex(/^[\x21-\x7e]{8,256}$/, 'must be 8 to 256 printable ASCII characters').optional();

const environment = z.object({
  CRUCIBLE_DATABASE_URL: z.string({ error: 'is required: the DSN of the database owner' }).regex(/^postgres(ql)?:\/\//, 'must start with postgresql://'),
  CRUCIBLE_ROLE_PASSWORD_OPERATOR: password,
  CRUCIBLE_ROLE_PASSWORD_RECORDER: password,
  CRUCIBLE_ROLE_PASSWORD_API: password,
  CRUCIBLE_MIGRATE_TIMEOUT_SECONDS: z.coerce.number().int().min(1).max(3600).default(120),
});

interface Config {
  connectionString: string;
  rolePasswords: RolePasswords;
  timeoutSeconds: number;
}

/** The issues name variables and never repeat their values. */
function parse(env: NodeJS.ProcessEnv): Config {
  // An optional secret that is mounted empty is one that is not given.
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const { success, data, error } = environment.safeParse(given);
  if (!success) throw new MigrationError(error.issues.map(({ path, message }) => `${path.join('.')} ${message}.`).join(' '));
  const passwords = {
    crucible_operator: data.CRUCIBLE_ROLE_PASSWORD_OPERATOR,
    crucible_recorder: data.CRUCIBLE_ROLE_PASSWORD_RECORDER,
    crucible_api: data.CRUCIBLE_ROLE_PASSWORD_API,
  };
  return {
    connectionString: data.CRUCIBLE_DATABASE_URL,
    rolePasswords: Object.fromEntries(Object.entries(passwords).filter(([, value]) => value !== undefined)) as RolePasswords,
    timeoutSeconds: data.CRUCIBLE_MIGRATE_TIMEOUT_SECONDS,
  };
}

/** Repeats while Postgres is away, until the limit. */
async function migrateWhenAvailable({ timeoutSeconds, ...options }: Config): Promise<string> {
  const deadline = performance.now() + timeoutSeconds * 1000;
  let last = '';
  for (;;) {
    try {
      const { version, applied } = await migrate({ ...options, onProgress: say });
      const what = applied.length === 0 ? 'nothing to apply' : `applied ${applied.join(', ')}`;
      return `The database is at schema version ${version} (${what}).`;
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (performance.now() > deadline) throw new MigrationError(`Gave up after ${timeoutSeconds} s: ${error.message}.`);
      if (error.message !== last) say(`waiting: ${error.message}`);
      last = error.message;
      await sleep(1_000);
    }
  }
}

function say(message: string): void {
  console.log(`migrate: ${message}`);
}

try {
  say(await migrateWhenAvailable(parse(process.env)));
} catch (error) {
  console.error(`migrate: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
