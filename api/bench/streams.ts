import { connect, type TLSSocket } from 'node:tls';
import { freePort } from '../../test/integration/processes.ts';
import type { ApiProcess } from '../src/testing/process.ts';
import type { World } from '../src/testing/world.ts';
import type { Measure } from '../../test/bench/table.ts';
import { cpuSeconds, rssMiB, type Target } from './load.ts';

const EVENTS = 50;
const OPENING_AT_ONCE = 50;
const IDLE_SECONDS = 10;

/** Many clients of one stream of events, over TLS. */
class Clients {
  readonly #target: Target;
  readonly #sockets: TLSSocket[] = [];
  told = 0;

  constructor(target: Target) {
    this.#target = target;
  }

  async open(count: number): Promise<void> {
    for (let from = 0; from < count; from += OPENING_AT_ONCE)
      await Promise.all(Array.from({ length: Math.min(OPENING_AT_ONCE, count - from) }, () => this.#one()));
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #one(): Promise<void> {
    const { port, ca, token } = this.#target;
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, ca }, () =>
        socket.write(`GET /api/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer ${token}\r\n\r\n`));
      this.#sockets.push(socket);
      let begun = false;
      socket.once('error', reject).on('data', (data: Buffer) => {
        const text = data.toString('latin1');
        if (!begun && text.includes('200 OK')) resolve();
        begun = true;
        this.told += text.split('\nevent: ').length - 1;
      });
    });
  }
}

/** Clients that wait for events over TLS, and then are told some. Beside them as many of a bare server that sends them nothing. */
export async function measureStreams(world: World, bare: Target, token: string, count: number, settings: { [name: string]: string }): Promise<Measure[]> {
  const floor = await memoryOfBare(bare, count);
  const metrics = String(await freePort());
  const api = await world.api({ ...settings, CRUCIBLE_MAX_STREAMS: '100000', CRUCIBLE_MAX_STREAMS_PER_CALLER: '100000', METRICS_PORT: metrics });
  const pid = api.child.pid as number;
  const before = rssMiB(pid);
  const clients = new Clients({ port: api.port, ca: api.ca, token, pid });
  await clients.open(count);
  const idle = await idleCpu(pid);
  const [waiting, heap] = [rssMiB(pid), await heapMiB(metrics)];
  for (let n = 0; n < EVENTS; n += 1) await world.record.accepted();
  await world.record.publish();
  await untilTold(api, () => clients.told >= count * EVENTS, () => `${clients.told} of ${count * EVENTS}`);
  const [after, heapAfter] = [rssMiB(pid), await heapMiB(metrics)];
  clients.close();
  await api.stop();
  return [
    { name: `memory of a bare server with ${count} waiting (before: ${floor.before.toFixed(0)})`, value: floor.waiting, unit: 'MiB' },
    { name: `memory with ${count} waiting (before: ${before.toFixed(0)})`, value: waiting, unit: 'MiB', atMost: 200 },
    { name: 'of it JavaScript’s heap', value: heap, unit: 'MiB' },
    { name: `memory after ${EVENTS} events to each`, value: after, unit: 'MiB', atMost: 200 },
    { name: 'of it JavaScript’s heap, then', value: heapAfter, unit: 'MiB' },
    { name: 'processor while they wait', value: idle, unit: '%' },
    { name: 'events that arrived', value: clients.told, unit: '', atLeast: count * EVENTS },
  ];
}

async function memoryOfBare(bare: Target, count: number): Promise<{ before: number; waiting: number }> {
  const before = rssMiB(bare.pid);
  const clients = new Clients(bare);
  await clients.open(count);
  const waiting = rssMiB(bare.pid);
  clients.close();
  return { before, waiting };
}

async function heapMiB(metricsPort: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  return Number(/^nodejs_heap_size_total_bytes (\d+)/m.exec(text)?.[1]) / 1024 ** 2;
}

async function untilTold(api: ApiProcess, look: () => boolean, state: () => string): Promise<void> {
  await api.until('every client to be told of every event', look).catch((error: unknown) => {
    throw new Error(`${state()} events arrived: ${String(error).slice(0, 500)}`);
  });
}

async function idleCpu(pid: number): Promise<number> {
  const from = cpuSeconds(pid);
  await new Promise((resolve) => setTimeout(resolve, IDLE_SECONDS * 1000));
  return ((cpuSeconds(pid) - from) / IDLE_SECONDS) * 100;
}
