import { CAPTURE_FINALIZER, DEFAULTS, LABELS } from '@crucible/crds';
import type { Phase, Verdict } from '@crucible/crds';
import type { AttemptPod, AttemptRecord } from '@crucible/storage';
import type { Action, AttemptEnd, Claim, Plan, View } from './actions.ts';
import { admit } from './admission.ts';
import { canWait, cleanUp } from './clean-up.ts';
import { ENDING, START_UNKNOWN, capturedOf, hasRun, startedAfterwards } from './claims.ts';
import { scoreEnd } from './expect.ts';
import type { Score } from './expect.ts';
import { runningDeadlineSeconds } from './job.ts';
import { isSuspended, kueueQueue, stoppedByKueue } from './kueue.ts';
import { hasFinalizer, isDeleting, trueCondition, uidOf } from './objects.ts';
import type { Job, Pod } from './objects.ts';
import {
  finishedAt,
  hasEndPhase,
  hasNode,
  hasStarted,
  imageDigest,
  isLost,
  isOver,
  isWithdrawn,
  startedAt,
} from './pod.ts';
import { buildReceipt } from './receipt.ts';
import type { Receipt } from './receipt.ts';
import type { Settings } from './settings.ts';
import { conditionOf, isDeletingSnapshot, wantsEnd, wasCancelled } from './snapshot.ts';
import type { Snapshot } from './snapshot.ts';
import { ageSeconds, judgeStart } from './start.ts';
import { exitOf, judge, verdict } from './verdict.ts';
import type { LauncherSummary } from './verdict.ts';
import * as views from './view.ts';
import { asVerdict } from './view.ts';

// One attempt whose Job has been created, from then until it is judged and cleaned up.

/** Without an event; the watches bring most changes at once. */
const STARTING_RECHECK_SECONDS = 5;
const RUNNING_RECHECK_SECONDS = 30;
const SUSPENDED_RECHECK_SECONDS = 60;
const ENDING_RECHECK_SECONDS = 2;
const CAPTURE_RECHECK_SECONDS = 2;
/** Its end wakes the Evaluation; this is for a score that could not be begun. */
const SCORING_RECHECK_SECONDS = 5;
/** The kubelet says what became of a pod some time after it was deleted; a node that is lost never does. */
const LOST_NODE_SECONDS = 60;
const LOWER_DEADLINE_AFTER_SECONDS = 5;
/** The lowest deadline there is: the kubelet ends the pod, politely, and its log stays. */
const END_NOW_SECONDS = 1;

interface Context {
  readonly snapshot: Snapshot;
  readonly attempt: AttemptRecord;
  readonly now: number;
  readonly settings: Settings;
  readonly timeoutSeconds: number;
}

export function planAttempt(snapshot: Snapshot, attempt: AttemptRecord, now: number, settings: Settings): Plan {
  const timeoutSeconds = attempt.timeoutSeconds ?? allowedSeconds(snapshot, settings);
  const context = { snapshot, attempt, now, settings, timeoutSeconds };
  const { job, pod, capture } = snapshot;
  if (pod !== undefined && isSuspended(job) && attempt.ending === null && !wantsEnd(snapshot)) {
    const stopped = { type: 'recordEnding', number: attempt.number, verdict: stoppedByKueue(snapshot.workload) } as const;
    return { actions: [stopped], view: undefined, requeueAfterSeconds: 0, turn: 'hold' };
  }
  if (pod === undefined) {
    const had = attempt.podUid !== null || capture !== undefined || (job !== undefined && hasEnded(job));
    return job === undefined || had ? planGone(context, undefined) : planStarting(context, undefined);
  }
  if (isWithdrawn(pod)) return planOver(context, pod);
  if (!hasEndPhase(pod) && isLost(pod, now, LOST_NODE_SECONDS)) return planGone(context, pod);
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
    { snapshot, attempt, now, settings, timeoutSeconds: allowedSeconds(snapshot, settings) },
    undefined,
    judged,
    views.NO_OUTPUT,
  );
}

