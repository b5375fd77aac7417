import { isDeepStrictEqual } from 'node:util';
import { CAPTURE_FINALIZER, clip, formatDuration } from '@crucible/crds';
import type { Verdict } from '@crucible/crds';
import type { AttemptRecord } from '@crucible/storage';
import { passage } from '../drill/gate.ts';
import type { AcceptedRisk, Passage } from '../drill/gate.ts';
import type { Action, EvaluationEnd, Plan, QueueView, View } from './actions.ts';
import { admit } from './admission.ts';
import type { Refusal, Run } from './admission.ts';
import { cleanUp, cleanUpFinished } from './clean-up.ts';
import { capturedAfterwards, hasRun, startedAfterwards } from './claims.ts';
import { phaseOf, planAttempt, planDeadline, planNeverLaunched } from './plan-attempt.ts';
import { resolveInputs } from './inputs.ts';
import { hasTermsOf } from './job.ts';
import { jobName } from './names.ts';
import { hasFinalizer } from './objects.ts';
import { hasEndPhase, isHeld } from './pod.ts';
import type { HeldBack } from './queue.ts';
import { conditionOf, currentAttempt, isDeletingSnapshot, isFinished, wantsEnd, wasCancelled } from './snapshot.ts';
import type { RecordState, Snapshot } from './snapshot.ts';
import type { Settings } from './settings.ts';
import { judgeRefusal } from './start.ts';
import {
  ADMITTED,
  asVerdict,
  attemptViews,
  NEVER_STARTED,
  outputParts,
  receiptParts,
  recordedClaim,
  withRisks,
} from './view.ts';
import { verdict } from './verdict.ts';

/** While Postgres is away nothing is decided; this is how often it is asked again. */
const RECORD_RETRY_SECONDS = 5;
const RECORD_UNAVAILABLE: QueueView = {
  reason: 'RecordUnavailable',
  message: 'The database cannot be reached; nothing is admitted until it is back.',
};
const NOT_ADMITTED: View = {
  phase: 'Queued',
  accepted: {
    status: 'Unknown',
    reason: 'RecordUnavailable',
    message: 'Nothing is admitted while the database cannot be reached.',
  },
  queue: RECORD_UNAVAILABLE,
  attempts: [],
};
const HELD_BACK_MESSAGES: Readonly<Record<HeldBack, string>> = {
  GlobalLimit: 'As many evaluations run as may at once.',
  NamespaceLimit: 'As many evaluations of this namespace run as may at once.',
  CaptureBacklog: 'The output of too many ended runs is not stored yet; nothing is started until it is.',
};
/** Nobody tells when a ConfigMap appears or changes. */
const INPUT_RECHECK_SECONDS = 10;
/** Of one that Kueue admits: it takes no turn by which it would be woken. */
const BACKLOGGED = {
  queue: { reason: 'CaptureBacklog', message: HELD_BACK_MESSAGES.CaptureBacklog },
  turn: 'release',
  requeueAfterSeconds: 5,
} as const;
const FIRST_RETRY_SECONDS = 5;
const MAX_RETRY_SECONDS = 300;

/**
 * What to do next about one Evaluation. Pure: the same snapshot at the same time gives the same plan, so that every
 * crash between two actions is answered by deciding again.
 */
export function plan(snapshot: Snapshot, now: number, settings: Settings): Plan {
  const decision = decide(snapshot, now, settings);
  const starting = decision.actions.find((action) => action.type === 'recordAttempt');
  const risks = starting?.risks ?? currentAttempt(snapshot)?.acceptedRisks ?? [];
  const { view } = decision;
  const told = view === undefined || risks.length === 0 ? decision : { ...decision, view: withRisks(view, risks) };
  return placeless(snapshot) ? { ...told, turn: 'release' } : told;
}

