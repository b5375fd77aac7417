import { LIMITS, clip } from '@crucible/crds';
import type { Attempt, Verdict } from '@crucible/crds';
import type { AttemptRecord, CaptureRecord } from '@crucible/storage';
import type { Action, AttemptEnd, EvaluationEnd } from './actions.ts';
import type { Score } from './expect.ts';
import { phaseOf } from './plan-attempt.ts';
import { conditionOf } from './snapshot.ts';
import type { RawEvaluation } from './snapshot.ts';
import { asVerdict } from './view.ts';

// The record is written before the status, so a run that has finished by its status alone is one whose end the record has
// lost: it was restored from a backup, or a failover lost what was written last.

const SOURCE = { source: 'Evaluation/status', detail: 'The record had lost this end; it was taken from the status.' };
const MAX_EVIDENCE = 8;

/**
 * That end, for the record, and that of the attempt it has open, as far as the status knows them. What it does not know (the
 * evidence and the receipt of the attempt, attempts that the record never saw) stays unknown. Undefined when it tells no verdict.
 */
export function endFromStatus(
  raw: RawEvaluation,
  attempts: readonly AttemptRecord[],
  capture: CaptureRecord | undefined,
): Extract<Action, { type: 'recordEnd' }> | undefined {
  const { status } = raw;
  const told = asVerdict(status?.verdict);
  if (told === undefined) return undefined;
  const judged = fromStatus(told);
  const row = attempts.at(-1);
  const last = status?.attempts?.at(-1);
  const score = scoreOf(raw);
  const finishedAt = status?.finishedAt ?? conditionOf(raw, 'Finished')?.lastTransitionTime;
  const evaluation: EvaluationEnd = {
    phase: phaseOf(judged),
    verdict: judged,
    passed: score?.passed ?? null,
    score,
    finishedAt: new Date(finishedAt ?? 0),
    acceptedAttempt: row !== undefined && row.number === last?.number && gave(last, told) ? row.number : undefined,
  };
  const open = row !== undefined && row.state !== 'finalized' ? row : undefined;
  const known = status?.attempts?.find(({ number }) => number === open?.number);
  return { type: 'recordEnd', attempt: open && attemptEnd(open, known, capture, judged), evaluation };
}

function scoreOf({ status }: RawEvaluation): Score | undefined {
  const claim = status?.conditions?.find(({ type }) => type === 'Passed');
  if (claim === undefined || claim.status === 'Unknown') return undefined;
  return { passed: claim.status === 'True', reason: claim.reason, message: claim.message };
}

/** The attempt’s verdict is the run’s, which its status tells with a shorter message. */
function gave({ verdict }: Attempt, told: Verdict): boolean {
  return verdict?.class === told.class && verdict.message === clip(told.message, LIMITS.attemptMessageCharacters);
}

function attemptEnd(row: AttemptRecord, known: Attempt | undefined, capture: CaptureRecord | undefined, judged: Verdict): AttemptEnd {
  const own = known?.verdict === undefined ? undefined : asVerdict({ message: '', ...known.verdict });
  return {
    number: row.number,
    podUid: row.podUid ?? capture?.podUid ?? null,
    pod: undefined,
    startedAt: known?.startedAt === undefined ? row.startedAt : new Date(known.startedAt),
    finishedAt: known?.finishedAt === undefined ? null : new Date(known.finishedAt),
    exitCode: known?.exitCode ?? null,
    signal: known?.signal ?? null,
    verdict: own === undefined ? judged : fromStatus(own),
  };
}

function fromStatus(told: Verdict): Verdict {
  return { ...told, evidence: [...(told.evidence ?? []).slice(0, MAX_EVIDENCE - 1), SOURCE] };
}
