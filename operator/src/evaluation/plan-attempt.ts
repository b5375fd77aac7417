import { CAPTURE_FINALIZER, DEFAULTS } from '@crucible/crds';
import type { Phase, Verdict } from '@crucible/crds';
import type { AttemptPod, AttemptRecord } from '@crucible/storage';
import type { Action, AttemptEnd, Claim, Plan, View } from './actions.ts';
import { scoreEnd } from './expect.ts';
import type { Score } from './expect.ts';
import { TIMEOUT_ANNOTATION, runningDeadlineSeconds } from './job.ts';
import { hasFinalizer, isDeleting, uidOf } from './objects.ts';
import type { Pod } from './objects.ts';
import { finishedAt, hasStarted, imageDigest, isOver, startedAt } from './pod.ts';
import type { Settings } from './settings.ts';
import { conditionOf, isDeletingSnapshot, wantsEnd } from './snapshot.ts';
import type { Snapshot } from './snapshot.ts';
import { ageSeconds, judgeStart } from './start.ts';
import { exitOf, judge, verdict } from './verdict.ts';
import * as views from './view.ts';

// One attempt whose Job has been created, from then until it is judged and cleaned up.

/** Without an event; the watches bring most changes at once. */
const STARTING_RECHECK_SECONDS = 5;
const RUNNING_RECHECK_SECONDS = 30;
const CAPTURE_RECHECK_SECONDS = 2;
/** Its end wakes the Evaluation; this is for a score that could not be begun. */
const SCORING_RECHECK_SECONDS = 5;
/** The kubelet says what became of a pod some time after it was deleted; a node that is lost never does. */
const LOST_NODE_SECONDS = 60;

interface Context {
  readonly snapshot: Snapshot;
  readonly attempt: AttemptRecord;
  readonly now: number;
  readonly settings: Settings;
  readonly timeoutSeconds: number;
}

export function planAttempt(snapshot: Snapshot, attempt: AttemptRecord, now: number, settings: Settings): Plan {
  const context = { snapshot, attempt, now, settings, timeoutSeconds: timeoutOf(snapshot) };
  const { job, pod } = snapshot;
  if (pod === undefined)
    return job === undefined || attempt.podUid !== null ? planGone(context) : planStarting(context, undefined);
  if (isOver(pod, now, LOST_NODE_SECONDS)) return planOver(context, pod);
  return hasStarted(pod) ? planRunning(context, pod) : planStarting(context, pod);
}

/** An attempt whose Job could not be created, and will not be. */
export function planNeverLaunched(
  snapshot: Snapshot,
  attempt: AttemptRecord,
  now: number,
  settings: Settings,
  judged: Verdict,
): Plan {
  return planEnd(
    { snapshot, attempt, now, settings, timeoutSeconds: timeoutOf(snapshot) },
    undefined,
    judged,
    views.NO_OUTPUT,
  );
}

function planStarting(context: Context, pod: Pod | undefined): Plan {
  const { snapshot, attempt, now, settings } = context;
  const { job } = snapshot;
  if (wantsEnd(snapshot)) {
    const message = isDeletingSnapshot(snapshot)
      ? 'Deleted before the code started.'
      : 'Cancelled before the code started.';
    return planEnd(context, pod, verdict('Cancelled', 'User', message), views.NO_OUTPUT);
  }
  // Deleted by somebody while its pod, without an own start, is still there: the garbage collector takes that too.
  if (job === undefined) return planGone(context);
  const start = judgeStart({
    job,
    pod,
    warnings: snapshot.warnings,
    image: attempt.image,
    now,
    patience: settings.patience,
  });
  if (start.kind === 'failed') return planEnd(context, pod, start.verdict, views.NO_OUTPUT);
  const started: Claim = { status: 'False', reason: start.reason, message: start.message };
  return going(context, [], { phase: 'Starting', started }, STARTING_RECHECK_SECONDS);
}

function planRunning(context: Context, pod: Pod): Plan {
  const { snapshot, settings, timeoutSeconds } = context;
  const actions: Action[] = recordPod(context, pod);
  const podStart = pod.status?.startTime;
  const current = pod.spec?.activeDeadlineSeconds ?? Number.POSITIVE_INFINITY;
  const normal =
    podStart === undefined
      ? current
      : runningDeadlineSeconds(podStart, startedAt(pod) ?? podStart, timeoutSeconds, settings.sandbox);
  const seconds = wantsEnd(snapshot) ? 1 : normal;
  if (seconds < current)
    actions.push({ type: 'lowerDeadline', podName: pod.metadata.name ?? '', podUid: uidOf(pod), seconds });
  return going(context, actions, { phase: 'Running', started: views.STARTED }, RUNNING_RECHECK_SECONDS);
}