function decide(snapshot: Snapshot, now: number, settings: Settings): Plan {
  const { record } = snapshot;
  if (isFinished(snapshot.raw)) return planAsFinished(snapshot, now, settings);
  if (record === 'unavailable') return planWithoutRecord(snapshot, now, settings);
  if (record.evaluation?.finishedAt != null) return planFinished(snapshot, record);
  const current = currentAttempt(snapshot);
  if (current !== undefined && current.state !== 'finalized' && current.jobUid !== null)
    return planAttempt(snapshot, current, now, settings);
  if (current !== undefined && current.state !== 'finalized' && snapshot.job?.metadata.uid !== undefined && hasTermsOf(snapshot.job, current)) {
    // The Job is there but not its uid in the row: the operator was stopped in between. Take it over, then decide
    // again.
    return {
      actions: [{ type: 'recordJob', number: current.number, jobUid: snapshot.job.metadata.uid }],
      view: undefined,
      requeueAfterSeconds: 0,
      turn: 'hold',
    };
  }
  if (wantsEnd(snapshot)) return planEndWithoutAttempt(snapshot, record, now);
  if (snapshot.invalid !== undefined)
    return planRefusal(snapshot, { admitted: false, reason: 'InvalidSpec', message: snapshot.invalid });
  return planNextAttempt(snapshot, record, now, settings);
}

/**
 * The status says that it has finished. Where somebody else may have written that, by hand or from a backup, it must be the
 * record's word too: while a pod of it runs (to clean up would be the end of output that nobody has stored; a record may be
 * too old to be kept), and when it was seen unfinished and nobody here has ended it.
 */
function planAsFinished(snapshot: Snapshot, now: number, settings: Settings): Plan {
  const { record, pod, others, doubted } = snapshot;
  const runs = [pod, ...others].some((one) => one !== undefined && isHeld(one));
  if (!(runs || doubted) || abandonedFor(snapshot, now) >= settings.patience.lostCapture) return planLeftovers(snapshot, now);
  const turn = runs || snapshot.job !== undefined || snapshot.turn ? 'hold' : 'release';
  if (record === 'unavailable') return { actions: [], view: undefined, requeueAfterSeconds: RECORD_RETRY_SECONDS, turn };
  const { evaluation: known } = record;
  if (known === undefined ? !doubted : known.finishedAt !== null) return planLeftovers(snapshot, now);
  return { actions: [{ type: 'clearStatus' }], view: undefined, requeueAfterSeconds: 1, turn };
}

/** Finished, and the status says so. Only then, for what it leaves in the cluster is in nobody's way. */
function planLeftovers(snapshot: Snapshot, now: number): Plan {
  const actions = cleanUpFinished(snapshot);
  const left = isDeletingSnapshot(snapshot) ? undefined : timeToLive(snapshot, now);
  if (left !== undefined && left <= 0) actions.push({ type: 'deleteEvaluation' });
  return {
    actions,
    view: undefined,
    // priority, cancel and ttlSecondsAfterFinished may still be changed; of the end nothing does.
    observe: true,
    ...(left !== undefined && left > 0 && { requeueAfterSeconds: left }),
    turn: 'release',
  };
}

/** Seconds until spec.ttlSecondsAfterFinished is over; the record stays. */
function timeToLive(snapshot: Snapshot, now: number): number | undefined {
  const ttl = snapshot.evaluation?.spec.ttlSecondsAfterFinished;
  const since = conditionOf(snapshot.raw, 'Finished')?.lastTransitionTime;
  if (ttl === undefined || since === undefined) return undefined;
  return Math.ceil(Date.parse(since) / 1000 + ttl - now / 1000);
}

function planWithoutRecord(snapshot: Snapshot, now: number, settings: Settings): Plan {
  const accepted = conditionOf(snapshot.raw, 'Accepted');
  const requeueAfterSeconds = RECORD_RETRY_SECONDS;
  if (accepted?.status === 'True' || hasFinalizer(snapshot.raw, CAPTURE_FINALIZER)) {
    // What runs goes on and is ended on time, by the API server alone; its result waits in the pod.
    // What only waits for its turn has none: to take it for running would start it with all the others at once.
    const turn = snapshot.job !== undefined || snapshot.turn ? 'hold' : 'release';
    const common = { requeueAfterSeconds, turn, capturing: endedUncaptured(snapshot) } as const;
    if (abandonedFor(snapshot, now) >= settings.patience.lostCapture)
      return { actions: planAbandon(snapshot), view: undefined, ...common };
    // It went away just as this one began.
    const untold = snapshot.job === undefined && snapshot.raw.status === undefined && !isDeletingSnapshot(snapshot);
    const view = untold ? NOT_ADMITTED : turn === 'release' ? stillQueuedView(snapshot) : undefined;
    return { actions: planDeadlines(snapshot, now), view, ...common };
  }
  if (isDeletingSnapshot(snapshot)) return { actions: [], view: undefined, turn: 'release' };
  return { actions: [], view: NOT_ADMITTED, requeueAfterSeconds, turn: 'release' };
}

