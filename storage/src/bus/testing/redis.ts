// A Redis (or Valkey) that a test may kill, freeze and flush, and a proxy that keeps requests or answers from arriving.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Redis } from 'ioredis';
import { SetupError, findProgram, freePort } from '../../../../test/integration/processes.ts';

const PASSWORD = 'test-redis-password';

export class TestRedis {
  readonly port: number;
  readonly #program: string;
  #child: ChildProcess | undefined;

  static async start(wanted?: string): Promise<TestRedis> {
    const program = wanted ?? process.env['CRUCIBLE_TEST_REDIS_SERVER'] ?? findProgram('redis-server', 'valkey-server');
    if (program === undefined) throw new SetupError('no Redis found: apt-get install redis-server (or valkey-server)');
    const redis = new TestRedis(program, await freePort());
    await redis.start();
    return redis;
  }

  private constructor(program: string, port: number) {
    this.#program = program;
    this.port = port;
  }

  get url(): string {
    return `redis://:${PASSWORD}@127.0.0.1:${this.port}/0`;
  }

  async start(): Promise<void> {
    const settings = ['--bind', '127.0.0.1', '--port', String(this.port), '--requirepass', PASSWORD, '--save', '', '--dir', '/tmp'];
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', this.#program, ...settings], { stdio: 'ignore' });
    const probe = new Redis(this.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
    probe.on('error', () => undefined);
    await probe.ping();
    probe.disconnect();
  }

  /** kill -9: nothing is saved, it comes back empty. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }
}

/** Both kinds of server, as far as this machine has them: Debian 12 has Redis, Debian 13 both. */
export function serversHere(): { kind: string; program: string }[] {
  const valkey = process.env['CRUCIBLE_TEST_VALKEY_SERVER'] ?? findProgram('valkey-server');
  const programs = { redis: findProgram('redis-server'), valkey };
  const found = Object.entries(programs).flatMap(([kind, program]) => (program === undefined ? [] : [{ kind, program }]));
  if (found.length === 0) throw new SetupError('no Redis found: apt-get install redis-server (or valkey-server)');
  return found;
}

type Fault = 'none' | 'withhold requests' | 'withhold answers';

export class FaultyProxy {
  fault: Fault = 'none';
  /** Bytes that were withheld. */
  withheld = 0;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(target: number) {
    this.#target = target;
  }

  async start(): Promise<number> {
    const server = createServer((near) => {
      const far = connect(this.#target, '127.0.0.1');
      const pass = (to: Socket, without: Fault) => (data: Buffer) => {
        if (this.fault === without) this.withheld += data.length;
        else to.write(data);
      };
      near.on('data', pass(far, 'withhold requests'));
      far.on('data', pass(near, 'withhold answers'));
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined).on('close', () => [near, far].forEach((end) => end.destroy()));
      }
    });
    this.#server = server;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => (this.#server === undefined ? resolve(undefined) : this.#server.close(resolve)));
  }
}
