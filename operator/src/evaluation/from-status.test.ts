import type { EvaluationStatus } from '@crucible/crds';
import { describe, expect, it } from 'vitest';
import { endFromStatus } from './from-status.ts';
import { NOW, POD_UID, at, attempt, output, rawEvaluation } from './testing/builders.ts';
import { finalized, finished } from './testing/plans.ts';

const SOURCE = expect.objectContaining({ source: 'Evaluation/status' }) as unknown;
const failed = { class: 'NonZeroExit', attributableTo: 'Code', confidence: 'Confirmed', message: `It exited with 3. ${'x'.repeat(400)}` } as const;
const short = { ...failed, message: `${failed.message.slice(0, 255)}…` };
const evidence = Array.from({ length: 8 }, (_, n) => ({ source: 'Container', detail: String(n) }));
const last = { number: 1, jobName: 'hello-job-1', startedAt: at(-40), finishedAt: at(-20), exitCode: 3, verdict: short };

function end(status: Partial<EvaluationStatus>, attempts = [attempt()], capture = output().capture) {
  return endFromStatus(rawEvaluation({}, { status: { phase: 'Failed', conditions: [finished], ...status } }), attempts, capture);
}

describe('an end that only the status knows', () => {
  it('is recorded as it tells it, and says where it is from', () => {
    const passed = { type: 'Passed', status: 'False', reason: 'ExitCode', message: '3, not 0', lastTransitionTime: at(-20) } as const;
    expect(end({ finishedAt: at(-20), verdict: { ...failed, evidence }, attempts: [last], conditions: [finished, passed] })).toEqual({
      type: 'recordEnd',
      attempt: {
        number: 1, podUid: POD_UID, pod: undefined, startedAt: new Date(NOW - 40_000), finishedAt: new Date(NOW - 20_000), exitCode: 3, signal: null,
        verdict: { ...short, evidence: [SOURCE] },
      },
      evaluation: {
        phase: 'Failed',
        verdict: { ...failed, evidence: [...evidence.slice(0, 7), SOURCE] },
        passed: false,
        score: { passed: false, reason: 'ExitCode', message: '3, not 0' },
        finishedAt: new Date(NOW - 20_000),
        acceptedAttempt: 1,
      },
    });
  });

  it('of what never ran, and was not compared: nothing is made up', () => {
    const verdict = { class: 'Cancelled', attributableTo: 'User', message: 'Cancelled before the code started.' } as const;
    const unscored = { type: 'Passed', status: 'Unknown', reason: 'NotScored', message: '', lastTransitionTime: at(-20) } as const;
    const conditions = [finished, unscored];
    expect(end({ verdict, conditions }, [], undefined)).toMatchObject({
      attempt: undefined,
      evaluation: { phase: 'Cancelled', passed: null, score: undefined, finishedAt: new Date(NOW - 20_000), acceptedAttempt: undefined },
    });
    const row = attempt({ jobUid: null });
    const ended = endFromStatus(rawEvaluation({}, { status: { verdict, conditions } }), [row], undefined);
    expect(ended?.attempt).toMatchObject({ number: 1, podUid: null, startedAt: null, exitCode: null, verdict: { class: 'Cancelled' } });
  });

  it('an attempt that the record never saw gives no result; one that is final stays as it is', () => {
    const second = { ...last, number: 2 };
    const two = end({ verdict: failed, attempts: [{ number: 1 }, second] }, [attempt(finalized)]);
    expect(two).toMatchObject({ attempt: undefined, evaluation: { acceptedAttempt: undefined } });
    const both = end({ verdict: failed, attempts: [{ number: 1 }, second] }, [attempt(finalized), attempt({ number: 2 })]);
    expect(both).toMatchObject({ attempt: { number: 2, exitCode: 3 }, evaluation: { acceptedAttempt: 2 } });
    // The open one is the first: how the second ended is nothing of its own.
    const first = { number: 1, exitCode: 4, verdict: { ...short, message: 'It exited with 4.' } };
    const open = end({ verdict: failed, attempts: [first, second] });
    expect(open).toMatchObject({ attempt: { number: 1, exitCode: 4, verdict: { message: 'It exited with 4.' } }, evaluation: { acceptedAttempt: undefined } });
    // Cancelled between two: what the first gave is not the result.
    const between = { class: 'Cancelled', attributableTo: 'User', message: 'Cancelled before the next attempt.' } as const;
    expect(end({ verdict: between, attempts: [last] }, [attempt(finalized)])?.evaluation).toMatchObject({ acceptedAttempt: undefined });
  });

  it('is not guessed at when the status has no verdict that can be read', () => {
    expect(end({})).toBeUndefined();
    expect(end({ verdict: { class: 'OfANewerOperator' } as never })).toBeUndefined();
  });
});
