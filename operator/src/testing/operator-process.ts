import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { resolve } from 'node:path';
import { testServer } from '../../../test/integration/environment.ts';
import { freePort } from '../../../test/integration/processes.ts';

const PATIENCE_MS = 30_000;

export interface OperatorProcessOptions {
  /** Of its Evaluations and of its lease. */
  readonly namespace: string;
  readonly databaseUrl: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** The operator as it is deployed: a process that is configured by its environment. */
export class OperatorProcess {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;
  #log = '';

  static async start(options: OperatorProcessOptions): Promise<OperatorProcess> {
    return new OperatorProcess(await freePort(), options);
  }

  private constructor(port: number, { namespace, databaseUrl, env: more = {} }: OperatorProcessOptions) {
    this.port = port;
    const env = {
      PATH: process.env['PATH'],
      CRUCIBLE_KUBECONFIG: testServer('CRUCIBLE_TEST_KUBECONFIG'),
      CRUCIBLE_DATABASE_URL: databaseUrl,
      CRUCIBLE_NAMESPACES: namespace,
      CRUCIBLE_LAUNCHER_IMAGE: 'crucible/launcher:test',
      // No kubelet here: no canary would ever run.
      CRUCIBLE_DRILL: 'off',
      CRUCIBLE_LEASE_NAMESPACE: namespace,
      PORT: String(port),
      ...more,
    };
    this.#child = spawn(process.execPath, [resolve(import.meta.dirname, '../main.ts')], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#child.stdout?.on('data', (data: Buffer) => (this.#log += data.toString()));
    this.#exit = new Promise((done) => this.#child.once('exit', (code) => done(code)));
  }

  /** Log lines with this message, in order. */
  logged(message: string): Record<string, any>[] {
    return this.#log
      .split('\n')
      .filter((line) => line.endsWith('}'))
      .map((line) => JSON.parse(line) as Record<string, any>)
      .filter(({ msg }) => msg === message);
  }

  async waitFor<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
    for (const deadline = Date.now() + PATIENCE_MS; ;) {
      const found = await look();
      if (found !== undefined) return found;
      if (Date.now() > deadline) throw new Error(`waited for ${what}: ${this.#log}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    return await this.#exit;
  }

  /** By itself. */
  async exited(): Promise<number | null> {
    return await this.#exit;
  }
}
