import { describe, expect, it } from 'vitest';
import { NOW, POD_UID, at, attempt, job, launched, namespaceGoing, output, pod, rawEvaluation, record, runtime, snapshot } from './testing/builders.ts';
import { accepted, decide, deleting, finalizers, find, types } from './testing/plans.ts';
import type { RawEvaluation, Snapshot } from './snapshot.ts';

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
      launched({ pod: pod().running().build(), ...namespaceGoing() }),
    ]) {
      expect(find(subject, 'lowerDeadline')?.seconds).toBe(1);
      expect(types(subject)).not.toContain('deleteJob');
      expect(types(subject)).not.toContain('releasePod');
    }
  });

  it('its namespace goes, which deletes pods first: by its owner, and nothing is tried again', () => {
    const spec = { retry: { limit: 2, on: ['Any' as const] } };
    const killed = pod().ended(137).meta({ deletionTimestamp: at(-5) }).build();
    const judged = (subject: Snapshot) => find(subject, 'recordEnd')?.evaluation?.verdict;
    expect(judged(launched({ spec, pod: killed, output: output(), ...namespaceGoing() }))).toMatchObject({ class: 'Cancelled', attributableTo: 'User' });
    expect(judged(launched({ spec, pod: killed, output: output() }))).toBeUndefined();
    expect(judged(launched({ spec: {}, pod: killed, output: output() }))).toMatchObject({ class: 'InternalError', attributableTo: 'Infrastructure' });
    expect(judged(snapshot({ spec, ...namespaceGoing() }))).toMatchObject({ class: 'Cancelled', message: 'Deleted before the code started.' });
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

  it('captured: is recorded, and then said', () => {
    const subject = launched({
      pod: pod().ended(0).build(),
      output: output(),
      raw: rawEvaluation({}, { metadata: { finalizers } }),
    });
    expect(types(subject)).toEqual(['recordEnd']);
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
    const raw = rawEvaluation({ timeoutSeconds: 60 }, { metadata: { finalizers }, status: { conditions: [accepted] } });
    expect(types(launched({ record: 'unavailable', raw, pod: pod().running().build() }))).toEqual(['lowerDeadline']);
    expect(decide(launched({ record: 'unavailable', raw, pod: pod().ended(0).build() }))).toMatchObject({
      actions: [],
      view: undefined,
      requeueAfterSeconds: 5,
    });
  });

  it("the record away: a runtime's time is not guessed at, because it may have allowed more when the attempt began", () => {
    const status = { conditions: [accepted] };
    const away = (raw: RawEvaluation, runtimes = [runtime('python', { default: { timeoutSeconds: 60 } })]) =>
      launched({ record: 'unavailable', raw, pod: pod().running(-200).deadline(2101).build(), cluster: { ...snapshot().cluster, runtimes } });
    const plain = rawEvaluation({}, { metadata: { finalizers }, status });
    expect(types(away(plain))).toEqual([]);
    expect(types(away(plain, []))).toEqual([]);
    expect(find(away(rawEvaluation({ cancel: true }, { metadata: { finalizers }, status })), 'lowerDeadline')?.seconds).toBe(1);
  });

  it('the record away: what only waits for its turn does not count as running', () => {
    const raw = rawEvaluation({}, { metadata: { finalizers }, status: { conditions: [accepted] } });
    expect(decide(snapshot({ record: 'unavailable', raw, turn: false })).turn).toBe('release');
    expect(decide(snapshot({ record: 'unavailable', raw, turn: true })).turn).toBe('hold');
    expect(decide(launched({ record: 'unavailable', raw, turn: false })).turn).toBe('hold');
    const begun = rawEvaluation({}, { metadata: { finalizers } });
    expect(decide(snapshot({ record: 'unavailable', raw: begun, turn: true })).view?.accepted.reason).toBe('RecordUnavailable');
    expect(decide(launched({ record: 'unavailable', raw: begun })).view).toBeUndefined();
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

  it('the record away and the namespace deleted: lets go, though nothing says so of the Evaluation before its pods are gone', () => {
    const raw = rawEvaluation({}, { metadata: { finalizers }, status: { conditions: [accepted] } });
    const subject = (away: number, around: Partial<Snapshot>) =>
      launched({ record: 'unavailable', unavailableSince: NOW - away * 1000, raw, pod: pod().ended(143).build(), ...around });
    expect(types(subject(61, namespaceGoing()))).toEqual([
      'confirmGoing',
      'settleJob',
      'releasePod',
      'deleteConfigMap',
      'removeFinalizer',
    ]);
    expect(types(subject(30, namespaceGoing()))).toEqual([]);
    expect(types(subject(600, {}))).toEqual([]);
  });

  it('a launch that the cluster refuses ends with a verdict after a while', () => {
    // Long after it was recorded: it may have waited for the drill, or for an operator.
    const row = { evaluation: record(), attempts: [attempt({ jobUid: null, createdAt: new Date(NOW - 600_000) })] };
    const subject = (seconds: number) =>
      snapshot({
        record: row,
        launchRefusal: { said: 'jobs is forbidden: policy says no', since: NOW - seconds * 1000 },
        raw: rawEvaluation({}, { metadata: { finalizers } }),
      });
    expect(decide(subject(5))).toMatchObject({
      actions: [{ type: 'createConfigMap' }, { type: 'launch' }],
      view: { started: { reason: 'PodPending' } },
    });
    expect(find(subject(20), 'recordEnd')).toMatchObject({
      evaluation: { verdict: { class: 'SandboxRefused', attributableTo: 'Policy' } },
    });
  });
});
