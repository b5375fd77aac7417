import type { Sandbox, Server } from '../integration/processes.ts';

/** As a kubelet's first restart: at once. */
const RESTART_MS = 200;

export interface ProgramOptions {
  readonly name: string;
  /** TypeScript that Node.js runs as it is, with its arguments. */
  readonly program: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** After its end and before it is started again. */
  readonly onEnd?: () => Promise<void>;
}

/**
 * A process of ours as it is deployed, started again whenever it ends. It can be killed and paused by its pid; an end that
 * nobody asked for is remembered, because no fault may crash it.
 */
export class SupervisedProgram {
  readonly #sandbox: Sandbox;
  readonly #options: ProgramOptions;
  readonly #crashes: string[] = [];
  #server: Server | undefined;
  #expected = false;
  #wanted = false;
  #supervision: Promise<void> = Promise.resolve();
  #starts = 0;

  constructor(sandbox: Sandbox, options: ProgramOptions) {
    this.#sandbox = sandbox;
    this.#options = options;
  }

  /** Ends by itself, with the last it said. */
  get crashes(): readonly string[] {
    return this.#crashes;
  }

  get starts(): number {
    return this.#starts;
  }

  get standsStill(): boolean {
    return this.#server?.stopped ?? false;
  }

  start(): void {
    this.#wanted = true;
    this.#supervision = this.#supervise();
  }

  /** SIGKILL; resolves when it is dead. It is started again at once. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === undefined || !server.running) return;
    this.#expected = true;
    server.signal('SIGKILL');
    await server.ended();
  }

  pause(): void {
    this.#server?.signal('SIGSTOP');
  }

  resume(): void {
    this.#server?.signal('SIGCONT');
  }

  /** For good, and by force: what it leaves behind must be in order at any moment. */
  async stop(): Promise<void> {
    this.#wanted = false;
    await this.kill();
    await this.#supervision;
  }

  async #supervise(): Promise<void> {
    const { name, program, environment, onEnd } = this.#options;
    while (this.#wanted) {
      this.#expected = false;
      this.#starts += 1;
      this.#server = this.#sandbox.start(name, process.execPath, program, undefined, environment);
      const how = await this.#server.ended();
      if (!this.#expected) this.#crashes.push(`${name} ${how}; see ${this.#server.logFile}`);
      if (!this.#wanted) return;
      await onEnd?.();
      await new Promise((resolve) => setTimeout(resolve, RESTART_MS));
    }
  }
}
