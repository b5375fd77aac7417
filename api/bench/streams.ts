import { connect, type TLSSocket } from 'node:tls';
import { freePort } from '../../test/integration/processes.ts';
import type { ApiProcess } from '../src/testing/process.ts';
import type { World } from '../src/testing/world.ts';
import type { Measure } from '../../test/bench/table.ts';
import { cpuSeconds, memoryOf, type Memory, type Target } from './load.ts';

const EVENTS = 50;
const OPENING_AT_ONCE = 50;
const IDLE_SECONDS = 10;
const MOST_MIB = 200;

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
  const before = memoryOf(pid);
  const clients = new Clients({ port: api.port, ca: api.ca, token, pid });
  await clients.open(count);
  const idle = await idleCpu(pid);
  const [waiting, heap] = [memoryOf(pid), await heapMiB(metrics)];
  for (let n = 0; n < EVENTS; n += 1) await world.record.accepted();
  await world.record.publish();
  await untilTold(api, () => clients.told >= count * EVENTS, () => `${clients.told} of ${count * EVENTS}`);
  const [after, heapAfter] = [memoryOf(pid), await heapMiB(metrics)];
  clients.close();
  await api.stop();
  return [
    ...rows('a bare server, before', floor.before),
    ...rows(`a bare server with ${count} waiting`, floor.waiting),
    ...rows('the API, before', before),
    ...rows(`the API with ${count} waiting`, waiting, MOST_MIB),
    { name: 'of it JavaScript’s heap', value: heap, unit: 'MiB' },
    ...rows(`the API after ${EVENTS} events to each`, after, MOST_MIB),
    { name: 'of it JavaScript’s heap, then', value: heapAfter, unit: 'MiB' },
    { name: 'processor while they wait', value: idle, unit: '%' },
    { name: 'events that arrived', value: clients.told, unit: '', atLeast: count * EVENTS },
  ];
}

/** What the process itself needs, and beside it all that is resident: with pages of files, which the kernel can drop and read again. */
function rows(name: string, { anonymous, resident }: Memory, atMost?: number): Measure[] {
  return [
    { name: `${name}: anonymous memory`, value: anonymous, unit: 'MiB', ...(atMost !== undefined && { atMost }) },
    { name: `${name}: resident`, value: resident, unit: 'MiB' },
  ];
}

async function memoryOfBare(bare: Target, count: number): Promise<{ before: Memory; waiting: Memory }> {
  const before = memoryOf(bare.pid);
  const clients = new Clients(bare);
  await clients.open(count);
  const waiting = memoryOf(bare.pid);
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
