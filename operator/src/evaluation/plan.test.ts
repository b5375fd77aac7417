import { describe, expect, it } from 'vitest';
import { NOW, POD_UID, at, attempt, job, launched, output, pod, rawEvaluation, record, snapshot } from './testing/builders.ts';
import { accepted, decide, deleting, finalized, finalizers, find, finished, types } from './testing/plans.ts';
import type { Snapshot } from './snapshot.ts';

describe('plan: before an attempt', () => {
  it('starts one that has its turn, rows before objects', () => {
    expect(types(snapshot())).toEqual(['addFinalizer', 'recordAttempt', 'createConfigMap', 'launch']);
    expect(decide(snapshot())).toMatchObject({ view: { phase: 'Starting' }, turn: 'hold' });
  });

  it('records and queues one that has not', () => {
    expect(types(snapshot({ turn: false }))).toEqual(['recordEvaluation']);
    expect(decide(snapshot({ turn: false }))).toMatchObject({
      view: { phase: 'Queued', accepted: { status: 'True' } },
      turn: 'request',
    });
  });

  it('records what was changed of one that waits, once', () => {
    const raw = rawEvaluation({}, { metadata: { generation: 2 } });
    const waiting = (generation: number) =>
      snapshot({ turn: false, raw, record: { evaluation: record({ generation }), attempts: [] } });
    expect(types(waiting(1))).toEqual(['recordEvaluation']);
    expect(types(waiting(2))).toEqual([]);
  });

  it('refuses without touching anything, and gives its place away', () => {
    const refused = decide(snapshot({ spec: { runtime: 'cobol' } }));
    expect(refused).toMatchObject({
      actions: [],
      view: { phase: 'Queued', accepted: { status: 'False', reason: 'RuntimeNotFound' } },
      turn: 'release',
    });
    expect(decide(snapshot({ invalid: 'bad', evaluation: undefined }))).toMatchObject({
      actions: [],
      view: { accepted: { status: 'False', reason: 'InvalidSpec' } },
    });
  });

  it('admits nothing while the record is away', () => {
    const view = { phase: 'Queued', accepted: { status: 'Unknown', reason: 'RecordUnavailable' } };
    expect(decide(snapshot({ record: 'unavailable' }))).toMatchObject({ actions: [], view, requeueAfterSeconds: 5 });
  });

  it('cancelled, though its spec cannot be read', () => {
    const unreadable = snapshot({ invalid: 'bad', evaluation: undefined, raw: rawEvaluation({ cancel: true }) });
    expect(decide(unreadable)).toMatchObject({ view: { phase: 'Cancelled' }, turn: 'release' });
  });

  it('cancelled: is recorded as such and never starts', () => {
    expect(types(snapshot({ spec: { cancel: true } }))).toEqual(['recordEvaluation', 'recordEnd']);
    expect(decide(snapshot({ spec: { cancel: true } }))).toMatchObject({
      view: { phase: 'Cancelled', end: { verdict: { class: 'Cancelled' } } },
      turn: 'release',
    });
  });

  it('refused between two attempts: what the earlier one left still goes', () => {
    const row = attempt({ ...finalized, podUid: POD_UID, startedAt: new Date(NOW - 40_000) });
    const left = { record: { evaluation: record(), attempts: [row] }, pod: pod().ended(1).build() };
    const subject = snapshot({ spec: { runtime: 'gone', retry: { limit: 1 } }, ...left });
    expect(decide(subject)).toMatchObject({ actions: [{ type: 'releasePod' }], view: { accepted: { reason: 'RuntimeNotFound' } } });
  });

  it('cancelled between two attempts: the output of the one that ran is not said to be none', () => {
    const row = attempt({ ...finalized, podUid: POD_UID, startedAt: new Date(NOW - 40_000), finalizedAt: new Date(NOW) });
    const subject = snapshot({
      spec: { cancel: true, retry: { limit: 1 } },
      record: { evaluation: record(), attempts: [row] },
      output: output(),
      pod: pod().ended(1).build(),
    });
    expect(types(subject)).toEqual(['releasePod', 'recordEnd', 'deleteConfigMap']);
    expect(find(subject, 'recordEnd')?.attempt).toBeUndefined();
    expect(decide(subject).view).toMatchObject({
      phase: 'Cancelled',
      started: { status: 'True' },
      captured: { status: 'True', reason: 'Captured' },
      output: { stdoutBytes: 6 },
      end: { verdict: { class: 'Cancelled', message: 'Cancelled before the next attempt; what the earlier ones gave is kept.' } },
    });
  });

  it('deleted before it was recorded: only what a start may have left goes', () => {
    expect(types(snapshot({ raw: deleting() }))).toEqual(['deleteConfigMap', 'removeFinalizer']);
    expect(types(snapshot({ raw: deleting({ finalizers: [] }) }))).toEqual([]);
  });
});

