import { formatDuration } from '@crucible/crds';
import type { Condition, ConditionType, EvaluationStatus } from '@crucible/crds';
import type { Claim, NotAdmittedView, QueueView, View } from './actions.ts';
import { time } from './view.ts';

/**
 * The status for a view. Conditions keep the time of their last transition; messages carry no times and no counters, so
 * that the same state always reads the same and is written once. Pure.
 */
export function buildStatus(
  view: View,
  generation: number,
  previous: EvaluationStatus | undefined,
  now: number,
): EvaluationStatus {
  const conditions = Object.entries(claims(view)).map(([type, claim]) =>
    condition(type as ConditionType, claim, generation, previous, now),
  );
  const last = view.attempts.at(-1);
  const startedAt = view.attempts.find((attempt) => attempt.startedAt !== undefined)?.startedAt;
  const finishedAt = view.end === undefined ? undefined : last?.finishedAt;
  const seconds =
    startedAt !== undefined && finishedAt !== undefined
      ? Math.round((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000)
      : undefined;
  return {
    observedGeneration: generation,
    phase: view.phase,
    conditions,
    ...(view.queue && { queue: { ...view.queue } }),
    ...(view.attempts.length > 0 && { attempts: [...view.attempts] }),
    ...(startedAt !== undefined && { startedAt }),
    ...(finishedAt !== undefined && { finishedAt }),
    ...(seconds !== undefined && { durationSeconds: Math.max(0, seconds), duration: formatDuration(seconds) }),
    ...(view.end !== undefined && last?.exitCode !== undefined && { exitCode: last.exitCode }),
    ...(view.end !== undefined && { verdict: view.end.verdict }),
    ...(view.output && { output: view.output }),
    ...(view.artifacts && { artifacts: view.artifacts }),
    ...(view.receipt && { receipt: view.receipt }),
  };
}

/** The same, concluded from this generation: of a finished one nothing that may still be changed changes the end. */
export function observedStatus<T extends { conditions?: Condition[] | undefined }>(status: T, generation: number): T {
  const conditions = status.conditions?.map((one) => ({ ...one, observedGeneration: generation }));
  return { ...status, observedGeneration: generation, ...(conditions && { conditions }) };
}

type Claims = Partial<Record<ConditionType, Claim>>;

function claims(view: View): Claims {
  return {
    Accepted: view.accepted,
    ...(view.started && { Started: view.started }),
    ...(view.captured && { Captured: view.captured }),
    ...(view.contained && { Contained: view.contained }),
    ...endClaims(view),
    ...kstatusClaims(view),
  };
}

function endClaims(view: View): Claims {
  if (view.end === undefined) return {};
  const { verdict, passed } = view.end;
  const succeeded = verdict.class === 'Succeeded';
  const claim = (holds: boolean): Claim => ({
    status: holds ? 'True' : 'False',
    reason: verdict.class,
    message: verdict.message,
  });
  return {
    Complete: claim(succeeded),
    Failed: claim(!succeeded),
    Finished: claim(true),
    ...(passed && { Passed: passed }),
  };
}

// kstatus: Stalled=True is a failure, Reconciling=True is in progress, else Ready=True is done. Both of the first are
// left out when they do not hold: conditions of that kind are written only while something is abnormal.
function kstatusClaims(view: View): Claims {
  if (view.end !== undefined) {
    const { class: reason, message } = view.end.verdict;
    if (reason === 'Succeeded') return { Ready: { status: 'True', reason, message } };
    return { Ready: { status: 'False', reason, message }, Stalled: { status: 'True', reason, message } };
  }
  const { reason, message } = view.accepted;
  if (view.accepted.status === 'False') {
    return { Ready: { status: 'False', reason, message }, Stalled: { status: 'True', reason, message } };
  }
  const progress = { reason: view.phase, message: view.queue?.message ?? PROGRESS[view.phase] ?? '' };
  return { Ready: { status: 'False', ...progress }, Reconciling: { status: 'True', ...progress } };
}

const PROGRESS: Readonly<Record<string, string>> = {
  Queued: 'The evaluation waits for its turn.',
  Starting: 'The evaluation’s sandbox is being started.',
  Running: 'The code is running.',
  Capturing: 'The code has ended; its output is being stored.',
};

function condition(
  type: ConditionType,
  claim: Claim,
  generation: number,
  previous: EvaluationStatus | undefined,
  now: number,
): Condition {
  const before = previous?.conditions?.find((candidate) => candidate.type === type);
  const lastTransitionTime =
    before !== undefined && before.status === claim.status ? before.lastTransitionTime : time(new Date(now));
  return {
    type,
    status: claim.status,
    observedGeneration: generation,
    lastTransitionTime,
    reason: claim.reason,
    message: claim.message,
  };
}

/** Differs in meaning: the order of keys and what the API server adds by default do not count. */
export function sameStatus(left: object | undefined, right: object | undefined): boolean {
  return canonical(left ?? {}) === canonical(right ?? {});
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (key, item: unknown) => {
    if (key === 'conditions' && Array.isArray(item))
      return [...(item as Condition[])].sort((a, b) => (a.type < b.type ? -1 : 1));
    if (typeof item !== 'object' || item === null || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

export interface Announcement {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

// One event for what a person would want to hear of; the others would say the same thing again.
const ANNOUNCED: readonly ConditionType[] = ['Accepted', 'Started', 'Captured', 'Contained', 'Finished', 'Passed'];

/** Kubernetes events for what changed: reason and message are the condition's own. */
export function announcements(previous: EvaluationStatus | undefined, next: EvaluationStatus): Announcement[] {
  const events: Announcement[] = [];
  for (const type of ANNOUNCED) {
    const before = previous?.conditions?.find((candidate) => candidate.type === type);
    const after = next.conditions?.find((candidate) => candidate.type === type);
    if (after === undefined || (before?.status === after.status && before.reason === after.reason)) continue;
    const failed =
      next.conditions?.some((candidate) => candidate.type === 'Stalled' && candidate.status === 'True') ?? false;
    const warning =
      type === 'Finished'
        ? failed
        : type === 'Accepted' || type === 'Passed'
          ? after.status === 'False' || WARNINGS.has(after.reason)
          : WARNINGS.has(after.reason);
    // Of what goes as it should, the end is enough: each is a write, and the timeline is in the record.
    if (!warning && type !== 'Finished') continue;
    events.push({ type: warning ? 'Warning' : 'Normal', reason: after.reason, message: after.message });
  }
  return events;
}

const WARNINGS = new Set([
  'ImagePullFailing',
  'Unschedulable',
  'QuotaExceeded',
  'SandboxRefused',
  'PodGone',
  'ReceiptMismatch',
  'DrillFailed',
  'DrillIncomplete',
  'ForeignNetworkPolicy',
  'DefaultDenyMissing',
]);

/** Why it waits, and why it is not admitted, as the record is told. */
export function waitingOf(status: EvaluationStatus | undefined): { queue: QueueView | undefined; notAdmitted: NotAdmittedView | undefined } {
  const accepted = status?.conditions?.find(({ type }) => type === 'Accepted');
  const queue = status?.queue;
  return {
    queue: queue && { reason: queue.reason, message: queue.message ?? '' },
    notAdmitted:
      accepted === undefined || accepted.status === 'True' || accepted.reason === 'RecordUnavailable'
        ? undefined
        : { reason: accepted.reason, message: accepted.message, refused: accepted.status === 'False' },
  };
}
