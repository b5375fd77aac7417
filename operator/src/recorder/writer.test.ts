import type { AppendChunks, AppendOutcome } from '@crucible/storage';
import { UnavailableError } from '@crucible/storage';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { MemoryBudget } from './budget.ts';
import type { Frame } from './frames.ts';
import { Slots } from './slots.ts';
import { Spool } from './spool.ts';
import { CaptureWriter, type WriterOptions } from './writer.ts';

const KIB = 1024;

/** A writer whose appends wait until they are let through. */
function start(budgetBytes: number, more: Partial<WriterOptions> = {}) {
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
    drains: new Slots(1),
    budget,
    clock: { after: () => () => undefined } as unknown as WriterOptions['clock'],
    metrics: { bytes: { inc: () => undefined }, spooled: { inc: () => undefined } } as unknown as WriterOptions['metrics'],
    signal: new AbortController().signal,
    ...more,
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
  offer(256);
  expect(writer.relieve()).toBeUndefined();
  offer(256);
  const waiting = writer.relieve();
  expect(waiting).toBeInstanceOf(Promise);
  appends[0]!.answer();
  await turn();
  // Everything that came meanwhile, at once.
  expect(appends.map(({ input }) => input.lastSeq)).toEqual([8, 72]);
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

it('reads no more than a piece of each log while all together hold too much, however little its own is', async () => {
  const { writer, budget, appends, offer, turn } = start(100 * KIB);
  offer(8);
  expect(writer.relieve()).toBeUndefined();
  budget.change(100 * KIB);
  offer(8);
  const waiting = writer.relieve();
  expect(waiting).toBeInstanceOf(Promise);
  await turn();
  expect(appends.map(({ input }) => input.lastSeq)).toEqual([2]);
  appends[0]!.answer();
  await waiting;
});

/** A database that is away until it is said to be back. */
function away() {
  let back = (): void => undefined;
  const state = { available: true, downs: 0 };
  let recovery = Promise.resolve();
  const database = {
    get available() {
      return state.available;
    },
    persist: (work: () => Promise<unknown>) => work(),
    reportDown: () => {
      state.downs += 1;
      state.available = false;
      recovery = new Promise((resolve) => (back = resolve));
    },
    whenAvailable: () => recovery,
  } as unknown as WriterOptions['database'];
  const restore = (): void => {
    state.available = true;
    back();
  };
  return { database, restore };
}

async function spoolFolder(): Promise<Spool> {
  const folder = await mkdtemp(join(tmpdir(), 'crucible-spool-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const spool = new Spool(folder, 1024 * KIB);
  await spool.open();
  return spool;
}

it('stores what a log had spooled once Postgres is back, also when the log has no more to say', async () => {
  const [{ database, restore }, spool] = [away(), await spoolFolder()];
  const { writer, budget, appends, offer } = start(1024 * KIB, { database, spool });
  offer(8);
  const flushed = writer.flush();
  await expect.poll(() => appends.length).toBe(1);
  appends[0]!.answer(new UnavailableError('away'));
  await flushed;
  expect([spool.bytes > 8 * KIB, budget.heldBytes]).toEqual([true, 0]);
  restore();
  await expect.poll(() => appends.length).toBe(2);
  expect(appends[1]!.input).toMatchObject({ afterSeq: 0, lastSeq: 1 });
  appends[1]!.answer();
  await expect.poll(() => spool.bytes).toBe(0);
  expect(writer.direct).toBe(false);
});

it('knows whether all that is stored is of its own appends', async () => {
  const { writer, appends, offer } = start(1024 * KIB);
  offer(8);
  const flushed = writer.flush();
  await expect.poll(() => appends.length).toBe(1);
  appends[0]!.answer();
  await flushed;
  expect(writer.direct).toBe(true);

  // Another was faster: all of it is stored.
  const position = { lastSeq: 1, missing: [], streams: { stdout: { bytes: 8 * KIB + 1, lines: 1 }, stderr: { bytes: 0, lines: 0 } } };
  const second = start(1024 * KIB, { captures: { append: () => Promise.resolve({ outcome: 'stale', position }) } });
  second.offer(8);
  await second.writer.flush();
  expect([second.writer.position, second.writer.direct]).toEqual([position, false]);
});

it('leaves a spool alone once it is closed: another writer may have taken the capture up', async () => {
  const [{ database, restore }, spool] = [away(), await spoolFolder()];
  const { writer, appends, offer, turn } = start(1024 * KIB, { database, spool });
  offer(8);
  const flushed = writer.flush();
  await expect.poll(() => appends.length).toBe(1);
  appends[0]!.answer(new UnavailableError('away'));
  await flushed;
  await writer.close();
  const looks = vi.spyOn(spool, 'files');
  restore();
  for (let turns = 0; turns < 20; turns += 1) await turn();
  expect(looks).not.toHaveBeenCalled();
  expect(spool.bytes).toBeGreaterThan(8 * KIB);
});

it('stores what it spools after it has recovered what an earlier capture of the same process had spooled', async () => {
  const [first, spool] = [away(), await spoolFolder()];
  const before = start(1024 * KIB, { database: first.database, spool });
  before.offer(8);
  const flushed = before.writer.flush();
  await expect.poll(() => before.appends.length).toBe(1);
  before.appends[0]!.answer(new UnavailableError('away'));
  await flushed;
  await before.writer.close();

  const second = away();
  const { writer, appends, offer } = start(1024 * KIB, { database: second.database, spool });
  const recovering = writer.recover();
  await expect.poll(() => appends.length).toBe(1);
  appends[0]!.answer();
  await recovering;
  offer(16);
  const again = writer.flush();
  await expect.poll(() => appends.length).toBe(2);
  appends[1]!.answer(new UnavailableError('away again'));
  await again;
  second.restore();
  await expect.poll(() => appends.length).toBe(3);
  expect(appends[2]!.input).toMatchObject({ afterSeq: 1, lastSeq: 2, missing: [] });
  expect(Buffer.concat(appends[2]!.input.chunks.map(({ data }) => data))).toHaveLength(8 * KIB + 1);
  appends[2]!.answer();
});