function planStarting(context: Context, pod: Pod | undefined): Plan {
  const { snapshot, attempt, now, settings } = context;
  const { job } = snapshot;
  if (wantsEnd(snapshot)) {
    const message = `${wasCancelled(snapshot) ? 'Cancelled' : 'Deleted'} before the code started.`;
    return planGiveUp(context, pod, verdict('Cancelled', 'User', message));
  }
  // Deleted by somebody, and the garbage collector takes the pod: its end is still to come.
  if (job === undefined)
    return going(context, [], { phase: 'Starting', started: START_UNKNOWN }, STARTING_RECHECK_SECONDS);
  if (pod === undefined && isSuspended(job)) {
    const queue = kueueQueue(snapshot.workload, snapshot.evaluation?.spec.queue ?? '');
    const started: Claim = { status: 'False', reason: 'Suspended', message: 'Its Job is suspended until Kueue admits it.' };
    return going(context, [], { phase: 'Queued', started, queue }, SUSPENDED_RECHECK_SECONDS);
  }
  const start = judgeStart({
    job,
    pod,
    warnings: snapshot.warnings,
    image: attempt.image,
    failingSince: snapshot.failingSince,
    now,
    patience: settings.patience,
  });
  if (start.kind === 'failed') return planGiveUp(context, pod, start.verdict);
  const started: Claim = { status: 'False', reason: start.reason, message: start.message };
  return going(context, [], { phase: 'Starting', started }, STARTING_RECHECK_SECONDS);
}

/**
 * Ends an attempt whose code has not been seen to start. The status we have is always older than the pod: on a node it
 * may run by now, so the kubelet is to end it and to say what became of it, as with one that runs. Only what has no
 * node can be deleted. Why is recorded first.
 */
function planGiveUp(context: Context, pod: Pod | undefined, judged: Verdict): Plan {
  const { snapshot, attempt } = context;
  const { job } = snapshot;
  const actions: Action[] = [];
  const placed = pod !== undefined && hasNode(pod);
  const noted = asVerdict(attempt.ending);
  // The first reason stands once it is carried out.
  const carriedOut = noted !== undefined && placed && pod.spec?.activeDeadlineSeconds === END_NOW_SECONDS;
  if (!carriedOut && (noted?.class !== judged.class || noted.message !== judged.message))
    actions.push({ type: 'recordEnding', number: attempt.number, verdict: judged });
  if (placed) actions.push(...lowerDeadline(pod, END_NOW_SECONDS));
  else if (job !== undefined && !isDeleting(job))
    actions.push({ type: 'withdraw', number: attempt.number, jobName: job.metadata.name ?? '', jobUid: uidOf(job) });
  return going(context, actions, { phase: 'Starting', started: ENDING }, ENDING_RECHECK_SECONDS);
}

function planRunning(context: Context, pod: Pod): Plan {
  const { snapshot, timeoutSeconds, now } = context;
  const actions = [...recordPod(context, pod), ...planDeadline(snapshot, pod, timeoutSeconds, now)];
  const lowerIn = lowerAfter(timeoutSeconds) - ageSeconds(startedAt(pod), now);
  const recheck = lowerIn > 0 ? Math.min(lowerIn, RUNNING_RECHECK_SECONDS) : RUNNING_RECHECK_SECONDS;
  return going(context, actions, { phase: 'Running', started: views.STARTED }, recheck);
}

/** All that may be done without the record: it depends on the spec and the pod alone, and decides nothing. */
export function planDeadline(snapshot: Snapshot, pod: Pod, timeoutSeconds: number | undefined, now: number): Action[] {
  if (!hasNode(pod) || hasEndPhase(pod)) return [];
  if (wantsEnd(snapshot)) return lowerDeadline(pod, END_NOW_SECONDS);
  const [podStart, codeStart] = [pod.status?.startTime, startedAt(pod)];
  if (podStart === undefined || codeStart === undefined || timeoutSeconds === undefined) return [];
  // The launcher keeps the time, this stands behind it: for what is over sooner it is not worth a write.
  if (ageSeconds(codeStart, now) < lowerAfter(timeoutSeconds)) return [];
  return lowerDeadline(pod, runningDeadlineSeconds(podStart, codeStart, timeoutSeconds));
}

