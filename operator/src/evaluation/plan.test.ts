import { describe, expect, it } from 'vitest';
import type { Action } from './actions.ts';
import { plan } from './plan.ts';
import type { Snapshot } from './snapshot.ts';
import {
  NOW,
  POD_UID,
  at,
  attempt,
  job,
  launched,
  output,
  pod,
  rawEvaluation,
  record,
  settings,
  snapshot,
} from './testing/builders.ts';

const decide = (subject: Snapshot) => plan(subject, NOW, settings());
const types = (subject: Snapshot): string[] => decide(subject).actions.map(({ type }) => type);
const find = <T extends Action['type']>(subject: Snapshot, type: T) =>
  decide(subject).actions.find((action) => action.type === type) as Extract<Action, { type: T }> | undefined;

const finalizers = ['crucible.dev/capture'];
const deleting = (extra: object = {}) =>
  rawEvaluation({}, { metadata: { deletionTimestamp: at(-5), finalizers, ...extra } });
const accepted = {
  type: 'Accepted',
  status: 'True',
  reason: 'Admitted',
  message: '',
  lastTransitionTime: at(-50),
} as const;
const finished = {
  type: 'Finished',
  status: 'True',
  reason: 'Succeeded',
  message: '',
  lastTransitionTime: at(-20),
} as const;
const finalized = {
  state: 'finalized',
  finalizedAt: new Date(NOW - 3600_000),
  verdict: { class: 'Evicted', attributableTo: 'Infrastructure', confidence: 'Confirmed', message: 'm', evidence: [] },
} as const;

