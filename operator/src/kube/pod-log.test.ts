import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubeClient } from './client.ts';
import { FakeClock, settle } from './testing.ts';
import { ScriptedServer } from './testing-server.ts';

let server: ScriptedServer;
let clock: FakeClock;
let client: KubeClient;

beforeEach(async () => {
  server = await ScriptedServer.start();
  clock = new FakeClock();
  client = new KubeClient({ access: server.access(), logger: pino({ level: 'silent' }), clock });
});

afterEach(async () => {
  await client.close();
  await server.close();
});

describe('podLog', () => {
  it('gives the bytes as they are', async () => {
    const opening = client.podLog('evals', 'p', { container: 'sandbox', timestamps: true, limitBytes: 100 });
    const exchange = await server.next();
    expect(exchange).toMatchObject({
      path: '/api/v1/namespaces/evals/pods/p/log',
      query: { container: 'sandbox', timestamps: 'true', limitBytes: '100' },
    });
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    exchange.open().raw(bytes).end();
    const chunks: Uint8Array[] = [];
    for await (const chunk of await opening) chunks.push(chunk);
    expect(Buffer.concat(chunks)).toEqual(Buffer.from(bytes));
  });

  it('waits for the headers of a follower as long as it takes, but not for those of a plain read', async () => {
    const following = client.podLog('evals', 'p', { follow: true });
    const exchange = await server.next();
    await clock.advance(3_600_000);
    exchange.open().end();
    await following;
    const reading = client.podLog('evals', 'p');
    const other = await server.next();
    const late = expect(reading).rejects.toMatchObject({ reason: 'Timeout' });
    await clock.advance(30_000);
    await late;
    await other.closed;
  });

  it('gives up a plain read whose live connection falls silent, however often it spoke before', async () => {
    const opening = client.podLog('evals', 'p');
    const exchange = (await server.next()).open();
    const stream = (await opening)[Symbol.asyncIterator]();
    for (const piece of ['a', 'b', 'c']) {
      const next = stream.next();
      await clock.timer((ms) => ms === 30_000);
      await clock.advance(29_000);
      exchange.raw(piece);
      expect(Buffer.from((await next).value).toString()).toBe(piece);
      // A reader that takes its time is not the server's silence.
      await clock.advance(60_000);
    }
    const silent = expect(stream.next()).rejects.toMatchObject({ name: 'KubeError', code: 0, reason: 'Timeout' });
    await clock.advance(30_000);
    await silent;
    await exchange.closed;
  });

  it('tells a cut from an end', async () => {
    const opening = client.podLog('evals', 'p', { follow: true });
    const exchange = (await server.next()).open().raw('abc');
    const stream = (await opening)[Symbol.asyncIterator]();
    await stream.next();
    exchange.cut();
    await expect(stream.next()).rejects.toMatchObject({ name: 'KubeError', reason: 'ConnectionFailed' });
  });

  it('does not end the process when the socket drops while nobody reads: client-node can', async () => {
    const opening = client.podLog('evals', 'p', { follow: true });
    const exchange = (await server.next()).open();
    const stream = await opening;
    exchange.cut();
    await exchange.closed;
    // vitest fails the run on an uncaught error.
    await settle();
    stream.cancel();
  });

  it('is aborted by its signal, before and after the headers', async () => {
    const abort = new AbortController();
    const opening = client.podLog('evals', 'p', { follow: true, signal: abort.signal });
    const exchange = (await server.next()).open().raw('abc');
    const stream = (await opening)[Symbol.asyncIterator]();
    await stream.next();
    const next = stream.next();
    abort.abort();
    await expect(next).rejects.toMatchObject({ reason: 'Aborted' });
    await exchange.closed;
    const early = new AbortController();
    const refused = client.podLog('evals', 'p', { follow: true, signal: early.signal });
    const second = await server.next();
    early.abort();
    await expect(refused).rejects.toMatchObject({ reason: 'Aborted' });
    await second.closed;
  });

  it('closes the connection when the reader leaves, or cancels', async () => {
    const opening = client.podLog('evals', 'p', { follow: true });
    const exchange = (await server.next()).open().raw('abc');
    for await (const _ of await opening) break;
    await exchange.closed;
    const another = client.podLog('evals', 'p', { follow: true });
    const second = (await server.next()).open();
    (await another).cancel();
    await second.closed;
  });

  it('reports what the API server says instead of a log', async () => {
    const opening = client.podLog('evals', 'p', { container: 'nope' });
    (await server.next()).fail(400, 'BadRequest', 'container nope is not valid for pod p');
    await expect(opening).rejects.toMatchObject({ code: 400, reason: 'BadRequest' });
  });

  it('leaves in the socket what nobody reads', async () => {
    const total = 64 * 1024 * 1024;
    const opening = client.podLog('evals', 'p');
    const { response } = (await server.next()).open();
    const block = Buffer.alloc(64 * 1024, 'x');
    let written = 0;
    const pump = (): void => {
      while (written < total) {
        written += block.length;
        if (!response.write(block)) return;
      }
      response.end();
    };
    response.on('drain', pump);
    pump();
    const stream = await opening;
    for (let i = 0; i < 500; i += 1) await settle();
    expect(written).toBeLessThan(total / 2);
    let read = 0;
    for await (const chunk of stream) read += chunk.length;
    expect(read).toBe(total);
  });
});
