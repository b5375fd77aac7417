import { RUN_OUTCOMES } from '@crucible/storage';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isOutOfReach, outcomeOf, summarize, summarizeCells } from './aggregate.ts';
import { ended, open, suiteSnapshot } from './testing/builders.ts';

test.each([
  ['succeeded, nothing expected', 'Succeeded', undefined, null, false, 'Passed'],
  ['as expected', 'Succeeded', undefined, true, true, 'Passed'],
  ['an expected exit code that is not 0', 'NonZeroExit', 'Code', true, true, 'Passed'],
  ['not as expected', 'Succeeded', undefined, false, true, 'Failed'],
  ['failed', 'NonZeroExit', 'Code', null, false, 'Failed'],
  ['refused by a policy', 'SandboxRefused', 'Policy', null, false, 'Failed'],
  ['a wrong image', 'ImagePullFailed', 'User', null, true, 'Failed'],
  ['its node was lost', 'NodeLost', 'Infrastructure', null, false, 'InfrastructureFailed'],
  ['its node was lost, scored all the same', 'NodeLost', 'Infrastructure', false, true, 'InfrastructureFailed'],
  ['cancelled', 'Cancelled', 'User', null, true, 'Cancelled'],
  ['came to its end while it was cancelled, so nobody compared it', 'Succeeded', undefined, null, true, 'Cancelled'],
])('%s', (_, kind, attributableTo, passed, expects, outcome) => {
  expect(outcomeOf({ verdict: { class: kind, attributableTo }, passed }, expects)).toBe(outcome);
});

test('four rates: of all, and without what was retried, broken by the infrastructure, or either', () => {
  const runs = [
    ended('Passed'), ended('Passed'), ended('Passed', { attempts: 2 }), ended('Failed'), ended('Failed', { attempts: 3 }),
    ended('InfrastructureFailed', { attempts: 3 }), ended('InfrastructureFailed'), ended('Cancelled', { attempts: 0 }), open(),
  ];
  const summary = summarize(suiteSnapshot({ spec: { samples: 10 }, runs }).runs);
  expect(summary).toMatchObject({
    total: 10, notStarted: 1, running: 1, passed: 3, failed: 2, infrastructureFailed: 2, cancelled: 1, finished: 8, retried: 3,
    passRates: {
      all: { passed: 3, runs: 7 },
      withoutRetried: { passed: 2, runs: 4 },
      withoutInfrastructure: { passed: 3, runs: 5 },
      withoutRetriedAndInfrastructure: { passed: 2, runs: 3 },
    },
  });
  expect(summary.verdicts).toEqual([
    { class: 'Succeeded', count: 3 }, { class: 'NonZeroExit', count: 2 }, { class: 'NodeLost', count: 2 }, { class: 'Cancelled', count: 1 },
  ]);
});

test('cells are counted apart, those without an end are left out', () => {
  const matrix = { parameters: [{ name: 'A', values: ['1', '2', '3'] }] };
  const { cells, runs } = suiteSnapshot({ spec: { matrix, samples: 2 }, runs: [ended('Passed'), ended('Failed'), ended('Passed'), open()] });
  expect(summarizeCells(cells, runs)).toEqual([
    { cell: 1, parameters: { A: '1' }, passed: 1, failed: 1, infrastructureFailed: 0, cancelled: 0, passRate: expect.objectContaining({ passed: 1, runs: 2 }) },
    { cell: 2, parameters: { A: '2' }, passed: 1, failed: 0, infrastructureFailed: 0, cancelled: 0, passRate: expect.objectContaining({ passed: 1, runs: 1 }) },
  ]);
});

test('every run is counted exactly once, whatever became of it', () => {
  const state = fc.oneof(
    fc.constant(undefined),
    fc.constant(open()),
    fc.tuple(fc.constantFrom(...RUN_OUTCOMES), fc.nat(3)).map(([outcome, attempts]) => ended(outcome, { attempts })),
  );
  fc.assert(
    fc.property(fc.array(state, { minLength: 1, maxLength: 30 }), (states) => {
      const runs = states.map((one) => one ?? ({ kind: 'absent' } as const));
      const summary = summarize(suiteSnapshot({ spec: { samples: runs.length }, runs }).runs);
      const { total, notStarted, running, finished, passed, failed, infrastructureFailed, cancelled } = summary;
      expect(notStarted + running + finished).toBe(total);
      expect(passed + failed + infrastructureFailed + cancelled).toBe(finished);
      expect(summary.passRates.all.runs).toBe(finished - cancelled);
      // Out of reach exactly when even with all the others passed it would be.
      for (const percent of [0, 50, 99, 100])
        expect(isOutOfReach(summary, percent)).toBe((passed + running + notStarted) * 100 < percent * total);
    }),
  );
});
