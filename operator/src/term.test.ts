import { pino } from 'pino';
import { expect, it } from 'vitest';
import { FakeClock } from './kube/testing.ts';
import { endTerm, startTerm } from './term.ts';
import type { Operator } from './term.ts';

const SHUTDOWN_SECONDS = 20;

function fake(stop: () => Promise<void> = () => Promise.resolve()): Operator & { started: number; limits: number[] } {
  const operator = {
    started: 0,
    limits: [] as number[],
    start: () => Promise.resolve(void (operator.started += 1)),
    stop: (limitSeconds: number) => (operator.limits.push(limitSeconds), stop()),
  };
  return operator;
}

function ending(operators: readonly Operator[], reason: 'lost' | 'stopped'): { clock: FakeClock; log: string[]; over: () => boolean; end: Promise<void> } {
  const [clock, log] = [new FakeClock(), [] as string[]];
  const logger = pino({ level: 'warn' }, { write: (line) => void log.push(line) });
  let over = false;
  const end = endTerm(operators, { reason, shutdownSeconds: SHUTDOWN_SECONDS, logger, clock }).then(() => void (over = true));
  return { clock, log, over: () => over, end };
}

it('gives half of the time for shutting down to what is under way, and none when somebody else may lead already', async () => {
  for (const [reason, limit] of [['stopped', 10], ['lost', 0]] as const) {
    const operators = [fake(), fake()];
    const { clock, end, log } = ending(operators, reason);
    await end;
    expect(operators.map(({ limits }) => limits)).toEqual([[limit], [limit]]);
    expect([clock.pending, log]).toEqual([[], []]);
  }
});

it('what never ends, because Postgres does not answer, leaves time to release the lease', async () => {
  const { clock, log, over } = ending([fake(), fake(() => new Promise(() => undefined))], 'stopped');
  // A controller takes a second more than its limit to abort what it runs.
  await clock.advance(11_500);
  expect(over()).toBe(false);
  await clock.advance(1000);
  expect(over()).toBe(true);
  expect(log.join()).toContain('not everything ended in time');
});

it('starts nothing more once the term is over', async () => {
  const term = new AbortController();
  const last = fake();
  const first = { ...fake(), start: () => Promise.resolve(term.abort()) };
  await startTerm([first, last], { epoch: 1, signal: term.signal });
  expect(last.started).toBe(0);
});