function planOver(context: Context, pod: Pod): Plan {
  const { snapshot, timeoutSeconds } = context;
  const { output } = snapshot;
  const cancelled = wantsEnd(snapshot);
  const summary = output?.capture.summary as { error?: string } | undefined;
  const judged = (): Verdict => judge({ pod, cancelled, timeoutSeconds, summary: summary ?? undefined });
  if (!hasStarted(pod)) return planEnd(context, pod, judged(), views.NO_OUTPUT);
  if (output !== undefined) return planEnd(context, pod, judged(), views.capturedClaim(output));
  const view = { phase: 'Capturing', started: views.STARTED, captured: views.CAPTURING } as const;
  return going(context, recordPod(context, pod), view, CAPTURE_RECHECK_SECONDS);
}

/** The pod cannot be found any more. What the recorder had followed of it is worth waiting for, but not for ever. */
function planGone(context: Context): Plan {
  const { snapshot, attempt, now, settings, timeoutSeconds } = context;
  const judged = judge({ pod: undefined, cancelled: wantsEnd(snapshot), timeoutSeconds });
  if (attempt.state === 'created' && snapshot.capture === undefined)
    return planEnd(context, undefined, judged, views.NO_OUTPUT);
  if (snapshot.output !== undefined) return planEnd(context, undefined, judged, views.capturedClaim(snapshot.output));
  const captured = conditionOf(snapshot.raw, 'Captured');
  const { deletionTimestamp } = snapshot.raw.metadata;
  const since = captured?.reason === views.POD_GONE.reason ? captured.lastTransitionTime : deletionTimestamp;
  const waited = ageSeconds(since, now);
  if (waited >= settings.patience.lostCapture) return planEnd(context, undefined, judged, views.POD_LOST);
  return going(
    context,
    [],
    { phase: 'Capturing', started: views.STARTED, captured: views.POD_GONE },
    CAPTURE_RECHECK_SECONDS,
  );
}

function going(
  context: Context,
  actions: Action[],
  view: Pick<View, 'phase' | 'started' | 'captured'>,
  requeueAfterSeconds: number,
): Plan {
  const { snapshot } = context;
  const recorded = snapshot.record === 'unavailable' ? undefined : snapshot.record.evaluation?.phase;
  if (recorded !== view.phase) actions.push({ type: 'recordPhase', phase: view.phase });
  return {
    actions,
    view: { ...view, accepted: views.ADMITTED, attempts: views.attemptViews(snapshot) },
    requeueAfterSeconds,
    turn: 'hold',
  };
}

function planEnd(context: Context, pod: Pod | undefined, judged: Verdict, captured: Claim): Plan {
  const { snapshot, attempt, now } = context;
  const { exitCode, signal } = exitOf(pod);
  const started = pod && startedAt(pod);
  const finished = pod && finishedAt(pod);
  const end: AttemptEnd = {
    number: attempt.number,
    podUid: pod === undefined ? (attempt.podUid ?? snapshot.capture?.podUid ?? null) : uidOf(pod),
    pod: pod === undefined || attempt.podUid !== null ? undefined : podRecord(pod),
    startedAt: started === undefined ? attempt.startedAt : new Date(started),
    finishedAt: finished === undefined ? null : new Date(finished),
    exitCode: exitCode ?? null,
    signal: signal ?? null,
    verdict: judged,
  };
  const cleaning = [...cleanUp(snapshot), { type: 'deleteConfigMap', name: attempt.jobName } as const];
  const parts = {
    accepted: views.ADMITTED,
    started: end.startedAt === null ? views.NEVER_STARTED : views.STARTED,
    captured,
    attempts: views.attemptViews(snapshot, end),
    ...views.outputParts(snapshot.output, attempt.runtimeClass, snapshot.evaluation?.spec.artifacts !== undefined),
  };
  if (shouldRetry(snapshot, judged, attempt.number)) {
    const actions: Action[] = [
      { type: 'recordEnd', attempt: end, evaluation: undefined },
      ...cleaning,
      { type: 'recordPhase', phase: 'Queued' },
    ];
    const view: View = {
      ...parts,
      phase: 'Queued',
      queueReason: 'The last attempt failed; the next one starts shortly.',
    };
    return { actions, view, requeueAfterSeconds: 0, turn: 'hold' };
  }
  const expected = snapshot.evaluation?.spec.expect;
  const scored = scoreOf(snapshot, attempt.number, exitCode);
  if (scored === 'pending') {
    const view = { phase: 'Capturing', started: parts.started, captured } as const;
    const scoring = { attempt: attempt.number, expected: expected!.stdout! };
    return { ...going(context, [], view, SCORING_RECHECK_SECONDS), scoring };
  }
  const passed = scored === undefined ? expected && views.NOT_SCORED : views.passedClaim(scored);
  const evaluation = {
    phase: phaseOf(judged),
    verdict: judged,
    passed: scored?.passed ?? null,
    score: scored,
    finishedAt: end.finishedAt ?? new Date(now),
    acceptedAttempt: attempt.number,
  };
  const actions: Action[] = [{ type: 'recordEnd', attempt: end, evaluation }, ...cleaning];
  if (hasFinalizer(snapshot.raw, CAPTURE_FINALIZER)) actions.push({ type: 'removeFinalizer' });
  if (isDeletingSnapshot(snapshot)) return { actions, view: undefined, turn: 'release' };
  return {
    actions,
    view: { ...parts, phase: evaluation.phase, end: { verdict: judged, ...(passed && { passed }) } },
    turn: 'release',
  };
}

