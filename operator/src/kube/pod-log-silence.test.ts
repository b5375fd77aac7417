import { pino } from 'pino';
import { afterEach, expect, it, vi } from 'vitest';
import { KubeClient } from './client.ts';
import { FakeClock } from './testing.ts';
import { ScriptedServer } from './testing-server.ts';

// A file of its own: undici keeps one timer for all its connections, which must be a fake one from the start.
const HOUR_MS = 3_600_000;

afterEach(() => void vi.useRealTimers());

it('podLog may be silent for longer than the 300 s after which undici ends a body', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const server = await ScriptedServer.start();
  const clock = new FakeClock();
  const client = new KubeClient({ access: server.access(), logger: pino({ level: 'silent' }), clock });
  const opening = client.podLog('evals', 'p', { follow: true });
  const exchange = (await server.next()).open();
  const stream = (await opening)[Symbol.asyncIterator]();
  exchange.raw('first');
  expect(Buffer.from((await stream.next()).value).toString()).toBe('first');
  const second = stream.next().catch((error: unknown) => error);
  await clock.advance(HOUR_MS);
  await vi.advanceTimersByTimeAsync(HOUR_MS);
  exchange.raw('second').end();
  expect(await second).toMatchObject({ done: false });
  expect((await stream.next()).done).toBe(true);
  await client.close();
  await server.close();
});