/** As far as the cluster alone can say: the finalizer goes once the output is stored. */
function endedUncaptured({ pod }: Snapshot): boolean {
  return pod !== undefined && hasEndPhase(pod) && hasFinalizer(pod, CAPTURE_FINALIZER);
}

/** Of one that was admitted and waits for its turn. What the record knows of it stays in the status as it is. */
function stillQueuedView(snapshot: Snapshot): View | undefined {
  const { status } = snapshot.raw;
  if (status?.phase !== 'Queued' || isDeletingSnapshot(snapshot)) return undefined;
  return { phase: 'Queued', accepted: ADMITTED, queue: RECORD_UNAVAILABLE, attempts: status.attempts ?? [] };
}

/**
 * Only the deadlines of planAttempt: the rest of it writes to the record. What a runtime allowed when the attempt began is in the
 * record alone, and its runtime may allow less by now: then the launcher keeps the time, and the pod's first deadline stands behind it.
 */
function planDeadlines(snapshot: Snapshot, now: number): Action[] {
  const { job, pod, evaluation } = snapshot;
  if (job === undefined || pod === undefined) return [];
  return planDeadline(snapshot, pod, evaluation?.spec.timeoutSeconds, now);
}

/**
 * How long the record has been away while it was being deleted, or its namespace was, in seconds; 0 if neither is. A namespace
 * deletes its pods first and nothing else before they are gone (KEP-5080): until we let go of them, the Evaluation looks as ever.
 */
function abandonedFor({ raw, cluster, unavailableSince }: Snapshot, now: number): number {
  const deleted = [raw, cluster.namespace].flatMap((object) => object?.metadata.deletionTimestamp ?? []);
  if (deleted.length === 0) return 0;
  const since = Math.min(...deleted.map((time) => Date.parse(time)));
  return (now - Math.max(since, unavailableSince ?? now)) / 1000;
}

/**
 * Deleting a namespace is its owner's right, and a record that is away must not keep it for ever. The recorder has what
 * it followed in its spool; the janitor finds the rows when the record is back, and says what is missing.
 */
function planAbandon(snapshot: Snapshot): Action[] {
  const { job } = snapshot;
  const actions: Action[] = [{ type: 'confirmGoing' }, ...cleanUp(snapshot)];
  if (job?.metadata.name !== undefined) actions.push({ type: 'deleteConfigMap', name: job.metadata.name });
  if (hasFinalizer(snapshot.raw, CAPTURE_FINALIZER)) actions.push({ type: 'removeFinalizer' });
  return actions;
}

/** The record says how it ended; the operator stopped before it could say so in the status. */
function planFinished(snapshot: Snapshot, record: RecordState): Plan {
  const last = record.attempts.at(-1);
  const judged =
    asVerdict(record.evaluation?.verdict) ??
    verdict('InternalError', 'Infrastructure', 'The recorded verdict cannot be read.');
  const actions: Action[] = cleanUp(snapshot);
  actions.push(...deleteConfigMap(snapshot, last));
  if (hasFinalizer(snapshot.raw, CAPTURE_FINALIZER)) actions.push({ type: 'removeFinalizer' });
  const view = isDeletingSnapshot(snapshot) ? undefined : finishedView(snapshot, judged, last);
  return { actions, view, turn: 'release' };
}

function finishedView(snapshot: Snapshot, judged: Verdict, last: AttemptRecord | undefined): View {
  const passed = recordedClaim(snapshot);
  const captured = capturedAfterwards(snapshot, last);
  const ran = last?.startedAt != null || hasRun(snapshot, snapshot.pod);
  return {
    phase: phaseOf(judged),
    accepted: ADMITTED,
    started: startedAfterwards(ran, captured, NEVER_STARTED),
    captured,
    end: { verdict: judged, ...(passed && { passed }) },
    attempts: attemptViews(snapshot),
    ...outputParts(snapshot.output, snapshot.evaluation?.spec.artifacts !== undefined),
    ...receiptParts(last?.receipt),
  };
}

