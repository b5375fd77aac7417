import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'pg';
import { SetupError, freePort, isExecutable } from './processes.ts';
import type { RunAs, Sandbox, Server } from './processes.ts';

const POSTGRES_SECONDS = 30;
const DEBIAN_FOLDER = '/usr/lib/postgresql';

/** A Postgres of its own on 127.0.0.1, with passwords as in production; returns the superuser's DSN. */
export async function startPostgres(sandbox: Sandbox): Promise<string> {
  // Nothing here outlives the run, so nothing needs to reach the disk.
  const postgres = createPostgres(sandbox, { synchronous_commit: 'off' });
  return await (await postgres).start();
}

/** A server on one data directory and one port, to be started, killed and started again. */
export interface RestartablePostgres {
  /** Of a superuser. */
  readonly dsn: string;
  /** Resolves with the DSN when it answers. */
  start(): Promise<string>;
  /** `SIGKILL` as the kernel would, `SIGINT` for an orderly, fast end; resolves when the process has ended. */
  stop(signal: 'SIGKILL' | 'SIGINT'): Promise<void>;
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
}

/**
 * Commits are kept when the process is killed unless `settings` says otherwise; without fsync, because the kernel
 * outlives it.
 */
export async function createPostgres(
  sandbox: Sandbox,
  settings: Readonly<Record<string, string>> = {},
): Promise<RestartablePostgres> {
  const binaries = binaryFolder();
  const runAs = unprivilegedUser();
  const folder = sandbox.folder('postgres', runAs);
  const data = join(folder, 'data');
  const password = randomBytes(16).toString('hex');
  initialise(join(binaries, 'initdb'), data, passwordFile(folder, password, runAs), runAs);
  const port = await freePort();
  const all = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    max_connections: '200',
    fsync: 'off',
    full_page_writes: 'off',
    ...settings,
  };
  const flags = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const dsn = `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
  let server: Server | undefined;
  return {
    dsn,
    start: async () => {
      const deadline = Date.now() + POSTGRES_SECONDS * 1000;
      for (;;) {
        server = sandbox.start('postgres', join(binaries, 'postgres'), ['-D', data, ...flags], runAs);
        try {
          await server.ready(() => answers(dsn), POSTGRES_SECONDS);
          return dsn;
        } catch (error) {
          // Processes of a server that was killed hold its memory until they notice; whoever starts it waits for that.
          if (!String(error).includes('still in use') || Date.now() > deadline) throw error;
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
      }
    },
    stop: async (signal) => {
      server?.signal(signal);
      await server?.ended();
    },
    signal: (signal) => server?.signal(signal),
  };
}

/** Of Debian's versions the newest; otherwise whatever is on PATH. */
function binaryFolder(): string {
  const versions = listFolder(DEBIAN_FOLDER)
    .map(Number)
    .filter(Number.isFinite)
    .sort((a, b) => b - a);
  const folders = [
    ...versions.map((version) => join(DEBIAN_FOLDER, String(version), 'bin')),
    ...(process.env['PATH'] ?? '').split(':'),
  ];
  const found = folders.find(
    (folder) => isExecutable(join(folder, 'initdb')) && isExecutable(join(folder, 'postgres')),
  );
  if (found === undefined) throw new SetupError('no Postgres server found: apt-get install postgresql');
  return found;
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Postgres refuses to run as root; without root it runs as whoever runs the tests. */
function unprivilegedUser(): RunAs | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  for (const name of ['postgres', 'nobody']) {
    const [, , uid, gid] = users.find(([user]) => user === name) ?? [];
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new SetupError(
    'Postgres cannot run as root and there is no user postgres or nobody: apt-get install postgresql',
  );
}

function passwordFile(folder: string, password: string, owner: RunAs | undefined): string {
  const path = join(folder, 'password');
  writeFileSync(path, password, { mode: 0o600 });
  if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
  return path;
}

function initialise(initdb: string, data: string, password: string, runAs: RunAs | undefined): void {
  const flags = [
    '--username=postgres',
    '--auth=scram-sha-256',
    `--pwfile=${password}`,
    '--encoding=UTF8',
    '--locale=C.UTF-8',
    '--no-sync',
  ];
  try {
    execFileSync(initdb, ['-D', data, ...flags], { stdio: 'pipe', cwd: '/', ...runAs });
  } catch (error) {
    throw new SetupError(`initdb failed: ${String((error as { stderr?: Buffer }).stderr ?? error).trim()}`);
  }
}

async function answers(dsn: string): Promise<boolean> {
  const client = new Client({ connectionString: dsn });
  try {
    await client.connect();
    await client.query('select 1');
    return true;
  } finally {
    await client.end().catch(() => undefined);
  }
}
