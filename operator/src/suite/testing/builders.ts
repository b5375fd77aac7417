import { API_VERSION, SUITE_FINALIZER, expandMatrix } from '@crucible/crds';
import type { EvaluationSuite, EvaluationSuiteSpec } from '@crucible/crds';
import type { RunOutcome, SuiteRecord } from '@crucible/storage';
import { aSuite } from '../../../../crds/src/testing/builders.ts';
import { at } from '../../evaluation/testing/builders.ts';
import { placesOf, runName } from '../run.ts';
import type { RawSuite, RunState, SuiteSnapshot } from '../snapshot.ts';

export const SUITE_UID = '5b5f7a4e-5d0c-4a5e-9a43-0c3b2f1e8a55';

export interface SnapshotOptions {
  readonly spec?: Partial<EvaluationSuiteSpec>;
  /** By number of the run; the others are absent. */
  readonly runs?: readonly RunState[];
  readonly metadata?: object;
  readonly status?: RawSuite['status'];
  readonly record?: Partial<SuiteRecord> | 'none' | 'unavailable';
  readonly changes?: Partial<SuiteSnapshot>;
}

/** Accepted and recorded, unless said otherwise. */
export function suiteSnapshot({ spec = {}, runs = [], metadata, status, record = {}, changes = {} }: SnapshotOptions = {}): SuiteSnapshot {
  const meta = { uid: SUITE_UID, generation: 1, creationTimestamp: at(-60), finalizers: [SUITE_FINALIZER], ...metadata };
  const suite: EvaluationSuite = aSuite(spec, meta);
  const cells = expandMatrix(suite.spec.matrix);
  const absent: RunState = { kind: 'absent' };
  const { name } = suite.metadata;
  return {
    key: 'evals/sums',
    raw: { apiVersion: API_VERSION, kind: 'EvaluationSuite', metadata: { name, namespace: 'evals', ...meta }, spec: suite.spec, ...(status && { status }) },
    suite,
    invalid: undefined,
    cells,
    runs: placesOf(cells.length, suite.spec.samples ?? 1).map((place, index) => ({
      ...place,
      name: runName({ name, uid: SUITE_UID }, place),
      state: withPlace(runs[index] ?? absent, place),
    })),
    record: record === 'none' ? undefined : record === 'unavailable' ? record : suiteRecord(record),
    unavailableSince: undefined,
    refusal: undefined,
    obstacle: undefined,
    ...changes,
  };
}

function withPlace(state: RunState, place: { cell: number; sample: number }): RunState {
  return state.kind === 'finished' ? { ...state, result: { ...state.result, ...place } } : state;
}

export function suiteRecord(changes: Partial<SuiteRecord> = {}): SuiteRecord {
  return {
    uid: SUITE_UID, namespace: 'evals', namespaceUid: SUITE_UID, name: 'sums', generation: 1, spec: {}, labels: {},
    phase: 'Running', reason: null, message: null, total: 1, createdAt: new Date(at(-60)), acceptedAt: new Date(at(-59)),
    finishedAt: null, epoch: 1, ...changes,
  };
}

let made = 0;
const uid = (): string => `00000000-0000-4000-8000-${String((made += 1)).padStart(12, '0')}`;

export function open(changes: Partial<Extract<RunState, { kind: 'unfinished' }>> = {}): RunState {
  return { kind: 'unfinished', uid: uid(), recorded: true, createdAt: new Date(at(-50)), ending: false, deletable: true, ...changes };
}

export function ended(outcome: RunOutcome, { attempts = 1, recorded = 'ended' as 'no' | 'added' | 'ended', verdictClass = '' } = {}): RunState {
  const classes = { Passed: 'Succeeded', Failed: 'NonZeroExit', InfrastructureFailed: 'NodeLost', Cancelled: 'Cancelled' } as const;
  const result = { cell: 1, sample: 1, outcome, verdictClass: verdictClass || classes[outcome], attempts, finishedAt: new Date(at(-10)) };
  return { kind: 'finished', uid: uid(), recorded, createdAt: new Date(at(-50)), result };
}