/** In time for the backstop to end a launcher that hangs. */
function lowerAfter(timeoutSeconds: number): number {
  return Math.min(LOWER_DEADLINE_AFTER_SECONDS, timeoutSeconds);
}

function lowerDeadline(pod: Pod, seconds: number): Action[] {
  if (seconds >= (pod.spec?.activeDeadlineSeconds ?? Number.POSITIVE_INFINITY)) return [];
  return [{ type: 'lowerDeadline', podName: pod.metadata.name ?? '', podUid: uidOf(pod), seconds }];
}

/** Whatever had a node, or has a capture, is judged once that is finished: only then is it known what it wrote. */
function planOver(context: Context, pod: Pod): Plan {
  const { snapshot, attempt, timeoutSeconds } = context;
  const { output, capture } = snapshot;
  const ran = hasRun(snapshot, pod);
  if (output === undefined && (hasNode(pod) || capture !== undefined)) {
    const started = ran ? views.STARTED : ENDING;
    const view = { phase: 'Capturing', started, captured: views.CAPTURING } as const;
    return going(context, recordPod(context, pod), view, CAPTURE_RECHECK_SECONDS);
  }
  const summary = (output?.capture.summary ?? undefined) as LauncherSummary | undefined;
  const ending = asVerdict(attempt.ending);
  const judged = judge({ pod, cancelled: wantsEnd(snapshot), timeoutSeconds, summary, ran, ending });
  return planEnd(context, pod, judged, output === undefined ? views.NO_OUTPUT : capturedOf(output, ran, pod));
}

/**
 * The pod cannot be found any more, or its node never says what became of it. What the recorder had followed of it is
 * worth waiting for, but not for ever: a pod that no recorder saw has no capture at all.
 */
function planGone(context: Context, pod: Pod | undefined): Plan {
  const { snapshot, attempt, now, settings, timeoutSeconds } = context;
  const { job, capture, output, raw } = snapshot;
  const ending = asVerdict(attempt.ending);
  const ran = attempt.startedAt !== null || hasRun(snapshot, pod);
  // Withdrawn. A pod would still be there, by its finalizer.
  const unseen = pod === undefined && capture === undefined && attempt.podUid === null;
  if (ending !== undefined && job === undefined && unseen)
    return planEnd(context, undefined, ending, views.NO_OUTPUT);
  const judged = judge({ pod, cancelled: wantsEnd(snapshot), timeoutSeconds, ran, ending });
  if (output !== undefined) return planEnd(context, pod, judged, capturedOf(output, ran, pod));
  const captured = conditionOf(raw, 'Captured');
  const said = captured?.status === 'Unknown' && captured.reason === views.POD_GONE.reason;
  // An orphan has no status to say it in; the janitor says since when it knows of it.
  const orphanSince = raw.status === undefined ? raw.metadata.deletionTimestamp : undefined;
  const since = said ? captured.lastTransitionTime : orphanSince;
  if (ageSeconds(since, now) >= settings.patience.lostCapture) return planEnd(context, pod, judged, views.POD_LOST);
  const started = ran ? views.STARTED : START_UNKNOWN;
  return going(context, [], { phase: 'Capturing', started, captured: views.POD_GONE }, CAPTURE_RECHECK_SECONDS);
}

function going(
  context: Context,
  actions: Action[],
  view: Pick<View, 'phase' | 'started' | 'captured' | 'queue'>,
  requeueAfterSeconds: number,
): Plan {
  const { snapshot } = context;
  const recorded = snapshot.record === 'unavailable' ? undefined : snapshot.record.evaluation?.phase;
  if (hasLostFinalizer(snapshot)) actions.push({ type: 'addFinalizer' });
  actions.push(...releaseForeign(context));
  if (recorded !== view.phase) actions.push({ type: 'recordPhase', phase: view.phase });
  return {
    actions,
    view: { ...view, accepted: views.ADMITTED, attempts: views.attemptViews(snapshot) },
    requeueAfterSeconds,
    turn: 'hold',
    capturing: view.phase === 'Capturing',
  };
}

