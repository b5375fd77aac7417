import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { findProgram, freePort } from './processes.ts';
import type { Sandbox, Server } from './processes.ts';

const REDIS_SECONDS = 15;

/** A Redis or Valkey of its own on 127.0.0.1, or undefined when the machine has neither. */
export async function startRedis(sandbox: Sandbox): Promise<string | undefined> {
  const redis = await createRedis(sandbox);
  return await redis?.start();
}

/** A server on one port that keeps nothing, to be started, killed and started again. */
export interface RestartableRedis {
  readonly url: string;
  /** Resolves with the URL when it answers. */
  start(): Promise<string>;
  kill(): Promise<void>;
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
}

export async function createRedis(sandbox: Sandbox): Promise<RestartableRedis | undefined> {
  const program = findProgram('redis-server', 'valkey-server');
  if (program === undefined) return undefined;
  const port = await freePort();
  const password = randomBytes(16).toString('hex');
  const settings = ['--bind', '127.0.0.1', '--port', String(port), '--requirepass', password];
  const memoryOnly = ['--save', '', '--appendonly', 'no', '--dir', sandbox.folder('redis'), '--databases', '64'];
  const url = `redis://:${password}@127.0.0.1:${port}`;
  let server: Server | undefined;
  return {
    url,
    start: async () => {
      server = sandbox.start('redis', program, [...settings, ...memoryOnly]);
      await server.ready(() => answers(port, password), REDIS_SECONDS);
      return url;
    },
    kill: async () => {
      server?.signal('SIGKILL');
      await server?.ended();
    },
    signal: (signal) => server?.signal(signal),
  };
}

function answers(port: number, password: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(`AUTH ${password}\r\nPING\r\n`));
    let reply = '';
    socket.on('data', (data) => {
      reply += data.toString();
      if (reply.split('\r\n').length > 2) socket.destroy();
    });
    socket.once('error', reject);
    socket.once('close', () => resolve(reply.includes('+PONG')));
    socket.setTimeout(2_000, () => socket.destroy());
  });
}
