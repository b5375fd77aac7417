import { request as plainRequest } from 'node:http';
import { request } from 'node:https';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { freePort } from '../../test/integration/processes.ts';
import type { ApiProcess } from './testing/process.ts';
import { World } from './testing/world.ts';

// Several processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

let world: World;
let api: ApiProcess;
let reader: string;

beforeAll(async () => {
  world = await World.start();
  [api, reader] = await Promise.all([world.api(), world.cluster.person('reader', 'reader', world.cluster.evals)]);
});
afterAll(() => world?.stop());

/** As a browser's EventSource: comes back when it is cut off, with the last id that it saw. */
class Client {
  readonly ids: number[] = [];
  #last: string | undefined;
  #closed = false;
  #current: { destroy(): void } | undefined;
  readonly #options: { port: number; ca?: Buffer; path: string; token: string };

  constructor(options: { port: number; ca?: Buffer; path: string; token: string; after?: number }) {
    this.#options = options;
    this.#last = options.after === undefined ? undefined : String(options.after);
    this.#connect();
  }

  /** The id that it would come back with. */
  get last(): string | undefined {
    return this.#last;
  }

  close(): void {
    this.#closed = true;
    this.#current?.destroy();
  }

  #connect(): void {
    const { port, ca, path, token } = this.#options;
    const again = () => void (!this.#closed && setTimeout(() => this.#connect(), 300 + Math.random() * 400));
    const headers = { authorization: `Bearer ${token}`, ...(this.#last !== undefined && { 'last-event-id': this.#last }) };
    let answered = false;
    const call = (ca === undefined ? plainRequest : request)({ host: '127.0.0.1', port, ...(ca && { ca }), path, agent: false, headers }, (message) => {
      answered = true;
      let rest = '';
      message.on('data', (data: Buffer) => {
        const parts = (rest + data.toString()).split('\n\n');
        rest = parts.pop() ?? '';
        for (const part of parts) this.#take(part);
      });
      message.once('close', again);
      message.once('error', () => undefined);
      if (message.statusCode !== 200) message.resume();
    });
    call.once('error', () => undefined);
    call.once('close', () => void (!answered && again()));
    call.end();
    this.#current = call;
  }

  #take(event: string): void {
    const id = /^id: (\d+)$/m.exec(event)?.[1];
    if (id === undefined) return;
    this.#last = id;
    if (/^data: /m.test(event)) this.ids.push(Number(id));
  }
}

const CLIENTS = 500;
const EVENTS = '/api/events';

test(`${CLIENTS} clients miss nothing and see nothing twice while the API is killed, restarted, and stopped in order`, { timeout: 180_000 }, async () => {
  // Without TLS: this is about events, and two thousand handshakes are a minute on a busy machine.
  const settings = { PORT: String(await freePort()), CRUCIBLE_INSECURE_DEV: 'true', CRUCIBLE_TLS_CERT: '', CRUCIBLE_TLS_KEY: '' };
  let serving = await world.api(settings);
  await world.record.accepted();
  const start = await world.record.publish();
  const clients = Array.from({ length: CLIENTS }, () => new Client({ port: Number(settings.PORT), path: EVENTS, token: reader, after: start }));
  const make = async (count: number): Promise<number> => {
    for (let index = 0; index < count; index += 1) await world.record.accepted({ namespace: index % 5 === 0 ? world.cluster.other : world.cluster.evals });
    return await world.record.publish();
  };
  const told = async (last: number) => {
    const { rows } = await world.database.query<{ position: number }>(
      'SELECT v.position FROM crucible.events v JOIN crucible.evaluations e ON e.uid = v.evaluation_uid WHERE v.position > $1 AND v.position <= $2 AND e.namespace = $3 ORDER BY 1',
      [start, last, world.cluster.evals]);
    return rows.map(({ position }) => position);
  };
  const all = async (last: number) => {
    const wanted = await told(last);
    await api.until(`${CLIENTS} clients to see ${wanted.length} events`, () => clients.every(({ ids }) => ids.length >= wanted.length));
    for (const { ids } of clients) expect(ids).toEqual(wanted);
  };
  await all(await make(20));
  await serving.stop('SIGKILL');
  await make(20);
  // The successor remembers fewer than were missed: those that came before have to be read from Postgres, for every client.
  serving = await world.api({ ...settings, CRUCIBLE_KEPT_EVENTS: '3' });
  await all(await make(20));
  const stopped = serving.stop('SIGTERM');
  await make(10);
  expect(await stopped).toBe(0);
  serving = await world.api(settings);
  await all(await make(10));
  clients.forEach((client) => client.close());
  await api.until('the streams to be closed', async () => (await serving.call('/api/system', { token: reader })).json.events.streams === 0);
  await serving.stop();
});

test('the events of one run come from its beginning, each once, also those from before the hub’s memory', async () => {
  const { uid } = await world.record.finished();
  await world.record.publish();
  const { rows } = await world.database.query<{ position: number }>('SELECT position FROM crucible.events WHERE evaluation_uid = $1 ORDER BY seq', [uid]);
  const positions = rows.map(({ position }) => position);
  for (const after of [undefined, 0, positions[2]]) {
    const client = new Client({ port: api.port, ca: api.ca, path: `/api/evaluations/${uid}/events`, token: reader, ...(after !== undefined && { after }) });
    const wanted = after === undefined ? positions : positions.filter((position) => position > after);
    await api.until('its events', () => client.ids.length >= wanted.length);
    expect(client.ids).toEqual(wanted);
    client.close();
  }
});

test('a client that is cut off before its first event misses nothing', async () => {
  const options = { port: api.port, ca: api.ca, path: EVENTS, token: reader };
  const client = new Client(options);
  await api.until('it to know where it stands', () => client.last !== undefined);
  expect(client.ids).toEqual([]);
  client.close();
  await world.record.accepted();
  const last = await world.record.publish();
  const again = new Client({ ...options, after: Number(client.last) });
  await api.until('it to be told of what happened meanwhile', () => again.ids.includes(last));
  again.close();
});

// That it costs no memory either is what live/sse.test.ts is about.
test('a client that reads nothing holds nobody up', async () => {
  const last = await world.record.publish();
  const stalled = await Promise.all(Array.from({ length: 20 }, () => api.open(`${EVENTS}?after=0`, { token: reader }, false)));
  stalled.forEach((message) => message.pause());
  const brisk = new Client({ port: api.port, ca: api.ca, path: EVENTS, token: reader, after: last });
  await world.record.accepted();
  await world.record.publish();
  await api.until('the other client to be told', () => brisk.ids.length > 0);
  brisk.close();
  stalled.forEach((message) => message.destroy());
});

test('a Last-Event-ID of somebody’s imagination is none', async () => {
  for (const id of ['-1', 'x', '9'.repeat(30), '1 OR 1=1']) {
    const message = await api.open(EVENTS, { token: reader, headers: { 'last-event-id': id } }, false);
    expect(message.statusCode).toBe(200);
    message.destroy();
  }
  expect((await api.call(`${EVENTS}?after=-1`, { token: reader })).status).toBe(400);
});

test('who comes back with an id that is ahead of the record, as after a restored backup, is told what comes now', async () => {
  const last = await world.record.publish();
  const ahead = new Client({ port: api.port, ca: api.ca, path: EVENTS, token: reader, after: last + 1_000_000 });
  await api.until('it to know where it stands', () => Number(ahead.last) <= last);
  await world.record.accepted();
  await world.record.publish();
  await api.until('it to be told', () => ahead.ids.length > 0);
  ahead.close();
});