/** Pods of a Job of this attempt that was deleted because it was not what is recorded: nothing of them is ever captured. */
function releaseForeign({ snapshot: { others }, attempt: { number, jobUid } }: Context): Action[] {
  return others.flatMap(({ metadata }): Action[] => {
    const foreign = jobUid !== null && !(metadata.ownerReferences ?? []).some(({ uid }) => uid === jobUid);
    const held = metadata.deletionTimestamp !== undefined && hasFinalizer({ metadata }, CAPTURE_FINALIZER);
    if (!foreign || !held || metadata.labels?.[LABELS.attempt] !== String(number)) return [];
    return [{ type: 'releasePod', podName: metadata.name ?? '', podUid: metadata.uid ?? '' }];
  });
}

/**
 * Whoever replaces the whole resource takes it off: `kubectl replace` with what is in Git, for one. It is put on before the
 * attempt is: a status that tells of one is newer, an Evaluation without may be older.
 */
function hasLostFinalizer({ raw }: Snapshot): boolean {
  return !isDeleting(raw) && !hasFinalizer(raw, CAPTURE_FINALIZER) && (raw.status?.attempts ?? []).length > 0;
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
    receipt: receiptOf(context, pod, started !== undefined || attempt.startedAt !== null),
  };
  const cleaning = cleanUp(snapshot, attempt.jobName);
  const parts = {
    accepted: views.ADMITTED,
    started: startedAfterwards(end.startedAt !== null || hasRun(snapshot, pod), captured, views.NEVER_STARTED),
    captured,
    attempts: views.attemptViews(snapshot, end),
    ...views.outputParts(snapshot.output, snapshot.evaluation?.spec.artifacts !== undefined),
    ...views.receiptParts(end.receipt),
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
      queue: { reason: 'RetryDelay', message: 'The last attempt failed; the next one starts shortly.' },
    };
    return { actions, view, requeueAfterSeconds: 0, turn: 'hold', capturing: false };
  }
  const expected = snapshot.evaluation?.spec.expect;
  const scored = scoreOf(snapshot, attempt.number, exitCode);
  if (scored === 'pending') {
    const view = { phase: 'Capturing', started: parts.started, captured } as const;
    const scoring = { attempt: attempt.number, expected: expected!.stdout! };
    // Its output is stored: it holds nobody back.
    return { ...going(context, [], view, SCORING_RECHECK_SECONDS), scoring, capturing: false };
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
  const recording: Action = { type: 'recordEnd', attempt: end, evaluation };
  const view: View = { ...parts, phase: evaluation.phase, end: { verdict: judged, ...(passed && { passed }) } };
  // First what people wait for; once the status says it, the rest is decided.
  if (canWait(snapshot)) return { actions: [recording], view, turn: 'release' };
  const actions: Action[] = [recording, ...cleaning];
  if (hasFinalizer(snapshot.raw, CAPTURE_FINALIZER)) actions.push({ type: 'removeFinalizer' });
  return { actions, view: isDeletingSnapshot(snapshot) ? undefined : view, turn: 'release' };
}

function receiptOf({ snapshot, attempt, now }: Context, pod: Pod | undefined, ran: boolean): Receipt | null {
  const measured = snapshot.output?.capture.receipt ?? null;
  if (!ran && measured === null) return null;
  const runtimeHandler = snapshot.cluster.runtimeHandlers?.get(attempt.runtimeClass ?? '');
  return buildReceipt({ attempt, pod, measured, runtimeHandler, now });
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

/**
 * What the code is allowed, for an attempt whose row does not say or cannot be read: from what a user cannot change.
 * The annotations on Job and pod are for people, and may be written by them.
 */
export function allowedSeconds({ evaluation, cluster }: Snapshot, settings: Settings): number {
  if (evaluation === undefined) return DEFAULTS.timeoutSeconds;
  const admission = admit(evaluation, cluster, settings);
  if (admission.admitted) return admission.run.timeoutSeconds;
  return evaluation.spec.timeoutSeconds ?? DEFAULTS.timeoutSeconds;
}

function hasEnded({ status }: Job): boolean {
  const { failed = 0, succeeded = 0, conditions } = status ?? {};
  const over = trueCondition(conditions, 'Failed') ?? trueCondition(conditions, 'Complete');
  return failed + succeeded > 0 || over !== undefined;
}
