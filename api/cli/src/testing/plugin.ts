import { spawn } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { buildCli } from '../../build.ts';

// The plugin as npm installs it: one file under two names on the PATH.

export interface Ended {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export class Started {
  readonly ended: Promise<Ended>;
  stdout = Buffer.alloc(0);
  stderr = '';
  readonly #kill: (signal: NodeJS.Signals) => void;

  constructor(command: string, args: readonly string[], env: Record<string, string>, input?: string) {
    const child = spawn(command, [...args], { env, stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdin.on('error', () => undefined); // it may end before it has read all
    child.stdin.end(input ?? '');
    child.stdout.on('data', (data: Buffer) => (this.stdout = Buffer.concat([this.stdout, data])));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.#kill = (signal) => void child.kill(signal);
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, stdout: this.stdout, stderr: this.stderr }));
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.#kill(signal);
  }

  /** Resolves when it has said something; rejects when it has ended without. */
  async says(text: string): Promise<void> {
    let over = false;
    void this.ended.then(() => (over = true));
    while (!this.stderr.includes(text) && !this.stdout.includes(text)) {
      if (over) throw new Error(`it ended without ${JSON.stringify(text)}: ${this.stderr}${this.stdout.toString()}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  }
}

export class Plugin {
  readonly bin: string;
  readonly file: string;
  readonly env: Record<string, string>;

  private constructor(bin: string, env: Record<string, string>) {
    this.bin = bin;
    this.file = join(bin, 'kubectl-crucible');
    this.env = env;
  }

  /** Builds it into a folder; what it is run with is this environment and no other. */
  static async install(folder: string, env: Record<string, string>): Promise<Plugin> {
    const bin = join(folder, 'bin');
    mkdirSync(bin, { recursive: true });
    const built = await buildCli(join(folder, 'lib', 'kubectl-crucible.mjs'));
    for (const name of ['kubectl-crucible', 'kubectl_complete-crucible']) symlinkSync(built, join(bin, name));
    const path = [bin, dirname(process.execPath), process.env['PATH'] ?? ''].join(':');
    return new Plugin(bin, { PATH: path, HOME: folder, ...env });
  }

  start(args: readonly string[], env: Record<string, string> = {}, input?: string): Started {
    return new Started(this.file, args, { ...this.env, ...env }, input);
  }

  async run(args: readonly string[], env: Record<string, string> = {}, input?: string): Promise<Ended> {
    return await this.start(args, env, input).ended;
  }

  /** As people call it: kubectl finds it by its name on the PATH. */
  async kubectl(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
    return await new Started('kubectl', args, { ...this.env, ...env }).ended;
  }

  /** On a terminal of its own: both outputs are that terminal. */
  async onTerminal(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
    const words = [this.file, ...args].map((word) => `'${word}'`).join(' ');
    return await new Started('script', ['-qefc', words, '/dev/null'], { ...this.env, TERM: 'xterm', ...env }).ended;
  }
}
