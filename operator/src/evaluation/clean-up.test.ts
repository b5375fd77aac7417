import { describe, expect, it } from 'vitest';
import type { Snapshot } from './snapshot.ts';
import { at, launched, output, pod, rawEvaluation } from './testing/builders.ts';
import { accepted, decide, finalizers, finished, types } from './testing/plans.ts';

const ended = { pod: pod().ended(0).build() };
const status = { conditions: [accepted, finished], attempts: [{ number: 1, jobName: 'hello-1' }] };
const over = (changes: Partial<Snapshot> = {}, metadata = {}): Snapshot => ({
  ...launched({ ...ended, raw: rawEvaluation({}, { metadata: { finalizers, ...metadata }, status: status as never }) }),
  ...changes,
});

describe('what a run leaves in the cluster', () => {
  it('goes once the status says how it ended', () => {
    const subject = launched({ ...ended, output: output(), raw: rawEvaluation({}, { metadata: { finalizers } }) });
    expect(decide(subject)).toMatchObject({ actions: [{ type: 'recordEnd' }], view: { phase: 'Succeeded' } });
    expect(types(over())).toEqual(['settleJob', 'releasePod', 'sweepConfigMaps']);
  });

  it('goes with its Evaluation', () => {
    const raw = rawEvaluation({}, { metadata: { finalizers, deletionTimestamp: at(-5) } });
    expect(types(launched({ ...ended, output: output(), raw }))).toEqual(['recordEnd', 'deleteJob', 'releasePod', 'deleteConfigMap', 'removeFinalizer']);
  });

  const handedOver = { job: undefined, pod: undefined };
  it('keeps the finalizer until its ConfigMaps have gone: whoever takes over sees by it that they are left', () => {
    expect(types(over(handedOver))).toEqual(['sweepConfigMaps']);
    expect(types(over({ ...handedOver, configMaps: 'gone' }))).toEqual(['removeFinalizer']);
    expect(types(over({ ...handedOver, configMaps: 'left' }))).toEqual(['deleteConfigMap', 'removeFinalizer']);
  });

  it('goes at once when the Evaluation is deleted', () => {
    expect(types(over({}, { deletionTimestamp: at(0) }))).toEqual(['deleteJob', 'releasePod', 'deleteConfigMap', 'removeFinalizer']);
    expect(types(over({ ...handedOver, configMaps: 'gone' }, { deletionTimestamp: at(0) }))).toEqual(['removeFinalizer']);
  });

  it('asks for nothing again once the finalizer is off', () => {
    const raw = rawEvaluation({}, { status: status as never });
    expect(types(over({ ...handedOver, raw }))).toEqual([]);
  });
});
