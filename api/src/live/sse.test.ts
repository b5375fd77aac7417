import { once } from 'node:events';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { fastify, type FastifyReply } from 'fastify';
import { expect, test, vi } from 'vitest';
import { Streams, type EventStream } from './sse.ts';

const unchecked = async (): Promise<void> => undefined;

test('a client that left before its stream began leaves none behind', async () => {
  const streams = new Streams({ total: 10, each: 1 });
  const begun = Promise.withResolvers<EventStream>();
  const asked = Promise.withResolvers<void>();
  const app = fastify();
  app.get('/', async (_request, reply) => {
    asked.resolve();
    // As while the cluster is asked who it is.
    if (!reply.raw.destroyed) await once(reply.raw, 'close');
    begun.resolve(streams.begin(reply, 'somebody', unchecked));
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  try {
    const client = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
    client.write('GET / HTTP/1.1\r\nhost: here\r\n\r\n');
    await asked.promise;
    client.destroy();
    const stream = await begun.promise;
    await new Promise<void>((ended) => stream.whenEnded(ended));
    expect([stream.open, await stream.send(Buffer.from('x')), streams.size]).toEqual([false, false, 0]);
  } finally {
    streams.drain();
    await app.close();
  }
});

const PIECE = Buffer.alloc(64 * 1024, 'x');
/** 128 MiB: many times what the kernel keeps for a connection. */
const PIECES = 2048;

test('what a client does not read stays where it comes from: it is not in our memory', async () => {
  const streams = new Streams({ total: 10, each: 10 });
  const taken = new Map<string, { pieces: number; reply: FastifyReply }>();
  const app = fastify();
  app.get('/:who', async (request, reply) => {
    const own = { pieces: 0, reply };
    taken.set((request.params as { who: string }).who, own);
    const stream = streams.begin(reply, 'somebody', unchecked);
    while (own.pieces < PIECES && (await stream.send(PIECE))) own.pieces += 1;
    stream.end();
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const ask = (who: string): Socket => {
    const client = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
    client.write(`GET /${who} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n`);
    return client;
  };
  const idle = ask('idle').pause();
  try {
    await vi.waitUntil(() => taken.has('idle'), { timeout: 20_000 });
    await once(ask('brisk').resume(), 'end');
    expect(taken.get('brisk')?.pieces).toBe(PIECES);
    const { pieces, reply } = taken.get('idle')!;
    expect(pieces).toBeLessThan(PIECES);
    expect(reply.raw.writableLength).toBeLessThan(2 * PIECE.length);
  } finally {
    idle.destroy();
    streams.drain();
    await app.close();
  }
});

test('a large batch goes out in pieces that TLS need not keep much for, and nothing comes in between', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  const written: { text: string; taken: () => void }[] = [];
  const raw = { destroyed: false, on: () => raw, writeHead: () => undefined, flushHeaders: () => undefined, end: () => undefined, write: (piece: string | Buffer, taken = () => undefined) => void written.push({ text: piece.toString(), taken }) };
  const streams = new Streams({ total: 10, each: 10 });
  try {
    const stream = streams.begin({ raw, getHeaders: () => ({}), hijack: () => undefined } as never, 'somebody', unchecked);
    written.length = 0;
    const sent = stream.send(Buffer.from('x'.repeat(10_000)));
    for (let at = 0; at < written.length; at += 1) {
      expect(written.length).toBe(at + 1);
      vi.advanceTimersByTime(16_000);
      written[at]?.taken();
      await Promise.resolve();
      await Promise.resolve();
    }
    expect(await sent).toBe(true);
    expect(written.map(({ text }) => text).join('')).toBe('x'.repeat(10_000));
    expect(Math.max(...written.map(({ text }) => text.length))).toBeLessThan(4096);
    vi.advanceTimersByTime(16_000);
    expect(written.at(-1)?.text).toBe(': still here\n\n');
  } finally {
    streams.drain();
    vi.useRealTimers();
  }
});

test('rights are looked at again every half minute, of each stream', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  const raw = { destroyed: false, on: () => raw, writeHead: () => undefined, flushHeaders: () => undefined, end: () => undefined, write: () => true };
  const streams = new Streams({ total: 10, each: 10 });
  try {
    const looks: string[] = [];
    const begin = (who: string) => streams.begin({ raw, getHeaders: () => ({}), hijack: () => undefined } as never, who, async () => void looks.push(who));
    begin('early');
    vi.advanceTimersByTime(20_000);
    begin('late');
    vi.advanceTimersByTime(15_000);
    expect(looks).toEqual(['early']);
    vi.advanceTimersByTime(30_000);
    expect(looks).toEqual(['early', 'late', 'early']);
  } finally {
    streams.drain();
    vi.useRealTimers();
  }
});