/** Undefined when there is nothing to score, or nobody who would wait for it. */
function scoreOf(snapshot: Snapshot, attempt: number, exitCode: number | undefined): Score | 'pending' | undefined {
  const expected = snapshot.evaluation?.spec.expect;
  if (expected === undefined || wantsEnd(snapshot)) return undefined;
  const known = scoreEnd(expected, exitCode, snapshot.output?.capture.streams.stdout.complete ?? false);
  if (known !== undefined) return known;
  return snapshot.scored?.attempt === attempt ? snapshot.scored.score : 'pending';
}

function shouldRetry(snapshot: Snapshot, judged: Verdict, attempt: number): boolean {
  const retry = snapshot.evaluation?.spec.retry;
  if (retry === undefined || wantsEnd(snapshot) || judged.class === 'Succeeded' || judged.class === 'Cancelled')
    return false;
  const on = retry.on ?? ['Infrastructure'];
  return attempt <= retry.limit && (on.includes('Any') || judged.attributableTo === 'Infrastructure');
}

/**
 * What is left of the current attempt in the cluster, once its end is in the record. A Job that ran is handed to the
 * garbage collector; one that never did, or whose Evaluation goes, is deleted at once. The pod's finalizer goes last.
 */
export function cleanUp(snapshot: Snapshot): Action[] {
  const { job, pod, raw } = snapshot;
  const actions: Action[] = [];
  const ran = pod !== undefined && hasStarted(pod);
  if (job !== undefined && !isDeleting(job)) {
    const name = { jobName: job.metadata.name ?? '', jobUid: uidOf(job) };
    const owned = job.metadata.ownerReferences?.some(({ uid }) => uid === raw.metadata.uid) ?? false;
    if (isDeletingSnapshot(snapshot) || !ran) actions.push({ type: 'deleteJob', ...name });
    else if (!owned) actions.push({ type: 'settleJob', ...name });
  }
  if (pod !== undefined && hasFinalizer(pod, CAPTURE_FINALIZER)) {
    actions.push({ type: 'releasePod', podName: pod.metadata.name ?? '', podUid: uidOf(pod) });
  }
  return actions;
}

export function phaseOf(judged: Verdict): Phase {
  if (judged.class === 'Succeeded') return 'Succeeded';
  return judged.class === 'Cancelled' ? 'Cancelled' : 'Failed';
}

function recordPod({ attempt }: Context, pod: Pod): Action[] {
  const known = attempt.podUid === uidOf(pod) && attempt.state !== 'created' && attempt.startedAt !== null;
  return known ? [] : [{ type: 'recordPod', number: attempt.number, pod: podRecord(pod) }];
}

function podRecord(pod: Pod): AttemptPod {
  const started = startedAt(pod);
  return {
    podUid: uidOf(pod),
    podName: pod.metadata.name ?? '',
    node: pod.spec?.nodeName ?? null,
    imageDigest: imageDigest(pod) ?? null,
    startedAt: started === undefined ? null : new Date(started),
  };
}

function timeoutOf(snapshot: Snapshot): number {
  const noted =
    snapshot.job?.metadata.annotations?.[TIMEOUT_ANNOTATION] ??
    snapshot.pod?.metadata.annotations?.[TIMEOUT_ANNOTATION];
  const seconds = Number(noted);
  return seconds > 0 ? seconds : (snapshot.evaluation?.spec.timeoutSeconds ?? DEFAULTS.timeoutSeconds);
}
