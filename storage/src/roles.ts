import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { escapeIdentifier, escapeLiteral } from 'pg';
import type { Client } from 'pg';
import { MigrationError } from './errors.ts';

export const ROLES = ['crucible_operator', 'crucible_recorder', 'crucible_api'] as const;
export type RoleName = (typeof ROLES)[number];
export type RolePasswords = Partial<Record<RoleName, string>>;

const SCRAM_ITERATIONS = 4096;
const NOT_PERMITTED = '42501';
/** Roles belong to the whole server: somebody who migrates another database of it may do the same at this moment. */
const CONCURRENT = new Set(['23505', '42710', 'XX000']);
const CONCURRENT_TRIES = 10;

/** Creates the roles that do not exist and sets the passwords that are given. Idempotent; never logs a password. */
export async function ensureRoles(client: Client, passwords: RolePasswords, roles: readonly string[] = ROLES): Promise<void> {
  await createMissing(client, roles);
  for (const role of ROLES) {
    const password = passwords[role];
    if (password !== undefined) await setPassword(client, role, password);
  }
}

async function createMissing(client: Client, roles: readonly string[]): Promise<void> {
  const { rows } = await client.query<{ rolname: string }>('SELECT rolname FROM pg_roles WHERE rolname = ANY($1)', [roles]);
  const missing = roles.filter((role) => !rows.some(({ rolname }) => rolname === role));
  for (const role of missing) {
    try {
      await repeated(() => client.query(`CREATE ROLE ${escapeIdentifier(role)}`), '42710');
    } catch (error) {
      if (!isCode(error, NOT_PERMITTED)) throw error;
      const statements = missing.map((name) => `CREATE ROLE ${name} LOGIN PASSWORD '…';`).join(' ');
      throw new MigrationError(
        `The database user may not create roles. Have an administrator run: ${statements} Then start again without role passwords.`,
      );
    }
  }
}

async function setPassword(client: Client, role: RoleName, password: string): Promise<void> {
  try {
    // A verifier instead of the password: servers log statements.
    const verifier = escapeLiteral(scramVerifier(password));
    await repeated(() => client.query(`ALTER ROLE ${escapeIdentifier(role)} LOGIN PASSWORD ${verifier}`));
  } catch (error) {
    if (!isCode(error, NOT_PERMITTED)) throw error;
    throw new MigrationError(
      `The database user may not set the password of ${role}. Have an administrator set it, and start again without role passwords.`,
    );
  }
}

/** What Postgres stores for SCRAM-SHA-256 (RFC 5803). Passwords are printable ASCII, on which SASLprep does nothing. */
export function scramVerifier(password: string, salt: Buffer = randomBytes(16)): string {
  const salted = pbkdf2Sync(password, salt, SCRAM_ITERATIONS, 32, 'sha256');
  const hmac = (text: string) => createHmac('sha256', salted).update(text).digest();
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64');
  return `SCRAM-SHA-256$${SCRAM_ITERATIONS}:${salt.toString('base64')}$${storedKey}:${hmac('Server Key').toString('base64')}`;
}

async function repeated(statement: () => Promise<unknown>, doneCode?: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await statement();
      return;
    } catch (error) {
      const code = (error as { code?: string }).code ?? '';
      if (code === doneCode) return;
      if (!CONCURRENT.has(code) || attempt === CONCURRENT_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20 * attempt));
    }
  }
}

function isCode(error: unknown, code: string): boolean {
  return (error as { code?: unknown }).code === code;
}
