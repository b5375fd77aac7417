import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import {
  accessSync,
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const DIRECTORY_PREFIX = 'crucible-integration-';
/** Servers get this long to stop by themselves; nothing in them is worth more. */
const STOP_MILLISECONDS = 5_000;
const POLL_MILLISECONDS = 50;

/** A server that could not be started, in one sentence that says what to do. */
export class SetupError extends Error {
  override readonly name = 'SetupError';
}

export interface RunAs {
  readonly uid: number;
  readonly gid: number;
}

/** The throw-away servers of one run: their folder, logs and processes, all gone after stop(). */
export class Sandbox {
  readonly directory: string;
  private readonly children: ChildProcess[] = [];

  constructor() {
    removeAbandonedDirectories();
    this.directory = mkdtempSync(join(tmpdir(), `${DIRECTORY_PREFIX}${process.pid}-`));
    // 0711 instead of mkdtemp's 0700: Postgres runs under another uid and must reach its own folder.
    chmodSync(this.directory, 0o711);
  }

  folder(name: string, owner?: RunAs): string {
    const path = join(this.directory, name);
    mkdirSync(path, { mode: 0o700 });
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
    return path;
  }

  /** Starts a server that dies with this process, even when this process is killed. */
  start(
    name: string,
    command: string,
    args: readonly string[],
    runAs?: RunAs,
    environment: Readonly<Record<string, string>> = {},
  ): Server {
    const logFile = join(this.directory, `${name}.log`);
    const log = openSync(logFile, 'a');
    const identity = runAs === undefined ? [] : [`--reuid=${runAs.uid}`, `--regid=${runAs.gid}`, '--clear-groups'];
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...identity, '--', command, ...args], {
      stdio: ['ignore', log, log],
      cwd: '/',
      env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', TZ: 'UTC', ...environment },
    });
    closeSync(log);
    this.children.push(child);
    if (child.pid !== undefined) appendFileSync(join(this.directory, 'pids'), `${child.pid} ${name}\n`);
    return new Server(name, child, logFile);
  }

  /** In reverse order, so that what depends on a server goes before it. */
  async stop(): Promise<void> {
    for (const child of [...this.children].reverse()) await stopChild(child);
    this.remove();
  }

  /** For signal handlers and exit: no waiting. */
  kill(): void {
    for (const child of this.children) child.kill('SIGKILL');
    this.remove();
  }

  private remove(): void {
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

export class Server {
  readonly logFile: string;
  private failure: string | undefined;
  private readonly name: string;
  private readonly child: ChildProcess;

  constructor(name: string, child: ChildProcess, logFile: string) {
    this.name = name;
    this.child = child;
    this.logFile = logFile;
    child.once('error', (error) => (this.failure = error.message));
    child.once('exit', (code, signal) => (this.failure = `ended with ${signal ?? code}`));
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null && this.failure === undefined;
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new SetupError(`${this.name} was not started`);
    return this.child.pid;
  }

  /** Whether it stands still: the kernel's word, not what was asked for. */
  get stopped(): boolean {
    if (!this.running || this.child.pid === undefined) return false;
    // The state comes after the name, which may hold spaces and brackets.
    return readFileSync(`/proc/${this.child.pid}/stat`, 'latin1').replace(/^.*\) /s, '').startsWith('T');
  }

  /** By its own pid; `SIGSTOP` and `SIGCONT` pause and resume. */
  signal(signal: NodeJS.Signals): void {
    if (this.running) this.child.kill(signal);
  }

  /** Resolves when the process has ended, with how. */
  async ended(): Promise<string> {
    if (this.running) await new Promise((resolve) => this.child.once('exit', resolve));
    return this.failure ?? `ended with ${this.child.signalCode ?? this.child.exitCode}`;
  }

  /** Asks until it answers; fails at once when the process has ended. */
  async ready(probe: () => Promise<boolean>, seconds: number): Promise<void> {
    const deadline = Date.now() + seconds * 1000;
    while (!(await probe().catch(() => false))) {
      if (this.failure !== undefined) throw new SetupError(`${this.name} ${this.failure}: ${this.lastLogLine()}`);
      if (Date.now() > deadline)
        throw new SetupError(`${this.name} did not answer within ${seconds} s: ${this.lastLogLine()}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
    }
  }

  private lastLogLine(): string {
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-3).join(' / ').slice(-800);
  }
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MILLISECONDS);
  child.kill('SIGTERM');
  await ended;
  clearTimeout(timer);
}

/**
 * A port of 127.0.0.1 that nothing listens on. Below Linux's ephemeral range, so that no outgoing connection takes it
 * before the server binds it; at random, so that parallel runs do not meet.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const port = 15_000 + Math.floor(Math.random() * 17_000);
    if (await canBind(port)) return port;
  }
  throw new SetupError('no free port between 15000 and 32000 on 127.0.0.1');
}

function canBind(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The first of these programs on PATH or in /usr/sbin. */
export function findProgram(...names: readonly string[]): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  for (const name of names) {
    for (const folder of folders) if (isExecutable(join(folder, name))) return join(folder, name);
  }
  return undefined;
}

/** A run that was killed leaves its folder; its servers died with it. */
function removeAbandonedDirectories(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(DIRECTORY_PREFIX)
      ? Number.parseInt(name.slice(DIRECTORY_PREFIX.length), 10)
      : Number.NaN;
    if (Number.isInteger(pid) && !isAlive(pid)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