/** Cancelled or deleted while nothing of it is in the cluster. */
function planEndWithoutAttempt(snapshot: Snapshot, record: RecordState, now: number): Plan {
  const deleting = isDeletingSnapshot(snapshot);
  const actions: Action[] = cleanUp(snapshot);
  const current = currentAttempt(snapshot);
  const earlier = current?.state === 'finalized' ? current : undefined;
  const when = earlier === undefined ? 'before the code started' : 'before the next attempt; what the earlier ones gave is kept';
  const judged = verdict('Cancelled', 'User', `${wasCancelled(snapshot) ? 'Cancelled' : 'Deleted'} ${when}.`);
  // A row without a Job: the operator was stopped between the two.
  const attempt =
    current === undefined || earlier !== undefined
      ? undefined
      : {
          number: current.number,
          podUid: null,
          pod: undefined,
          startedAt: null,
          finishedAt: null,
          exitCode: null,
          signal: null,
          verdict: judged,
        };
  const end: EvaluationEnd = {
    phase: 'Cancelled',
    verdict: judged,
    passed: null,
    score: undefined,
    finishedAt: new Date(now),
    acceptedAttempt: undefined,
  };
  if (record.evaluation !== undefined || !deleting) {
    if (record.evaluation === undefined) actions.push({ type: 'recordEvaluation', phase: 'Queued' });
    actions.push({ type: 'recordEnd', attempt, evaluation: end });
  }
  actions.push(...deleteConfigMap(snapshot, current));
  if (hasFinalizer(snapshot.raw, CAPTURE_FINALIZER)) actions.push({ type: 'removeFinalizer' });
  if (deleting) return { actions, view: undefined, turn: 'release' };
  return { actions, view: finishedView(snapshot, judged, earlier), turn: 'release' };
}

/** Also of a first attempt that has no row: finalizer, row and ConfigMap are made at the same time. */
function deleteConfigMap({ raw }: Snapshot, attempt: AttemptRecord | undefined): Action[] {
  if (attempt === undefined && !hasFinalizer(raw, CAPTURE_FINALIZER)) return [];
  const { name = '', uid = '' } = raw.metadata;
  return [{ type: 'deleteConfigMap', name: attempt?.jobName ?? jobName({ name, uid }, 1) }];
}

/**
 * Refused: the status says what to change. Stalled, not finished: the object that is missing may appear, and then this
 * is decided again (its informer wakes every Evaluation that is not accepted).
 */
function planRefusal(snapshot: Snapshot, refusal: Refusal): Plan {
  const accepted = { status: 'False', reason: refusal.reason, message: clip(refusal.message, 1024) } as const;
  return { actions: [], view: { phase: 'Queued', accepted, attempts: attemptViews(snapshot) }, turn: 'release' };
}

function planNextAttempt(snapshot: Snapshot, record: RecordState, now: number, settings: Settings): Plan {
  const { evaluation } = snapshot;
  if (evaluation === undefined) return { actions: [], view: undefined, turn: 'release' };
  const last = record.attempts.at(-1);
  const retrying = last?.state === 'finalized';
  const wait = retrying ? retryInSeconds(last, now) : 0;
  const actions: Action[] = retrying ? cleanUp(snapshot) : [];
  if (wait > 0) {
    const message = `The next attempt starts ${formatDuration(retryDelay(last!.number))} after the last one ended.`;
    const view = queuedView(snapshot, { reason: 'RetryDelay', message });
    return { actions, view, requeueAfterSeconds: wait, turn: 'hold', capturing: false };
  }
  const admission = admit(evaluation, snapshot.cluster, settings);
  if (!admission.admitted) return { ...planRefusal(snapshot, admission), actions };
  const given = resolveInputs(admission.run, snapshot.inputs, record.attempts[0]?.inputs ?? undefined);
  if (!given.admitted) return { ...planRefusal(snapshot, given), actions, requeueAfterSeconds: INPUT_RECHECK_SECONDS };
  const { run, inputs } = given;
  const pass = passage(snapshot.gate, run.runtimeClassName);
  if (!pass.open) return planClosed(snapshot, pass, run.runtimeClassName, actions);
  const held = waitsFor(snapshot);
  if (held !== undefined) {
    // Its priority may have changed, which is what the record's queue is sorted by.
    const known = record.evaluation?.generation ?? 0;
    if (known < (snapshot.raw.metadata.generation ?? 1)) actions.push({ type: 'recordEvaluation', phase: 'Queued' });
    const { queue, turn, requeueAfterSeconds } = held;
    return { actions, view: queuedView(snapshot, queue), turn, ...(requeueAfterSeconds !== undefined && { requeueAfterSeconds }) };
  }
  const refused =
    snapshot.launchRefusal === undefined || last === undefined || retrying
      ? undefined
      : judgeRefusal('Job', snapshot.launchRefusal.said, (now - snapshot.launchRefusal.since) / 1000, settings.patience);
  if (refused?.kind === 'failed') return planNeverLaunched(snapshot, last!, now, settings, refused.verdict);
  const number = retrying ? last.number + 1 : (last?.number ?? 1);
  if (!hasFinalizer(snapshot.raw, CAPTURE_FINALIZER)) actions.push({ type: 'addFinalizer' });
  const fresh = last === undefined || retrying;
  // Of one that was recorded and never launched: its runtime may be another one by now, and the receipt is compared with the row.
  if (fresh || !hasTerms(last, run, pass.risks)) actions.push({ type: 'recordAttempt', number, run, risks: pass.risks, inputs });
  // It runs nothing, and goes with the Evaluation: it need not wait until the attempt is recorded.
  actions.push({ type: 'createConfigMap', number, run, recorded: inputs.length > 0 });
  actions.push({ type: 'launch', number, run });
  // Once it is launched, that is; refused.ts has what the status says when it is not.
  const started = { status: 'False', reason: 'PodPending', message: 'Waits for its pod.' } as const;
  const { name = '', uid = '' } = snapshot.raw.metadata;
  const attempts = [...attemptViews(snapshot), ...(fresh ? [{ number, jobName: jobName({ name, uid }, number) }] : [])];
  const view: View = { phase: 'Starting', accepted: ADMITTED, started, attempts };
  return { actions, view, requeueAfterSeconds: 5, turn: 'hold' };
}

