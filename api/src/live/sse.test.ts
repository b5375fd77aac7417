import { once } from 'node:events';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { fastify, type FastifyReply } from 'fastify';
import { expect, test, vi } from 'vitest';
import { Streams, type EventStream } from './sse.ts';

test('a client that left before its stream began leaves none behind', async () => {
  const streams = new Streams({ total: 10, each: 1 });
  const begun = Promise.withResolvers<EventStream>();
  const asked = Promise.withResolvers<void>();
  const app = fastify();
  app.get('/', async (_request, reply) => {
    asked.resolve();
    // As while the cluster is asked who it is.
    if (!reply.raw.destroyed) await once(reply.raw, 'close');
    begun.resolve(streams.begin(reply, 'somebody'));
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  try {
    const client = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
    client.write('GET / HTTP/1.1\r\nhost: here\r\n\r\n');
    await asked.promise;
    client.destroy();
    const stream = await begun.promise;
    await stream.closed;
    expect([stream.open, await stream.send('x'), streams.size]).toEqual([false, false, 0]);
  } finally {
    streams.drain();
    await app.close();
  }
});

const PIECE = 'x'.repeat(64 * 1024);
/** 128 MiB: many times what the kernel keeps for a connection. */
const PIECES = 2048;

test('what a client does not read stays where it comes from: it is not in our memory', async () => {
  const streams = new Streams({ total: 10, each: 10 });
  const taken = new Map<string, { pieces: number; reply: FastifyReply }>();
  const app = fastify();
  app.get('/:who', async (request, reply) => {
    const own = { pieces: 0, reply };
    taken.set((request.params as { who: string }).who, own);
    const stream = streams.begin(reply, 'somebody');
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
