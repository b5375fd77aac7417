import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { UnavailableError } from './errors.ts';
import { Turns } from './turns.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

const SILENCE = 5_000;

it('serves a crowd in the order of asking, however long that takes, while somebody is answered', async () => {
  const turns = new Turns(1, SILENCE);
  const served: number[] = [];
  const crowd = Array.from({ length: 20 }, async (_, index) => {
    await turns.take();
    served.push(index);
    setTimeout(() => {
      turns.answered();
      turns.giveBack();
    }, SILENCE - 1);
  });
  for (let turn = 0; turn < 20; turn += 1) await vi.advanceTimersByTimeAsync(SILENCE - 1);
  await Promise.all(crowd);
  expect(served).toEqual(Array.from({ length: 20 }, (_, index) => index));
  expect(turns.waiting).toBe(0);
});

it('takes the server for away once nobody has been answered for that long, and lets the others try again', async () => {
  const turns = new Turns(1, SILENCE);
  await turns.take();
  const waiting = turns.take().catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(SILENCE - 1);
  turns.answered();
  await vi.advanceTimersByTimeAsync(SILENCE - 1);
  expect(turns.waiting).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(await waiting).toBeInstanceOf(UnavailableError);
  expect(turns.waiting).toBe(0);
  turns.giveBack();
  await turns.take();
});
