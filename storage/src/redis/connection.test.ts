import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { connectRedis } from './connection.ts';

// Redis as it cannot be had on demand: it goes away at the moment in which a client that was back asks for its channels.

let server: Server;
const rejections: unknown[] = [];
const note = (reason: unknown): void => void rejections.push(reason);
afterEach(() => {
  process.off('unhandledRejection', note);
  server.close();
});

/** `subscribe` gives its answer, if there is one. */
async function redisThat(subscribe: (socket: Socket) => string | undefined): Promise<string> {
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      const name = /^\*\d+\r\n\$\d+\r\n(\w+)/.exec(data.toString('latin1'))?.[1]?.toLowerCase() ?? '';
      const answer = name === 'info' ? '$9\r\nloading:0\r\n' : name === 'subscribe' ? subscribe(socket) : '+OK\r\n';
      if (answer !== undefined) socket.write(answer);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `redis://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('a subscription that cannot be made again when the connection is back ends no process', async () => {
  process.on('unhandledRejection', note);
  const subscriptions: Socket[] = [];
  const url = await redisThat((socket) => {
    subscriptions.push(socket);
    if (subscriptions.length === 1) return '*3\r\n$9\r\nsubscribe\r\n$7\r\nchannel\r\n:1\r\n';
    socket.destroy();
    return undefined;
  });
  const redis = connectRedis({ url, maxBackoffMilliseconds: 10 });
  try {
    await once(redis, 'ready');
    await redis.subscribe('channel');
    subscriptions[0]!.destroy();
    for (let times = 0; times < 3; times += 1) {
      await once(redis, 'ready');
      await redis.subscribe('channel').catch(() => undefined);
    }
    // A rejection is reported a turn after it happened.
    await new Promise(setImmediate);
  } finally {
    redis.disconnect();
  }
  expect(rejections).toEqual([]);
});