/** What is launched is what was recorded of it. */
function hasTerms({ image, runtimeClass, timeoutSeconds, acceptedRisks }: AttemptRecord, run: Run, risks: readonly AcceptedRisk[]): boolean {
  const accepted = risks.map(({ rules, reason }) => ({ rules, reason }));
  return (
    image === run.image && runtimeClass === (run.runtimeClassName ?? null) && timeoutSeconds === run.timeoutSeconds &&
    isDeepStrictEqual(acceptedRisks ?? [], accepted)
  );
}

/** Kueue admits it; or it is the drill's own, which must be able to run when every place is taken. */
function placeless({ evaluation, gate }: Snapshot): boolean {
  return evaluation?.spec.queue !== undefined || gate.exempt;
}

/** What an evaluation that could start now still waits for. */
function waitsFor(snapshot: Snapshot): (Pick<Plan, 'turn' | 'requeueAfterSeconds'> & { queue: QueueView }) | undefined {
  const { paused, turn, heldBack } = snapshot;
  if (snapshot.gate.exempt) return undefined;
  // Whoever takes the pause back wakes it.
  if (paused !== undefined) return { queue: { reason: 'Paused', message: paused }, turn: 'release' };
  if (placeless(snapshot)) return snapshot.backlogged ? BACKLOGGED : undefined;
  if (turn) return undefined;
  const reason = heldBack ?? 'GlobalLimit';
  return { queue: { reason, message: HELD_BACK_MESSAGES[reason] }, turn: 'request' };
}

/** Nothing is started until the sandbox is shown to hold. It waits without a place: others may be admitted meanwhile. */
function planClosed(
  snapshot: Snapshot,
  { reason, message }: Extract<Passage, { open: false }>,
  runtimeClass: string | undefined,
  actions: Action[],
): Plan {
  const drill = { runtimeClass };
  // After a restart of the operator thousands may wait for some seconds: their status need not say so.
  const passing = reason === 'DrillPending' && conditionOf(snapshot.raw, 'Accepted')?.status === 'True';
  if (passing) return { actions, view: undefined, drill, turn: 'release' };
  const accepted = { status: 'Unknown', reason, message } as const;
  const view: View = { phase: 'Queued', accepted, queue: { reason, message }, attempts: attemptViews(snapshot) };
  return { actions, view, drill, turn: 'release' };
}

function queuedView(snapshot: Snapshot, queue: QueueView): View {
  return { phase: 'Queued', accepted: ADMITTED, queue, attempts: attemptViews(snapshot) };
}

function retryDelay(attempt: number): number {
  return Math.min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (attempt - 1));
}

function retryInSeconds(last: AttemptRecord, now: number): number {
  const since = last.finalizedAt?.getTime() ?? now;
  return Math.max(0, Math.ceil((since + retryDelay(last.number) * 1000 - now) / 1000));
}
