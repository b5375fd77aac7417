import { connect } from 'node:tls';
import type { ApiProcess } from '../src/testing/process.ts';
import type { World } from '../src/testing/world.ts';
import type { Measure } from '../../test/bench/table.ts';
import { cpuSeconds, rssMiB } from './load.ts';

const EVENTS = 50;
const OPENING_AT_ONCE = 50;
const IDLE_SECONDS = 10;

/** Clients that wait for events over TLS, and then are told some. */
export async function measureStreams(world: World, token: string, count: number): Promise<Measure[]> {
  const api = await world.api({ CRUCIBLE_MAX_STREAMS: '100000', CRUCIBLE_MAX_STREAMS_PER_CALLER: '100000' });
  const pid = api.child.pid as number;
  const before = rssMiB(pid);
  let [opened, told] = [0, 0];
  const sockets = Array.from({ length: count }, () => undefined as ReturnType<typeof connect> | undefined);
  const open = (index: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: api.port, ca: api.ca }, () =>
        socket.write(`GET /api/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer ${token}\r\n\r\n`));
      sockets[index] = socket;
      let begun = false;
      socket.once('error', reject).on('data', (data: Buffer) => {
        const text = data.toString('latin1');
        if (!begun && text.includes('200 OK')) resolve(void (opened += 1));
        begun = true;
        told += text.split('\nevent: ').length - 1;
      });
    });
  for (let from = 0; from < count; from += OPENING_AT_ONCE)
    await Promise.all(Array.from({ length: Math.min(OPENING_AT_ONCE, count - from) }, (_, index) => open(from + index)));
  const idle = await idleCpu(pid);
  const waiting = rssMiB(pid);
  for (let n = 0; n < EVENTS; n += 1) await world.record.accepted();
  await world.record.publish();
  await untilTold(api, () => told >= count * EVENTS, () => `${told} of ${count * EVENTS}`);
  const after = rssMiB(pid);
  for (const socket of sockets) socket?.destroy();
  await api.stop();
  return [
    { name: `memory with ${opened} waiting (before: ${before.toFixed(0)})`, value: waiting, unit: 'MiB', atMost: 200 },
    { name: `memory after ${EVENTS} events to each`, value: after, unit: 'MiB', atMost: 200 },
    { name: 'processor while they wait', value: idle, unit: '%' },
    { name: 'events that arrived', value: told, unit: '', atLeast: count * EVENTS },
  ];
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
