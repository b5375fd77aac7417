import type { AppendChunks, AppendOutcome } from '@crucible/storage';
import { expect, it } from 'vitest';
import { MemoryBudget } from './budget.ts';
import type { Frame } from './frames.ts';
import { CaptureWriter, type WriterOptions } from './writer.ts';

const KIB = 1024;

/** A writer whose appends wait until they are let through. */
function start(budgetBytes: number) {
  const appends: { input: AppendChunks; answer: (error?: Error) => void }[] = [];
  const position = { lastSeq: 0, missing: [], streams: { stdout: { bytes: 0, lines: 0 }, stderr: { bytes: 0, lines: 0 } } };
  const append = (input: AppendChunks): Promise<AppendOutcome> =>
    new Promise((resolve, reject) => {
      const answer = (error?: Error): void =>
        error === undefined ? resolve({ outcome: 'appended', position: { ...position, lastSeq: input.lastSeq } }) : reject(error);
      appends.push({ input, answer });
    });
  const budget = new MemoryBudget(budgetBytes);
  const writer = new CaptureWriter({
    key: { evaluationUid: 'e', attempt: 1, podUid: 'p' },
    recorder: () => 'recorder@1',
    position,
    captures: { append },
    database: { available: true, reportDown: () => undefined } as unknown as WriterOptions['database'],
    spool: {} as WriterOptions['spool'],
    budget,
    clock: { after: () => () => undefined } as unknown as WriterOptions['clock'],
    metrics: { bytes: { inc: () => undefined } } as unknown as WriterOptions['metrics'],
    signal: new AbortController().signal,
  });
  let seq = 0;
  const offer = (kibibytes: number): void => {
    for (let written = 0; written < kibibytes; written += 8) {
      const frame: Frame = { seq: (seq += 1), kind: 'stdout', text: Buffer.alloc(8 * KIB, 'x'), newline: true };
      writer.offer(frame);
    }
  };
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return { writer, budget, appends, offer, turn };
}

it('lets its reader go on while the first part is written, but not for ever', async () => {
  const { writer, appends, offer, turn } = start(1024 * KIB);
  offer(56);
  expect(writer.relieve()).toBeUndefined();
  expect(appends).toHaveLength(0);
  offer(8);
  expect(writer.relieve()).toBeUndefined();
  await turn();
  expect(appends).toHaveLength(1);
  offer(128);
  expect(writer.relieve()).toBeUndefined();
  offer(128);
  const waiting = writer.relieve();
  expect(waiting).toBeInstanceOf(Promise);
  appends[0]!.answer();
  await turn();
  // Everything that came meanwhile, at once.
  expect(appends.map(({ input }) => input.lastSeq)).toEqual([8, 40]);
  appends[1]!.answer();
  await waiting;
});

it('waits with every part while all together hold too much', async () => {
  const { writer, budget, appends, offer, turn } = start(100 * KIB);
  budget.change(90 * KIB);
  offer(64);
  const waiting = writer.relieve();
  expect(waiting).toBeInstanceOf(Promise);
  await turn();
  appends[0]!.answer();
  await waiting;
  expect(budget.heldBytes).toBe(90 * KIB);
});

it('gives back what it held when a write fails, and says so to its reader', async () => {
  const { writer, budget, appends, offer, turn } = start(1024 * KIB);
  offer(64);
  expect(writer.relieve()).toBeUndefined();
  await turn();
  offer(8);
  appends[0]!.answer(new Error('refused'));
  await turn();
  await expect(writer.relieve()).rejects.toThrow('refused');
  expect(budget.heldBytes).toBe(0);
});