describe('plan: before an attempt', () => {
  it('starts one that has its turn, rows before objects', () => {
    expect(types(snapshot())).toEqual(['addFinalizer', 'recordAttempt', 'launch']);
    expect(decide(snapshot())).toMatchObject({ view: { phase: 'Starting' }, turn: 'hold' });
  });

  it('records and queues one that has not', () => {
    expect(types(snapshot({ turn: false }))).toEqual(['recordEvaluation']);
    expect(decide(snapshot({ turn: false }))).toMatchObject({
      view: { phase: 'Queued', accepted: { status: 'True' } },
      turn: 'request',
    });
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

  it('deleted before it was accepted: only the finalizer goes', () => {
    expect(types(snapshot({ raw: deleting() }))).toEqual(['removeFinalizer']);
    expect(types(snapshot({ raw: deleting({ finalizers: [] }) }))).toEqual([]);
  });
});

describe('plan: killed between two actions', () => {
  it('after the row: launches the same attempt', () => {
    expect(
      types(
        launched({ attempt: { jobUid: null }, job: undefined, raw: rawEvaluation({}, { metadata: { finalizers } }) }),
      ),
    ).toEqual(['launch']);
    expect(find(launched({ attempt: { jobUid: null }, job: undefined }), 'launch')?.number).toBe(1);
  });

  it('after the Job: takes it over instead of making another', () => {
    expect(types(launched({ attempt: { jobUid: null } }))).toEqual(['recordJob']);
    expect(types(launched({ attempt: { jobUid: null }, spec: { cancel: true } }))).toEqual(['recordJob']);
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

describe('plan: an attempt', () => {
  it('starting: waits, and writes only what changed', () => {
    expect(decide(launched({ pod: pod().scheduled().build() }))).toMatchObject({
      actions: [],
      view: { phase: 'Starting', started: { reason: 'ContainerCreating' } },
    });
  });

  it('running: lowers the deadline once', () => {
    expect(types(launched({ pod: pod().running().build() }))).toEqual(['recordPod', 'lowerDeadline', 'recordPhase']);
    expect(find(launched({ pod: pod().running().build() }), 'lowerDeadline')?.seconds).toBe(5 + 60 + 1);
    const known = { podUid: POD_UID, state: 'running', startedAt: new Date(NOW - 40_000) } as const;
    const rows = { evaluation: record({ phase: 'Running' }), attempts: [attempt(known)] };
    expect(types(launched({ record: rows, pod: pod().running().deadline(66).build() }))).toEqual([]);
  });

  it('cancelled or deleted while running: ends the pod, never deletes it', () => {
    for (const subject of [
      launched({ pod: pod().running().build(), spec: { cancel: true } }),
      launched({ pod: pod().running().build(), raw: deleting() }),
    ]) {
      expect(find(subject, 'lowerDeadline')?.seconds).toBe(1);
      expect(types(subject)).not.toContain('deleteJob');
      expect(types(subject)).not.toContain('releasePod');
    }
  });

  it('cancelled before it was seen to start, on a node: the kubelet ends it, because it may run by now', () => {
    for (const subject of [
      launched({ pod: pod().scheduled().build(), spec: { cancel: true } }),
      launched({ pod: pod().scheduled().build(), raw: deleting() }),
      launched({ pod: pod().waiting('InvalidImageName').build() }),
    ]) {
      expect(types(subject)).toEqual(['recordEnding', 'lowerDeadline']);
      expect(find(subject, 'lowerDeadline')?.seconds).toBe(1);
      expect(decide(subject).view).toMatchObject({ phase: 'Starting', started: { status: 'Unknown' } });
    }
  });

  it('the reason that was carried out first stands', () => {
    const ending = { class: 'ImagePullFailed', confidence: 'Confirmed', message: 'no such image', evidence: [] };
    const subject = launched({
      attempt: { ending },
      pod: pod().waiting('ImagePullBackOff').deadline(1).build(),
      spec: { cancel: true },
    });
    expect(types(subject)).toEqual([]);
  });

  it('given up without a node: the Job is withdrawn, and it is over once nothing of it is left', () => {
    for (const subject of [
      launched({ spec: { cancel: true } }),
      launched({ pod: pod().build(), spec: { cancel: true } }),
    ]) {
      expect(types(subject)).toEqual(['recordEnding', 'withdraw']);
      expect(decide(subject).view?.end).toBeUndefined();
    }
    const message = 'Cancelled before the code started.';
    const ending = { class: 'Cancelled', attributableTo: 'User', confidence: 'Confirmed', message, evidence: [] };
    for (const gone of [
      launched({ attempt: { ending }, job: undefined, spec: { cancel: true } }),
      launched({
        attempt: { ending },
        job: undefined,
        pod: pod()
          .meta({ deletionTimestamp: at(-1) })
          .build(),
        spec: { cancel: true },
      }),
    ]) {
      expect(find(gone, 'recordEnd')?.attempt?.verdict).toMatchObject({ class: 'Cancelled', message });
      expect(decide(gone).view).toMatchObject({ started: { status: 'False' }, captured: { reason: 'NoOutput' } });
    }
  });

  // The kubelet's words for a pod that it ended before it had made the container.
  const lostTrack = { terminated: { exitCode: 137, reason: 'ContainerStatusUnknown', startedAt: null } };
  const nothing = output('', { lastSeq: 0 });

  it.each([
    ['waiting', pod().waiting('ContainerCreating').status({ phase: 'Failed', reason: 'DeadlineExceeded' }).build()],
    [
      'unknown',
      pod().scheduled().status({ phase: 'Failed', reason: 'DeadlineExceeded' }).container(lostTrack).build(),
    ],
  ])('ended before it started (%s): the verdict is the recorded reason, after the capture', (_, over) => {
    const message = 'The image could not be pulled.';
    const ending = { class: 'ImagePullFailed', attributableTo: 'User', confidence: 'Confirmed', message, evidence: [] };
    const waits = launched({ attempt: { ending }, pod: over });
    expect(types(waits)).not.toContain('recordEnd');
    expect(decide(waits).view).toMatchObject({ phase: 'Capturing', captured: { reason: 'Capturing' } });
    const done = { pod: over, capture: nothing.capture, output: nothing };
    expect(find(launched({ ...done, attempt: { ending } }), 'recordEnd')?.attempt?.verdict).toEqual(ending);
    expect(find(launched({ ...done, spec: { cancel: true } }), 'recordEnd')?.attempt?.verdict).toMatchObject({
      class: 'Cancelled',
      message: 'Cancelled before the code started.',
    });
    expect(decide(launched({ ...done, attempt: { ending } })).view?.captured).toMatchObject({ reason: 'NoOutput' });
  });

  it('what is stored says that it ran, whatever the pod says', () => {
    const stored = output('so far\n', { complete: false, reason: 'NoSummary' });
    for (const state of [lostTrack, { waiting: { reason: 'ContainerCreating' } }]) {
      const over = pod().scheduled().status({ phase: 'Failed', reason: 'DeadlineExceeded' }).container(state).build();
      const decision = decide(
        launched({ pod: over, capture: stored.capture, output: stored, spec: { cancel: true } }),
      );
      expect(decision.view).toMatchObject({
        started: { status: 'True' },
        captured: { status: 'False', reason: 'NoSummary' },
        end: { verdict: { class: 'Cancelled', message: 'Cancelled while it ran; its output until then is kept.' } },
        output: { tail: 'so far\n' },
      });
    }
  });

  it('a second pod of the Job and those of earlier attempts are let go as well', () => {
    const other = pod().meta({ name: 'second', uid: 'other' }).build();
    const subject = launched({ pod: pod().ended(0).build(), others: [other], output: output(), raw: deleting() });
    expect(decide(subject).actions.filter(({ type }) => type === 'releasePod')).toMatchObject([
      { podUid: POD_UID },
      { podUid: 'other' },
    ]);
  });

  it('the allowed time is the recorded one, never what Job or pod say', () => {
    const forged = { 'crucible.dev/timeout-seconds': '86000' };
    const subject = (timeoutSeconds: number | null) =>
      launched({
        attempt: { timeoutSeconds },
        job: job({ metadata: { annotations: forged } }),
        pod: pod().running().meta({ annotations: forged }).build(),
        spec: { timeoutSeconds: 30 },
      });
    expect(find(subject(90), 'lowerDeadline')?.seconds).toBe(5 + 90 + 1);
    expect(find(subject(null), 'lowerDeadline')?.seconds).toBe(5 + 30 + 1);
    const away = { ...subject(90), record: 'unavailable' as const };
    away.raw.status = { conditions: [accepted] } as never;
    expect(find(away, 'lowerDeadline')?.seconds).toBe(5 + 30 + 1);
  });

  it('a pod that no recorder saw: the run ends all the same, and says that its output is not there', () => {
    const ended = job({ status: { failed: 1 } });
    const since = (seconds: number) =>
      rawEvaluation(
        {},
        {
          status: {
            conditions: [
              { type: 'Captured', status: 'Unknown', reason: 'PodGone', message: '', lastTransitionTime: at(-seconds) },
            ],
          },
        },
      );
    for (const gone of [{ job: ended }, { job: undefined }]) {
      expect(decide(launched(gone)).view).toMatchObject({
        captured: { status: 'Unknown', reason: 'PodGone' },
        started: { status: 'Unknown' },
      });
      expect(decide(launched({ ...gone, raw: since(61) })).view).toMatchObject({
        captured: { status: 'False', reason: 'PodGone' },
        started: { status: 'Unknown' },
        end: { verdict: { class: 'InternalError' } },
      });
    }
  });

  it('a pod whose node is lost does not keep it for ever', () => {
    const lost = pod()
      .running()
      .meta({ deletionTimestamp: at(-300) })
      .build();
    expect(decide(launched({ pod: lost })).view).toMatchObject({ captured: { reason: 'PodGone' } });
  });

  it('over: waits for the capture as long as it takes', () => {
    const subject = launched({ pod: pod().ended(0).build() });
    expect(decide(subject)).toMatchObject({
      view: { phase: 'Capturing', captured: { status: 'False', reason: 'Capturing' } },
      requeueAfterSeconds: 2,
    });
    expect(types(subject)).not.toContain('recordEnd');
    expect(types(subject)).not.toContain('releasePod');
  });

  it('a terminated container in a pod that is still Running is not over: its reason is still to come', () => {
    expect(
      decide(launched({ pod: pod().ended(137).status({ phase: 'Running' }).build(), output: output() })).view?.phase,
    ).toBe('Running');
  });

  it('captured: record, then Job, then pod, then finalizer', () => {
    const subject = launched({
      pod: pod().ended(0).build(),
      output: output(),
      raw: rawEvaluation({}, { metadata: { finalizers } }),
    });
    expect(types(subject)).toEqual(['recordEnd', 'settleJob', 'releasePod', 'deleteConfigMap', 'removeFinalizer']);
    expect(find(subject, 'recordEnd')).toMatchObject({
      attempt: { number: 1, podUid: POD_UID, exitCode: 0 },
      evaluation: { phase: 'Succeeded', acceptedAttempt: 1, passed: null },
    });
  });

  it('an incomplete capture is a condition, never a verdict', () => {
    const subject = launched({
      pod: pod().ended(0).build(),
      output: output('', { complete: false, reason: 'LogRotated' }),
    });
    expect(decide(subject).view).toMatchObject({
      phase: 'Succeeded',
      captured: { status: 'False', reason: 'LogRotated' },
      end: { verdict: { class: 'Succeeded' } },
    });
  });

  it('counts as uncaptured until its output is stored, with and without the record, and no longer', () => {
    const ended = { pod: pod().ended(0).build(), raw: rawEvaluation({}, { metadata: { finalizers } }) };
    expect(decide(launched(ended)).capturing).toBe(true);
    const expecting = { spec: { expect: { stdout: { contains: 'bye' } } }, pod: ended.pod, output: output() };
    expect(decide(launched(expecting))).toMatchObject({ capturing: false, view: { phase: 'Capturing' } });
    const retried = { spec: { retry: { limit: 1, on: ['Any' as const] } }, pod: pod().ended(1).build(), output: output() };
    expect(decide(launched(retried))).toMatchObject({ capturing: false, view: { phase: 'Queued' } });
    // Without the record the pod says it, also of one that Kueue admits and that has no place.
    const away = { record: 'unavailable' } as const;
    for (const spec of [{}, { queue: 'team-a' }]) {
      const raw = rawEvaluation(spec, { metadata: { finalizers } });
      expect(decide(launched({ ...ended, raw, ...away })).capturing).toBe(true);
      const released = pod().ended(0).meta({ finalizers: [] }).build();
      expect(decide(launched({ raw, pod: released, ...away })).capturing).toBe(false);
      expect(decide(launched({ raw, pod: pod().running().build(), ...away })).capturing).toBe(false);
    }
  });

  describe('with spec.expect', () => {
    const spec = { expect: { stdout: { contains: 'bye' } } };
    const ended = { spec, pod: pod().ended(0).build(), output: output() };
    const score = { passed: false, reason: 'StdoutContains', message: 'm' };

    it('waits for the score before anything is final', () => {
      const waiting = decide(launched(ended));
      expect(waiting).toMatchObject({
        scoring: { attempt: 1, expected: { contains: 'bye' } },
        view: { phase: 'Capturing', captured: { status: 'True' } },
      });
      expect(waiting.actions.map(({ type }) => type)).toEqual(['recordPhase']);
      // Of an attempt before: this one is not scored by it.
      expect(decide(launched({ ...ended, scored: { attempt: 0, score } })).scoring).toBeDefined();
    });

    it('records the score with the end', () => {
      const subject = launched({ ...ended, scored: { attempt: 1, score } });
      expect(decide(subject).scoring).toBeUndefined();
      expect(find(subject, 'recordEnd')?.evaluation).toMatchObject({ passed: false, score });
      expect(decide(subject).view?.end?.passed).toMatchObject({ status: 'False', reason: 'StdoutContains' });
    });

    it('needs no output when the exit code, or a hole in the output, decides', () => {
      expect(decide(launched({ ...ended, pod: pod().ended(1).build() })).view?.end?.passed?.reason).toBe('ExitCode');
      const stored = output();
      const { stdout, stderr } = stored.capture.streams;
      const streams = { stdout: { ...stdout, complete: false }, stderr };
      expect(
        decide(launched({ ...ended, output: { ...stored, capture: { ...stored.capture, streams } } })).view?.end?.passed
          ?.reason,
      ).toBe('OutputIncomplete');
    });

    it('scores nothing that is cancelled or deleted', () => {
      const cancelled = decide(launched({ ...ended, spec: { ...spec, cancel: true } }));
      expect(cancelled.scoring).toBeUndefined();
      expect(cancelled.view?.end?.passed).toMatchObject({ status: 'Unknown', reason: 'NotScored' });
      const raw = rawEvaluation(spec, { metadata: { deletionTimestamp: at(-5), finalizers } });
      expect(decide(launched({ ...ended, raw })).scoring).toBeUndefined();
      expect(find(launched({ ...ended, raw }), 'recordEnd')?.evaluation).toMatchObject({ passed: null });
    });

    it('says what is recorded, and never scores again', () => {
      const verdict = { class: 'Succeeded', confidence: 'Confirmed', message: 'm', evidence: [] };
      const row = attempt({ state: 'finalized', podUid: POD_UID, exitCode: 0, verdict });
      const end = { verdict, finishedAt: new Date(NOW), phase: 'Succeeded' };
      const subject = (changes: object) =>
        launched({ ...ended, record: { evaluation: record({ ...end, ...changes }), attempts: [row] } });
      const recorded = { passed: false, passedReason: 'MatchTooSlow', passedMessage: 'm' };
      expect(decide(subject(recorded)).scoring).toBeUndefined();
      expect(decide(subject(recorded)).view?.end?.passed).toEqual({
        status: 'False',
        reason: 'MatchTooSlow',
        message: 'm',
      });
      expect(decide(subject({ passed: null })).view?.end?.passed?.reason).toBe('NotScored');
    });
  });

  it('pod gone: waits a while for what was captured of it, then ends', () => {
    const known = { podUid: POD_UID, state: 'running' } as const;
    const captured = (seconds: number) =>
      ({
        type: 'Captured',
        status: 'Unknown',
        reason: 'PodGone',
        message: '',
        lastTransitionTime: at(-seconds),
      }) as const;
    expect(decide(launched({ attempt: known, job: undefined })).view).toMatchObject({
      phase: 'Capturing',
      captured: { reason: 'PodGone' },
    });
    expect(
      types(
        launched({
          attempt: known,
          job: undefined,
          raw: rawEvaluation({}, { status: { conditions: [captured(30)] } }),
        }),
      ),
    ).not.toContain('recordEnd');
    const late = launched({
      attempt: known,
      job: undefined,
      raw: rawEvaluation({}, { status: { conditions: [captured(61)] } }),
    });
    expect(find(late, 'recordEnd')).toMatchObject({
      attempt: { podUid: POD_UID, verdict: { class: 'InternalError', attributableTo: 'Infrastructure' } },
    });
  });

  it('the record away: ends on time, and everything else waits in the pod', () => {
    const raw = rawEvaluation({}, { metadata: { finalizers }, status: { conditions: [accepted] } });
    expect(types(launched({ record: 'unavailable', raw, pod: pod().running().build() }))).toEqual(['lowerDeadline']);
    expect(decide(launched({ record: 'unavailable', raw, pod: pod().ended(0).build() }))).toMatchObject({
      actions: [],
      view: undefined,
      requeueAfterSeconds: 5,
    });
  });

  it('the record away: what only waits for its turn does not count as running', () => {
    const raw = rawEvaluation({}, { metadata: { finalizers }, status: { conditions: [accepted] } });
    expect(decide(snapshot({ record: 'unavailable', raw, turn: false })).turn).toBe('release');
    expect(decide(snapshot({ record: 'unavailable', raw, turn: true })).turn).toBe('hold');
    expect(decide(launched({ record: 'unavailable', raw, turn: false })).turn).toBe('hold');
  });

  it('the record away and deleted: lets go after the patience for a capture, once the API server confirms it', () => {
    const other = pod().meta({ name: 'second', uid: 'other' }).build();
    const subject = (away: number, deleted = 600) =>
      launched({
        record: 'unavailable',
        unavailableSince: NOW - away * 1000,
        raw: deleting({ deletionTimestamp: at(-deleted) }),
        pod: pod().ended(143).build(),
        others: [other],
      });
    expect(types(subject(61))).toEqual([
      'confirmGoing',
      'deleteJob',
      'releasePod',
      'releasePod',
      'deleteConfigMap',
      'removeFinalizer',
    ]);
    expect(types(subject(30))).toEqual([]);
    expect(types(subject(600, 30))).toEqual([]);
  });

  it('a launch that the cluster refuses ends with a verdict after a while', () => {
    const row = (age: number) => ({
      evaluation: record(),
      attempts: [attempt({ jobUid: null, createdAt: new Date(NOW - age * 1000) })],
    });
    const subject = (age: number) =>
      snapshot({
        record: row(age),
        launchRefusal: 'jobs is forbidden: policy says no',
        raw: rawEvaluation({}, { metadata: { finalizers } }),
      });
    expect(decide(subject(5))).toMatchObject({
      actions: [{ type: 'launch' }],
      view: { started: { reason: 'PodPending' } },
    });
    expect(find(subject(20), 'recordEnd')).toMatchObject({
      evaluation: { verdict: { class: 'SandboxRefused', attributableTo: 'Policy' } },
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
