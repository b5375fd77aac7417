import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { fastify } from 'fastify';
import { expect, test } from 'vitest';
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
