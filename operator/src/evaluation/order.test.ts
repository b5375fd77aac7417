import { CAPTURE_FINALIZER, LABELS } from '@crucible/crds';
import { expect, it } from 'vitest';
import type { Action } from './actions.ts';
import { inSteps } from './order.ts';
import { launched, output, pod, rawEvaluation, snapshot } from './testing/builders.ts';
import { accepted, decide, finished } from './testing/plans.ts';

const types = (actions: readonly Action[], inOrder = false): string[][][] =>
  inSteps(actions, inOrder).map((step) => step.map((lane) => lane.map(({ type }) => type)));

it('a start: row and finalizer together with its ConfigMap, and all of them before the Job', () => {
  expect(types(decide(snapshot()).actions)).toEqual([[['addFinalizer'], ['recordAttempt'], ['createConfigMap']], [['launch']]]);
});

it('a start with files of others: what they were is recorded before they are copied', () => {
  const files = [{ path: 'a', configMapRef: { name: 'm', key: 'k' } }];
  const metadata = { name: 'm', labels: { [LABELS.input]: 'true' } };
  const inputs = new Map([['m', { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { k: 'text' } }]]);
  const { actions } = decide(snapshot({ spec: { files }, inputs }));
  expect(types(actions)).toEqual([[['addFinalizer'], ['recordAttempt', 'createConfigMap']], [['launch']]]);
});

it('the end of an attempt: first the record, then what is left, the pod after its Job', () => {
  const raw = rawEvaluation({ retry: { limit: 1, on: ['Any'] } }, { metadata: { finalizers: [CAPTURE_FINALIZER] } });
  const subject = launched({ raw, pod: pod().ended(1).build(), output: output() });
  expect(types(decide(subject).actions)).toEqual([
    [['recordEnd']],
    [['settleJob', 'releasePod'], ['deleteConfigMap']],
    [['recordPhase']],
  ]);
  const { actions } = decide(subject);
  expect(types(actions, true)).toEqual(actions.map(({ type }) => [[type]]));
});

it('the end of a run: its finalizer last, for what could not be deleted is known by it', () => {
  const status = { conditions: [accepted, finished], attempts: [{ number: 1, jobName: 'hello-1' }] };
  const raw = rawEvaluation({}, { metadata: { finalizers: [CAPTURE_FINALIZER] }, status: status as never });
  const subject = launched({ raw, pod: pod().ended(0).build(), configMaps: 'left' });
  expect(types(decide(subject).actions)).toEqual([[['settleJob', 'releasePod'], ['deleteConfigMap']], [['removeFinalizer']]]);
});

it('what is to be done after that waits for all of it', () => {
  const actions = [
    { type: 'deleteConfigMap', name: 'a' },
    { type: 'recordPhase', phase: 'Queued' },
    { type: 'removeFinalizer' },
  ] as const;
  expect(types(actions)).toEqual([[['deleteConfigMap']], [['recordPhase']], [['removeFinalizer']]]);
  expect(types([])).toEqual([]);
});
