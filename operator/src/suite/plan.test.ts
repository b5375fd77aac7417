import { SUITE_FINALIZER } from '@crucible/crds';
import { describe, expect, test } from 'vitest';
import { NOW, at, settings } from '../evaluation/testing/builders.ts';
import type { SuitePlan } from './actions.ts';
import { plan, planGone } from './plan.ts';
import { buildStatus } from './status.ts';
import { ended, open, suiteSnapshot } from './testing/builders.ts';
import type { SnapshotOptions } from './testing/builders.ts';

const decide = (options: SnapshotOptions = {}): SuitePlan => plan(suiteSnapshot(options), NOW, settings());
const types = (actions: SuitePlan['actions']): string[] => actions.map(({ type }) => type);
const created = ({ then }: SuitePlan): number[] => then.flatMap((action) => (action.type === 'createRun' ? [action.run.sample] : []));
const DELETED = { deletionTimestamp: at(-5) };

describe('a new suite', () => {
  test('is tried, gets its finalizer and its record, and only then its first runs', () => {
    const decision = decide({ spec: { samples: 20 }, metadata: { finalizers: [] }, record: 'none' });
    expect(types(decision.actions)).toEqual(['tryTemplate', 'addFinalizer', 'recordSuite']);
    expect(created(decision)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(decision.view).toMatchObject({ phase: 'Pending', accepted: { status: 'True' }, summary: { notStarted: 20 } });
  });

  test.each<[string, SnapshotOptions['changes'], string]>([
    ['cannot be read', { suite: undefined, invalid: 'spec: wrong' }, 'InvalidSpec'],
    ['has no cells', { cells: [], runs: [] }, 'EmptyMatrix'],
    ['would not be admitted', { refusal: { admitted: false, reason: 'RuntimeNotFound', message: 'none' } }, 'RuntimeNotFound'],
  ])('that %s is refused, and nothing is written but its status', (_, changes, reason) => {
    const decision = decide({ record: 'none', ...(changes && { changes }) });
    expect([decision.actions, decision.then, decision.results]).toEqual([[], [], []]);
    expect(decision.view).toMatchObject({ accepted: { status: 'False', reason } });
    expect(decision.view?.summary).toBeUndefined();
  });
});

describe('while it runs', () => {
  test.each<[number, SnapshotOptions['runs'], number[]]>([
    [2, [], [1, 2]],
    [2, [open()], [2]],
    [2, [open(), open()], []],
    [2, [ended('Passed'), open()], [3]],
    [1, [open(), open()], []],
    [3, [open({ ending: true, deletable: false })], [2, 3]],
    [2, [open(), { kind: 'absent' }, open()], []],
    [3, [open(), { kind: 'absent' }, open()], [2]],
  ])('parallelism %i with %o creates %o', (parallelism, runs = [], expected) => {
    expect(created(decide({ spec: { samples: 4, parallelism }, runs }))).toEqual(expected);
  });

  test('creates nothing while it would not be admitted, and goes on counting', () => {
    const refusal = { admitted: false, reason: 'RuntimeNotFound', message: 'none' } as const;
    const after = (samples: number, runs: NonNullable<SnapshotOptions['runs']>) => decide({ spec: { samples }, runs, changes: { refusal } });
    const passed = ended('Passed', { recorded: 'added' });
    const goesOn = after(3, [passed, open()]);
    expect(goesOn).toMatchObject({ then: [], view: { phase: 'Running', accepted: { status: 'True' }, summary: { passed: 1 } } });
    expect(goesOn.view?.obstacle).toEqual({ reason: 'RuntimeNotFound', message: 'The runs under way go on and are counted; no other can start. none' });
    expect(goesOn.results).toHaveLength(1);
    // All have started: nothing is refused any more. None is under way: nothing goes on.
    expect(after(2, [passed, open()]).view).toMatchObject({ accepted: { status: 'True' }, obstacle: undefined });
    expect(after(3, [passed]).view).toMatchObject({ accepted: { status: 'False', reason: 'RuntimeNotFound' }, obstacle: undefined });
  });

  test('that cannot be read any more, by a newer operator, goes on counting, creates nothing and gets no end but a cancel', () => {
    const unread = { suite: undefined, invalid: 'spec: wrong' };
    const runs = [ended('Passed', { recorded: 'added' }), open(), open({ recorded: false })];
    const decision = decide({ spec: { samples: 5 }, runs, changes: unread });
    expect([types(decision.actions), decision.then]).toEqual([['addRun'], []]);
    expect(decision.results).toHaveLength(1);
    expect(decision.view).toMatchObject({ accepted: { status: 'False', reason: 'InvalidSpec' }, summary: { total: 5, passed: 1 } });
    expect(decide({ runs: [ended('Passed')], changes: unread }).view?.end).toBeUndefined();
    const cancelled = (states: SnapshotOptions['runs']) => decide({ spec: { samples: 5, cancel: true }, runs: states!, changes: unread });
    expect(types(cancelled(runs).then)).toEqual(['cancelRun', 'cancelRun']);
    expect(cancelled([ended('Passed'), ended('Cancelled')]).view?.end).toMatchObject({ phase: 'Cancelled', reason: 'Cancelled' });
  });

  test('records what it finds unrecorded: which Evaluation a run is, and how it ended', () => {
    const decision = decide({ spec: { samples: 4 }, runs: [open({ recorded: false }), ended('Passed', { recorded: 'no' }), ended('Failed', { recorded: 'added' }), ended('Passed')] });
    expect(decision.actions).toMatchObject([{ type: 'addRun', run: { sample: 1 } }, { type: 'addRun', run: { sample: 2 } }]);
    expect(decision.results.map(({ sample, outcome }) => [sample, outcome])).toEqual([[2, 'Passed'], [3, 'Failed']]);
  });

  test('a change of the spec is recorded', () => {
    expect(types(decide({ metadata: { generation: 2 }, runs: [open()] }).actions)).toEqual(['recordSuite']);
  });
});

describe('the end', () => {
  test.each<[string, SnapshotOptions, [string, string] | undefined]>([
    ['all passed', { runs: [ended('Passed'), ended('Passed')] }, ['Succeeded', 'Succeeded']],
    ['one failed', { runs: [ended('Passed'), ended('Failed')] }, ['Failed', 'TooFewPassed']],
    ['one broken by the infrastructure', { runs: [ended('Passed'), ended('InfrastructureFailed')] }, ['Failed', 'TooFewPassed']],
    ['half is enough', { spec: { minPassPercent: 50 }, runs: [ended('Passed'), ended('Failed')] }, ['Succeeded', 'Succeeded']],
    ['half is not', { spec: { minPassPercent: 51 }, runs: [ended('Passed'), ended('Failed')] }, ['Failed', 'TooFewPassed']],
    ['nothing need pass', { spec: { minPassPercent: 0 }, runs: [ended('Failed'), ended('Failed')] }, ['Succeeded', 'Succeeded']],
    ['one was cancelled by somebody', { runs: [ended('Passed'), ended('Cancelled')] }, ['Failed', 'TooFewPassed']],
    ['cancelled before anything began', { spec: { cancel: true } }, ['Cancelled', 'Cancelled']],
    ['cancelled too late to matter', { spec: { cancel: true }, runs: [ended('Passed'), ended('Passed')] }, ['Succeeded', 'Succeeded']],
    ['fail fast, the first failed', { spec: { failFast: true }, runs: [ended('Failed')] }, ['Failed', 'FailedFast']],
    ['fail fast, still possible', { spec: { failFast: true, minPassPercent: 50 }, runs: [ended('Failed')] }, undefined],
    ['one still runs', { runs: [ended('Passed'), open()] }, undefined],
  ])('%s', (_, options, expected) => {
    const { view, then } = decide({ ...options, spec: { samples: 2, ...options.spec } });
    expect(view?.end && [view.end.phase, view.end.reason]).toEqual(expected);
    if (expected !== undefined) expect(types(then)).toEqual(['removeFinalizer']);
  });

  test.each([{ cancel: true }, { failFast: true }])('with %o ends what runs, creates nothing, and waits', (spec) => {
    const runs = [ended('Failed'), open(), open({ ending: true })];
    const { then, view } = decide({ spec: { samples: 5, ...spec }, runs });
    expect(types(then)).toEqual(['cancelRun']);
    expect(view).toMatchObject({ phase: 'Cancelling' });
  });

  test('with runs that nobody has seen asks for them first', () => {
    for (const spec of [{ cancel: true }, { failFast: true }]) {
      const { actions } = decide({ spec: { samples: 3, ...spec }, runs: [ended('Failed')] });
      expect(actions).toMatchObject([{ type: 'confirmAbsent', names: [{}, {}].map(() => expect.stringMatching(/-1-[23]$/)) }]);
    }
    expect(decide({ runs: [ended('Passed')] }).actions).toEqual([]);
    expect(types(decide({ spec: { samples: 2 }, metadata: DELETED, runs: [ended('Passed')] }).actions)).toEqual(['confirmAbsent']);
    expect(types(planGone(suiteSnapshot({ spec: { samples: 2 }, runs: [ended('Passed')] }), NOW).actions)).toEqual(['confirmAbsent']);
  });

  test('that is in the record is said again as it is there, whatever one would say now', () => {
    const record = { phase: 'Failed', reason: 'FailedFast', message: 'said then', finishedAt: new Date(at(-1)) };
    const { view, actions, results } = decide({ record, runs: [ended('Passed')] });
    expect(view?.end).toEqual(record);
    expect([actions, results]).toEqual([[], []]);
  });

  test('once it is said only the finalizer and the generation are left', () => {
    const status = buildStatus(decide({ runs: [ended('Passed')] }).view!, 1, undefined, NOW);
    expect(decide({ status, runs: [ended('Passed')] })).toMatchObject({ view: undefined, observe: true, then: [{ type: 'removeFinalizer' }] });
    expect(decide({ status, metadata: { finalizers: [] } }).then).toEqual([]);
  });
});

describe('deletion', () => {
  test('deletes what runs and waits, then records the end, then lets go', () => {
    const first = decide({ spec: { samples: 3 }, metadata: DELETED, runs: [ended('Passed'), open(), open({ deletable: false, ending: true })] });
    expect(types(first.then)).toEqual(['deleteRun']);
    expect(first).toMatchObject({ view: { phase: 'Cancelling' }, requeueAfterSeconds: 5 });
    const last = decide({ spec: { samples: 3 }, metadata: DELETED, runs: [ended('Passed'), ended('Cancelled', { recorded: 'added' })] });
    expect(types(last.then)).toEqual(['removeFinalizer']);
    expect(last.view?.end).toMatchObject({ phase: 'Cancelled', reason: 'Deleted' });
    expect(last.results).toHaveLength(1);
  });

  test('of what was never recorded is free', () => {
    expect(decide({ metadata: DELETED, record: 'none' })).toMatchObject({ view: undefined, then: [{ type: 'removeFinalizer' }] });
  });

  test('while Postgres is away is not held up for ever', () => {
    const away = (since: number): string[] =>
      types(decide({ metadata: DELETED, record: 'unavailable', runs: [open()], changes: { unavailableSince: NOW - since * 1000 } }).then);
    expect(away(1)).toEqual(['deleteRun']);
    const long = { deletionTimestamp: at(-120) };
    expect(types(decide({ metadata: long, record: 'unavailable', changes: { unavailableSince: NOW - 61_000 } }).then)).toEqual(['removeFinalizer']);
    expect(types(decide({ metadata: long, record: 'unavailable', changes: { unavailableSince: NOW - 10_000 } }).then)).toEqual([]);
  });

  test('by force is recorded when the runs have ended', () => {
    expect(planGone(suiteSnapshot({ runs: [open()] }), NOW).view).toBeUndefined();
    expect(planGone(suiteSnapshot({ runs: [ended('Passed')] }), NOW).view?.end).toMatchObject({ reason: 'Deleted' });
  });
});

test('while Postgres is away nothing is created or decided', () => {
  const fresh = decide({ record: 'unavailable' });
  expect(fresh).toMatchObject({ actions: [], then: [], view: { accepted: { status: 'Unknown', reason: 'RecordUnavailable' } }, requeueAfterSeconds: 5 });
  const status = buildStatus(decide({ runs: [open()] }).view!, 1, undefined, NOW);
  expect(decide({ record: 'unavailable', status, spec: { samples: 9 } })).toMatchObject({ actions: [], then: [], view: undefined });
});

test('the finalizer is one that people can read', () => expect(SUITE_FINALIZER).toBe('crucible.dev/suite'));
