import { describe, expect, it } from 'vitest';
import { stoppedByKueue } from './kueue.ts';
import type { Snapshot } from './snapshot.ts';
import { at, job, launched, output, pod, rawEvaluation } from './testing/builders.ts';
import { accepted, decide, finalizers, find, finished, types } from './testing/plans.ts';

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

  it('is looked for only where there was an attempt, and then under the name of the last', () => {
    const none = rawEvaluation({}, { metadata: { finalizers }, status: { conditions: [accepted, finished] } as never });
    expect(types(over({ ...handedOver, raw: none }))).toEqual(['removeFinalizer']);
    const attempts = [{ number: 1, jobName: 'hello-1' }, { number: 2, jobName: 'hello-2' }];
    const retried = rawEvaluation({}, { metadata: { finalizers }, status: { ...status, attempts } as never });
    expect(find(over({ ...handedOver, raw: retried, configMaps: 'left' }), 'deleteConfigMap')).toMatchObject({ name: 'hello-2' });
  });

  it('includes every pod that is still held, and no other', () => {
    const other = pod().meta({ name: 'other', uid: 'other' }).ended(1).build();
    const free = pod().meta({ name: 'free', uid: 'free', finalizers: [] }).ended(1).build();
    const { actions } = decide(over({ job: undefined, others: [other, free], configMaps: 'gone' }));
    const released = actions.flatMap((action) => (action.type === 'releasePod' ? [action.podUid] : []));
    expect(released).toEqual([ended.pod.metadata.uid, 'other']);
  });

  const owned = job({ metadata: { ownerReferences: [{ uid: rawEvaluation().metadata.uid }] } });
  const going = job({ metadata: { deletionTimestamp: at(-1) } });
  const suspended = { ...job(), spec: { suspend: true } };
  it.each<[string, Partial<Snapshot>, string[]]>([
    ['handed over once', { job: owned }, []],
    ['left alone when it goes already', { job: going }, []],
    ['deleted when Kueue has stopped it, which would start it again', { job: suspended }, ['deleteJob']],
    ['deleted when its code never ran', { pod: pod().waiting('ContainerCreating').status({ phase: 'Failed' }).build() }, ['deleteJob']],
    ['deleted when it never had a pod', { pod: undefined }, ['deleteJob']],
  ])('a Job is %s', (_, changes, expected) => {
    const jobs = types(over({ ...changes, configMaps: 'gone' })).filter((type) => type.endsWith('Job'));
    expect(jobs).toEqual(expected);
  });

  it('a Job is deleted, not handed over, when Kueue had stopped it, though it has started it again', () => {
    const ending = stoppedByKueue(undefined);
    const raw = rawEvaluation({}, { metadata: { finalizers } });
    expect(types(launched({ ...ended, output: output(), raw, attempt: { ending } }))).toContain('deleteJob');
  });

  it('is cleaned up also without the finalizer: it may have been taken off by hand', () => {
    const raw = rawEvaluation({}, { status: status as never });
    expect(types(over({ raw }))).toEqual(['settleJob', 'releasePod']);
  });

  it('asks for nothing again once the finalizer is off', () => {
    const raw = rawEvaluation({}, { status: status as never });
    expect(types(over({ ...handedOver, raw }))).toEqual([]);
  });
});
