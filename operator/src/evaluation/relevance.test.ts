import { CAPTURE_FINALIZER } from '@crucible/crds';
import { describe, expect, it } from 'vitest';
import { evaluationMatters, jobMatters, podMatters } from './relevance.ts';
import { NOW, job, pod, rawEvaluation } from './testing/builders.ts';

const deletionTimestamp = new Date(NOW).toISOString();

describe('an Evaluation', () => {
  const before = rawEvaluation({}, { metadata: { finalizers: [CAPTURE_FINALIZER] } });
  const changed = (changes: object, metadata: object = {}) => ({
    ...before,
    ...changes,
    metadata: { ...before.metadata, resourceVersion: '2', ...metadata },
  });

  it.each([
    ['new', before, undefined],
    ['gone', undefined, before],
    ['delivered again', before, before],
    ['another one of its name', changed({}, { uid: 'other' }), before],
    ['being deleted', changed({}, { deletionTimestamp }), before],
    ['without our finalizer', changed({}, { finalizers: ['theirs'] }), before],
    ['with another spec', changed({}, { generation: 2 }), before],
    ['with another status', changed({ status: { phase: 'Queued' } }), before],
  ])('%s: matters', (_, current, previous) => expect(evaluationMatters(current, previous)).toBe(true));

  it.each([
    ['with our finalizer, which we set ourselves', before, changed({}, { finalizers: [] })],
    ['with a label', changed({}, { labels: { team: 'a' } }), before],
  ])('%s: does not', (_, current, previous) => expect(evaluationMatters(current, previous)).toBe(false));
});

describe('a pod', () => {
  const running = pod().running().build();

  it.each([
    ['gone', undefined, running],
    ['delivered again', running, running],
    ['placed after all', pod().scheduled().build(), pod().condition('PodScheduled', 'False', 'Unschedulable').build()],
    ['placed, of which a kubelet has spoken', pod().scheduled().waiting('ContainerCreating').build(), pod().build()],
    ['placed with a lower deadline', pod().scheduled().deadline(1).build(), pod().build()],
    ['placed and started', running, pod().build()],
    ['known late, when it is placed already', pod().scheduled().build(), undefined],
    ['that cannot be placed', pod().condition('PodScheduled', 'False', 'Unschedulable').build(), undefined],
    ['ended', pod().ended(0).build(), running],
    ['with a lower deadline', pod().running().deadline(1).build(), running],
    ['being deleted', pod().running().meta({ deletionTimestamp }).build(), running],
    ['new and being deleted', pod().meta({ deletionTimestamp }).build(), undefined],
    ['without our finalizer', pod().running().meta({ finalizers: [] }).build(), running],
  ])('%s: matters', (_, current, previous) => expect(podMatters(current, previous)).toBe(true));

  it.each([
    ['new', pod().build(), undefined],
    ['placed at once', pod().scheduled().build(), pod().build()],
    ['without the Job controller’s finalizer', pod().running().meta({ finalizers: [CAPTURE_FINALIZER] }).build(), running],
  ])('%s: does not', (_, current, previous) => expect(podMatters(current, previous)).toBe(false));
});

describe('a Job', () => {
  const begun = job();
  const suspended = { ...begun, spec: { suspend: true } };
  const complete = job({ status: { succeeded: 1 } });

  it.each([
    ['gone', undefined, begun, true],
    ['delivered again', begun, { ...begun }, false],
    ['suspended', suspended, begun, true],
    ['resumed', begun, suspended, true],
    ['being deleted', job({ metadata: { deletionTimestamp } }), begun, true],
    ['at its end, without a pod that would tell', complete, begun, false],
  ])('%s: matters', (what, current, previous, hasPod) =>
    expect(jobMatters(current, what === 'delivered again' ? current : previous, hasPod)).toBe(true),
  );

  it.each([
    ['new, which we made ourselves', begun, undefined, false],
    ['at its end, which its pod tells', complete, begun, true],
    ['handed over to the garbage collector', job({ metadata: { ownerReferences: [{ uid: 'e' }] } }), begun, false],
  ])('%s: does not', (_, current, previous, hasPod) => expect(jobMatters(current, previous, hasPod)).toBe(false));
});
