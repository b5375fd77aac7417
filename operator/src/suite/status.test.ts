import { LIMITS, evaluationSuiteStatusSchema } from '@crucible/crds';
import { describe, expect, test } from 'vitest';
import { NOW, settings } from '../evaluation/testing/builders.ts';
import type { SuiteView } from './actions.ts';
import { plan } from './plan.ts';
import { announcements, buildStatus } from './status.ts';
import { ended, open, suiteSnapshot } from './testing/builders.ts';
import type { SnapshotOptions } from './testing/builders.ts';

const viewOf = (options: SnapshotOptions): SuiteView => plan(suiteSnapshot(options), NOW, settings()).view!;
const statusOf = (options: SnapshotOptions, previous?: ReturnType<typeof buildStatus>, now = NOW) =>
  buildStatus(viewOf(options), 1, previous, now);
const holding = (status: ReturnType<typeof buildStatus>): string[] =>
  (status.conditions ?? []).filter(({ status }) => status === 'True').map(({ type, reason }) => `${type}=${reason}`);

const refusal = { admitted: false, reason: 'RuntimeNotFound', message: 'no' } as const;
const obstacle = { reason: 'QuotaExceeded', message: 'a quota' };

describe('conditions', () => {
  test.each<[string, SnapshotOptions, string[]]>([
    ['running', { runs: [open()] }, ['Accepted=Admitted', 'Reconciling=Running']],
    ['held up', { spec: { samples: 2 }, runs: [open()], changes: { obstacle } }, ['Accepted=Admitted', 'Reconciling=QuotaExceeded']],
    ['refused', { record: 'none', changes: { refusal } }, ['Stalled=RuntimeNotFound']],
    ['succeeded', { runs: [ended('Passed')] }, ['Accepted=Admitted', 'Complete=Succeeded', 'Finished=Succeeded', 'Ready=Succeeded']],
    ['failed', { runs: [ended('Failed')] }, ['Accepted=Admitted', 'Failed=TooFewPassed', 'Finished=TooFewPassed', 'Stalled=TooFewPassed']],
    ['cancelled', { spec: { cancel: true } }, ['Accepted=Admitted', 'Failed=Cancelled', 'Finished=Cancelled', 'Stalled=Cancelled']],
  ])('%s', (_, options, expected) => expect(holding(statusOf(options))).toEqual(expected));

  test('keep the time of their last transition', () => {
    const first = statusOf({ runs: [open()] });
    const later = statusOf({ runs: [ended('Passed')] }, first, NOW + 60_000);
    const since = (type: string) => later.conditions?.find((one) => one.type === type)?.lastTransitionTime;
    expect([since('Accepted'), since('Ready')]).toEqual(['2026-01-01T12:00:00Z', '2026-01-01T12:01:00Z']);
    expect(later).toMatchObject({ startedAt: first.startedAt, finishedAt: '2026-01-01T11:59:50Z', duration: '40s' });
  });
});

test('the largest status is below 16 KiB and says how many cells it leaves out', () => {
  const wide = '😀'.repeat(256);
  const names = ['A', 'B', 'C', 'D', 'E', 'F'].map((letter) => letter.repeat(64));
  const parameters = names.map((name, index) => ({ name, values: index === 0 ? Array.from({ length: 100 }, (_, i) => `${i}${wide}`.slice(0, 256)) : [wide] }));
  const runs = Array.from({ length: 1000 }, (_, index) => ended((['Passed', 'Failed', 'InfrastructureFailed', 'Cancelled'] as const)[index % 4]!));
  const message = '😀'.repeat(LIMITS.suiteMessageCharacters);
  const options = { spec: { matrix: { parameters }, samples: 10 }, runs: [...runs.slice(1), open()], changes: { refusal: { ...refusal, message } } };
  const status = statusOf(options);
  expect(Buffer.byteLength(JSON.stringify(status))).toBeLessThan(16 * 1024);
  expect((status.cells?.length ?? 0) + (status.cellsOmitted ?? 0)).toBe(100);
  expect(() => evaluationSuiteStatusSchema.parse(status)).not.toThrow();
  const small = statusOf({ spec: { matrix: { parameters: [{ name: 'A', values: ['1', '2'] }] } }, runs: [ended('Passed'), ended('Passed')] });
  expect([small.cells?.length, small.cellsOmitted]).toEqual([2, undefined]);
});

test('events tell of admission, of what holds it up and of the end; phases are no news', () => {
  const running = statusOf({ spec: { samples: 2 }, runs: [open()] });
  const said = (previous: Parameters<typeof announcements>[0], next: Parameters<typeof announcements>[1]) =>
    announcements(previous, next).map(({ type, reason }) => `${type} ${reason}`);
  expect(said(undefined, running)).toEqual(['Normal Admitted']);
  const held = statusOf({ spec: { samples: 2 }, runs: [open()], changes: { obstacle } }, running);
  expect(said(running, held)).toEqual(['Warning QuotaExceeded']);
  expect(said(held, held)).toEqual([]);
  expect(said(held, statusOf({ spec: { samples: 2 }, runs: [ended('Passed'), open()] }, held))).toEqual([]);
  expect(said(running, statusOf({ runs: [ended('Passed')] }, running))).toEqual(['Normal Succeeded']);
  expect(said(running, statusOf({ runs: [ended('Failed')] }, running))).toEqual(['Warning TooFewPassed']);
  expect(said(undefined, statusOf({ record: 'none', changes: { refusal } }))).toEqual(['Warning RuntimeNotFound']);
});
