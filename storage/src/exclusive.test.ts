import { createServer, type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { runExclusively } from './exclusive.ts';

test('says once why it gets no session, and once when it has one; goes on trying', async () => {
  let [connections, answers] = [0, false];
  const server = createServer((socket) => {
    connections += 1;
    if (!answers) return socket.destroy();
    // Just enough of Postgres' protocol: logged in, a simple query done; more is hung up on.
    const ready = Buffer.from('Z\0\0\0\x05I');
    socket.once('data', () => {
      socket.write(Buffer.concat([Buffer.from('R\0\0\0\x08\0\0\0\0'), ready]));
      socket.on('data', (data) => (data[0] === 0x51 ? socket.write(Buffer.concat([Buffer.from('C\0\0\0\x08SET\0'), ready])) : socket.destroy()));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const [told, stop]: [(string | undefined)[], AbortController] = [[], new AbortController()];
  const options = {
    connectionString: `postgresql://somebody:s3cret@127.0.0.1:${port}/db`,
    applicationName: 'test',
    key: 1,
    signal: stop.signal,
    retryMilliseconds: 1,
    onTrouble: (reason: string | undefined) => void told.push(reason),
  };
  const running = runExclusively(options, async () => expect.unreachable('there is nobody to give the lock'));
  await expect.poll(() => connections).toBeGreaterThan(5);
  expect(told).toHaveLength(1);
  answers = true;
  await expect.poll(() => told.length).toBeGreaterThan(1);
  expect(told[1]).toBeUndefined();
  stop.abort();
  await running;
  await new Promise((resolve) => server.close(resolve));
  expect(told.join()).not.toContain('s3cret');
});