describe('plan: killed between two actions', () => {
  it('after the row: launches the same attempt', () => {
    expect(
      types(
        launched({ attempt: { jobUid: null }, job: undefined, raw: rawEvaluation({}, { metadata: { finalizers } }) }),
      ),
    ).toEqual(['createConfigMap', 'launch']);
    expect(find(launched({ attempt: { jobUid: null }, job: undefined }), 'launch')?.number).toBe(1);
  });

  it.each([
    ['image', { image: 'crucible/python:yesterday' }],
    ['class', { runtimeClass: 'gvisor' }],
    ['time', { timeoutSeconds: 61 }],
    ['risks', { acceptedRisks: [{ rules: [7], reason: 'we know' }] }],
  ])('after the row, and it would start with another %s by now: the row follows', (_, recorded) => {
    const raw = rawEvaluation({}, { metadata: { finalizers } });
    const subject = launched({ attempt: { jobUid: null, ...recorded }, job: undefined, raw });
    expect(types(subject)).toEqual(['recordAttempt', 'createConfigMap', 'launch']);
    expect(find(subject, 'recordAttempt')).toMatchObject({ number: 1, run: { image: 'crucible/python:test', timeoutSeconds: 60 }, risks: [] });
    expect(decide(subject).view?.attempts).toHaveLength(1);
  });

  it('after the Job: takes it over instead of making another', () => {
    expect(types(launched({ attempt: { jobUid: null } }))).toEqual(['recordJob']);
    expect(types(launched({ attempt: { jobUid: null }, spec: { cancel: true } }))).toEqual(['recordJob']);
  });

  it('after the Job, which is not what the row says: launches what is', () => {
    const made = job({ metadata: { annotations: { 'crucible.dev/image': 'crucible/python:yesterday' } } });
    const raw = rawEvaluation({}, { metadata: { finalizers } });
    expect(types(launched({ attempt: { jobUid: null }, job: made, raw }))).toEqual(['createConfigMap', 'launch']);
    const same = job({ metadata: { annotations: { 'crucible.dev/image': 'crucible/python:test', 'crucible.dev/runtime-class': '', 'crucible.dev/timeout-seconds': '60' } } });
    expect(types(launched({ attempt: { jobUid: null }, job: same, raw }))).toEqual(['recordJob']);
    // Its pod is nobody's, and goes.
    const foreign = pod().meta({ uid: 'foreign', deletionTimestamp: at(-1), ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name: 'hello-job-1', uid: 'old' }] });
    expect(find(launched({ pod: undefined, others: [foreign.build()] }), 'releasePod')).toMatchObject({ podUid: 'foreign' });
    expect(types(launched({ pod: undefined, others: [pod().meta({ uid: 'second', deletionTimestamp: at(-1) }).build()] }))).not.toContain('releasePod');
  });

  it('after the end was recorded: cleans up and says the same in the status', () => {
    const verdict = {
      class: 'Succeeded',
      confidence: 'Confirmed',
      message: 'The code ran and exited with code 0.',
      evidence: [],
    };
    const row = attempt({
      state: 'finalized',
      podUid: POD_UID,
      startedAt: new Date(NOW - 40_000),
      finishedAt: new Date(NOW - 10_000),
      exitCode: 0,
      verdict,
    });
    const rows = {
      evaluation: record({ phase: 'Succeeded', verdict, finishedAt: new Date(NOW - 10_000) }),
      attempts: [row],
    };
    const subject = launched({
      record: rows,
      pod: pod().ended(0).build(),
      output: output(),
      raw: rawEvaluation({}, { metadata: { finalizers } }),
    });
    expect(types(subject)).toEqual(['settleJob', 'releasePod', 'deleteConfigMap', 'removeFinalizer']);
    expect(decide(subject).view).toMatchObject({
      phase: 'Succeeded',
      end: { verdict: { class: 'Succeeded' } },
      output: { tail: 'hello\n' },
    });
  });
});

