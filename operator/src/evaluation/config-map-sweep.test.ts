import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ConfigMapSweep } from './config-map-sweep.ts';
import type { ConfigMapSweepOptions } from './config-map-sweep.ts';

const asked: string[] = [];
let answer: (signal: AbortSignal) => Promise<void> = async () => {};
const client: ConfigMapSweepOptions['client'] = {
  deleteCollection: async ({ plural }, namespace, { labelSelector, signal }) => {
    asked.push(`${plural} ${namespace} ${labelSelector}`);
    await answer(signal!);
  },
};
const woken: string[] = [];
const sweeps = (): ConfigMapSweep =>
  new ConfigMapSweep({ client, wake: (uid) => woken.push(uid), logger: pino({ level: 'silent' }) });

beforeEach(() => {
  vi.useFakeTimers();
  asked.length = 0;
  woken.length = 0;
  answer = async () => {};
});
afterEach(() => vi.useRealTimers());

it('asks once for those of a second, of each namespace, and says what became of them', async () => {
  const sweep = sweeps();
  for (const uid of ['a', 'b', 'a']) sweep.want('evals', uid);
  sweep.want('other', 'c');
  expect(sweep.of('c')).toBeUndefined();
  await vi.advanceTimersByTimeAsync(999);
  expect(asked).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  const selects = (uids: string): string => `crucible.dev/evaluation-uid in (${uids}),app.kubernetes.io/managed-by=crucible`;
  expect(asked).toEqual([`configmaps evals ${selects('a,b')}`, `configmaps other ${selects('c')}`]);
  sweep.want('evals', 'a');
  await vi.advanceTimersByTimeAsync(1000);
  expect(asked).toHaveLength(2);
  expect(['a', 'b', 'c', 'd'].map((uid) => sweep.of(uid))).toEqual(['gone', 'gone', 'gone', undefined]);
  expect(woken).toEqual(['a', 'b', 'c']);
  sweep.forget('a');
  expect(sweep.of('a')).toBeUndefined();
});

it('cuts what no address can hold', async () => {
  const sweep = sweeps();
  for (let index = 0; index < 120; index += 1) sweep.want('evals', String(index));
  await vi.advanceTimersByTimeAsync(1000);
  const uids = asked.map((one) => /\(([0-9,]+)\)/.exec(one)![1]!.split(','));
  expect(uids.map(({ length }) => length)).toEqual([50, 50, 20]);
  expect(uids.flat()).toEqual(Array.from({ length: 120 }, (_, index) => String(index)));
  expect(sweep.of('119')).toBe('gone');
});

it('remembers nothing of who is forgotten meanwhile', async () => {
  const sweep = sweeps();
  sweep.want('evals', 'a');
  sweep.forget('a');
  await vi.advanceTimersByTimeAsync(1000);
  expect([asked.length, sweep.of('a')]).toEqual([1, undefined]);
});

it('says of which it could not, and goes on with the next', async () => {
  const sweep = sweeps();
  answer = async () => Promise.reject(new Error('away'));
  sweep.want('evals', 'a');
  await vi.advanceTimersByTimeAsync(1000);
  expect(sweep.of('a')).toBe('left');
  answer = async () => {};
  sweep.want('evals', 'b');
  await vi.advanceTimersByTimeAsync(1000);
  expect(sweep.of('b')).toBe('gone');
  expect(woken).toEqual(['a', 'b']);
});

it('asks for nothing once it is stopped', async () => {
  const [waiting, idle] = [sweeps(), sweeps()];
  waiting.want('evals', 'a');
  for (const sweep of [waiting, idle]) {
    await sweep.stop();
    sweep.want('evals', 'b');
  }
  await vi.advanceTimersByTimeAsync(5000);
  expect(asked).toEqual([]);
});

it('aborts what it asks when it is stopped, waits for that, and says nothing of it', async () => {
  const sweep = sweeps();
  answer = async (signal) =>
    await new Promise((_, reject) => signal.addEventListener('abort', () => setTimeout(() => reject(new Error('aborted')), 10)));
  sweep.want('evals', 'a');
  await vi.advanceTimersByTimeAsync(1000);
  expect(asked).toHaveLength(1);
  let stopped = false;
  const stop = sweep.stop().then(() => (stopped = true));
  await vi.advanceTimersByTimeAsync(9);
  expect(stopped).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  await stop;
  expect([sweep.of('a'), woken]).toEqual([undefined, []]);
});
