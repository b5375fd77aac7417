import { expect, it } from 'vitest';
import { PASSING_SECONDS, PassingStates } from './passing.ts';
import { NOW } from './testing/builders.ts';

const KEY = 'evals/hello';

it('says what a run waits for, and how it ended, at once', () => {
  const states = new PassingStates();
  for (const phase of ['Queued', 'Succeeded', 'Failed', 'Cancelled'] as const)
    expect(states.holdSeconds(KEY, { phase }, NOW)).toBe(0);
});

it('says of a run under way what it is after two seconds, however often it changes until then', () => {
  const states = new PassingStates();
  expect(states.holdSeconds(KEY, { phase: 'Starting' }, NOW)).toBe(PASSING_SECONDS);
  expect(states.holdSeconds(KEY, { phase: 'Running' }, NOW + 250)).toBe(1.75);
  expect(states.holdSeconds('evals/other', { phase: 'Running' }, NOW + 250)).toBe(PASSING_SECONDS);
  expect(states.holdSeconds(KEY, { phase: 'Capturing' }, NOW + 2000)).toBe(0);
  states.said(KEY);
  expect(states.holdSeconds(KEY, { phase: 'Capturing' }, NOW + 2100)).toBe(PASSING_SECONDS);
});