describe('plan: retries', () => {
  const evicted = pod().ended(137).status({ reason: 'Evicted' }).build();
  it('only what the spec asks for', () => {
    const ends = (spec: object, subject = evicted) =>
      find(launched({ spec, pod: subject, output: output() }), 'recordEnd')?.evaluation !== undefined;
    expect(ends({})).toBe(true);
    expect(ends({ retry: { limit: 1 } })).toBe(false);
    expect(ends({ retry: { limit: 0 } })).toBe(true);
    expect(ends({ retry: { limit: 1 } }, pod().ended(1).build())).toBe(true);
    expect(ends({ retry: { limit: 1, on: ['Any'] } }, pod().ended(1).build())).toBe(false);
    expect(ends({ retry: { limit: 1, on: ['Any'] } }, pod().ended(0).build())).toBe(true);
    expect(ends({ retry: { limit: 1, on: ['Any'] }, cancel: true })).toBe(true);
  });

  it('starts the next attempt after a delay, once the last is cleaned up', () => {
    const rows = { evaluation: record(), attempts: [attempt(finalized)] };
    const raw = rawEvaluation({ retry: { limit: 1 } }, { metadata: { finalizers } });
    expect(types(launched({ record: rows, raw, pod: evicted }))).toEqual([
      'settleJob',
      'releasePod',
      'recordAttempt',
      'createConfigMap',
      'launch',
    ]);
    expect(find(launched({ record: rows, raw }), 'launch')?.number).toBe(2);
    const fresh = { evaluation: record(), attempts: [attempt({ ...finalized, finalizedAt: new Date(NOW - 2000) })] };
    expect(decide(launched({ record: fresh, raw }))).toMatchObject({
      view: { phase: 'Queued' },
      requeueAfterSeconds: 3,
      turn: 'hold',
    });
  });
});

it('a finalizer that somebody has taken off what runs is put on again, but not on what goes', () => {
  const status = { conditions: [accepted], attempts: [{ number: 1, jobName: 'hello-1' }] };
  const running = (metadata: object): string[] => types(launched({ raw: rawEvaluation({}, { metadata, status }), pod: pod().running().build() }));
  expect(running({})).toContain('addFinalizer');
  expect(running({ finalizers })).not.toContain('addFinalizer');
  expect(running({ deletionTimestamp: at(-5) })).not.toContain('addFinalizer');
});

describe('plan: finished', () => {
  const raw = (spec = {}, metadata = {}) =>
    rawEvaluation(spec, { metadata, status: { conditions: [accepted, finished] } });
  it('stays quiet', () =>
    expect(decide(snapshot({ raw: raw() }))).toEqual({ actions: [], view: undefined, observe: true, turn: 'release' }));
  it('takes away what a crash left', () => {
    expect(types(launched({ raw: raw({}, { finalizers }), pod: pod().ended(0).build() }))).toEqual([
      'settleJob',
      'releasePod',
      'removeFinalizer',
    ]);
  });
  it('is not believed while a pod of it runs that the record knows nothing of the end of', () => {
    const running = { raw: raw({}, { finalizers }), pod: pod().running().build() };
    expect(decide(launched(running))).toEqual({
      actions: [{ type: 'clearStatus' }],
      view: undefined,
      requeueAfterSeconds: 1,
      turn: 'hold',
    });
    expect(decide(launched({ ...running, record: 'unavailable' }))).toMatchObject({ actions: [], turn: 'hold' });
    // A pod whose node never answers is still there when the run has got its end; and a record may be too old to be kept.
    const ended = { evaluation: record({ phase: 'Failed', finishedAt: new Date(NOW) }), attempts: [attempt(finalized)] };
    for (const known of [ended, { evaluation: undefined, attempts: [] }])
      expect(types(launched({ ...running, record: known }))).toContain('releasePod');
  });
  it('is not believed of what this leader has seen unfinished and not ended, unless the record says so', () => {
    const clear = { actions: [{ type: 'clearStatus' }], view: undefined, requeueAfterSeconds: 1, turn: 'release' };
    const doubted = (known: Partial<Snapshot>) => decide(snapshot({ raw: raw({ ttlSecondsAfterFinished: 10 }), doubted: true, turn: false, ...known }));
    expect(doubted({ record: { evaluation: undefined, attempts: [] } })).toEqual(clear);
    expect(doubted({ record: { evaluation: record({ phase: 'Queued' }), attempts: [] } })).toEqual(clear);
    expect(doubted({ record: { evaluation: record({ phase: 'Queued' }), attempts: [] }, turn: true }).turn).toBe('hold');
    expect(doubted({ record: 'unavailable' })).toMatchObject({ actions: [], turn: 'release' });
    const ended = { evaluation: record({ phase: 'Failed', finishedAt: new Date(NOW) }), attempts: [] };
    expect(doubted({ record: ended }).actions).toEqual([{ type: 'deleteEvaluation' }]);
  });
  it('goes after its time to live, not before', () => {
    expect(decide(snapshot({ raw: raw({ ttlSecondsAfterFinished: 60 }) }))).toMatchObject({
      actions: [],
      requeueAfterSeconds: 40,
    });
    expect(types(snapshot({ raw: raw({ ttlSecondsAfterFinished: 10 }) }))).toEqual(['deleteEvaluation']);
  });
  it('deletes its Job when it is deleted', () => {
    expect(
      types(launched({ raw: raw({}, { deletionTimestamp: at(-1), finalizers }), pod: pod().ended(0).build() })),
    ).toEqual(['deleteJob', 'releasePod', 'removeFinalizer']);
  });
});
