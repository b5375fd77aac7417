import { DEFAULTS, LIMITS, SUITE_FINALIZER, clip } from '@crucible/crds';
import type { SuiteSummary } from '@crucible/crds';
import type { RunResult, SuiteRecord } from '@crucible/storage';
import type { Claim } from '../evaluation/actions.ts';
import type { Refusal } from '../evaluation/admission.ts';
import { hasFinalizer, isDeleting } from '../evaluation/objects.ts';
import type { Settings } from '../evaluation/settings.ts';
import type { SuiteAction, SuiteEnd, SuitePlan, SuiteView } from './actions.ts';
import { isOutOfReach, summarize, summarizeCells } from './aggregate.ts';
import { conditionOf, isFinished } from './snapshot.ts';
import type { RawSuite, Run, RunState, SuiteSnapshot } from './snapshot.ts';

const RECORD_RETRY_SECONDS = 5;
/** Its runs wake a suite; this is for a run that is gone from the cluster and has no end in the record yet. */
const LOOK_AGAIN_SECONDS = 5;
const NOTHING: SuitePlan = { actions: [], results: [], view: undefined, then: [] };

export const ADMITTED: Claim = { status: 'True', reason: 'Admitted', message: 'The suite was admitted.' };
const UNREADABLE = {
  phase: 'Cancelled',
  reason: 'Cancelled',
  message: 'The suite was cancelled. Its spec cannot be read, so its runs are not judged together.',
} as const;
const DELETED = { reason: 'Deleted', message: 'The suite was deleted before all of its runs had ended.' };

/**
 * What to do next about one suite. Pure: the same snapshot gives the same plan, so that every crash between two actions
 * is answered by deciding again.
 */
export function plan(snapshot: SuiteSnapshot, now: number, settings: Pick<Settings, 'patience'>): SuitePlan {
  const { raw, record } = snapshot;
  if (isFinished(raw)) return { ...NOTHING, ...(!isDeleting(raw) && { observe: true }), then: release(raw) };
  if (record === 'unavailable') return planWithoutRecord(snapshot, now, settings);
  if (record !== undefined && record.finishedAt !== null) return planFinished(snapshot, record, record.finishedAt);
  if (isDeleting(raw)) return planDeletion(snapshot, record, now);
  const refusal = refusalOf(snapshot);
  if (record === undefined && refusal !== undefined) return { ...NOTHING, view: refusedView(snapshot, refusal) };
  return planRuns(snapshot, record, refusal, now);
}

function planRuns(
  snapshot: SuiteSnapshot,
  record: SuiteRecord | undefined,
  refusal: Refusal | undefined,
  now: number,
): SuitePlan {
  const { suite, raw, runs } = snapshot;
  const { failFast = false, minPassPercent = DEFAULTS.suiteMinPassPercent } = suite?.spec ?? {};
  const cancel = wantsCancel(raw);
  const summary = summarize(runs);
  const lost = failFast && isOutOfReach(summary, minPassPercent);
  const ending = cancel || lost;
  // One that was recorded and cannot be read any more (by a newer operator) cannot be judged, only cancelled.
  const over = summary.running === 0 && (ending || (summary.notStarted === 0 && suite !== undefined));
  const actions = [...prepare(snapshot, record), ...adopt(runs)];
  const results = newResults(runs);
  if (over) {
    const judged = suite === undefined ? UNREADABLE : judge(summary, { cancel, lost, minPassPercent });
    const end = { ...judged, finishedAt: lastEnd(runs, now) };
    return { actions: [...actions, ...confirmAbsent(runs)], results, view: view(snapshot, summary, { end, refusal }), then: release(raw) };
  }
  const then: SuiteAction[] = ending
    ? endings(runs)
    : refusal === undefined
      ? creations(runs, suite?.spec.parallelism ?? DEFAULTS.suiteParallelism)
      : [];
  const hindrance = ending ? { obstacle: undefined, refusal } : hindranceOf(snapshot, summary, refusal);
  return {
    actions,
    results,
    view: view(snapshot, summary, { ending, ...hindrance }),
    then,
    ...(summary.running > 0 && { requeueAfterSeconds: LOOK_AGAIN_SECONDS * (isWaitingForRecord(runs) ? 1 : 12) }),
  };
}

/**
 * What refuses the next run is a stop only once none is under way: until then the suite goes on, and says what cannot start. A
 * suite that cannot be read is refused at once: no end of it can come.
 */
function hindranceOf(snapshot: SuiteSnapshot, summary: SuiteSummary, refusal: Refusal | undefined): Pick<ViewTerms, 'obstacle' | 'refusal'> {
  const { suite, obstacle } = snapshot;
  if (refusal === undefined || suite === undefined || summary.running === 0) return { obstacle, refusal };
  if (summary.notStarted === 0) return { obstacle, refusal: undefined };
  const message = clip(`The runs under way go on and are counted; no other can start. ${refusal.message}`, LIMITS.suiteMessageCharacters);
  return { obstacle: { reason: refusal.reason, message }, refusal: undefined };
}

/** Also of one that cannot be read. */
function wantsCancel({ spec }: RawSuite): boolean {
  return (spec as { cancel?: unknown } | undefined)?.cancel === true;
}

/** What our watch has not brought may be there all the same, and would be left out of an end for good. */
function confirmAbsent(runs: readonly Run[]): SuiteAction[] {
  const names = runs.flatMap(({ name, state }) => (state.kind === 'absent' ? [name] : []));
  return names.length === 0 ? [] : [{ type: 'confirmAbsent', names }];
}

/** Before anything is recorded of it, one run is tried: what the API server refuses is said at once. */
function prepare({ raw, runs }: SuiteSnapshot, record: SuiteRecord | undefined): SuiteAction[] {
  const actions: SuiteAction[] = [];
  const first = runs[0];
  if (record === undefined && first !== undefined && runs.every(({ state }) => state.kind === 'absent'))
    actions.push({ type: 'tryTemplate', run: first });
  if (!hasFinalizer(raw, SUITE_FINALIZER)) actions.push({ type: 'addFinalizer' });
  if (record === undefined || record.generation < (raw.metadata.generation ?? 1)) actions.push({ type: 'recordSuite' });
  return actions;
}

/** The operator was stopped between creating them and recording which runs they are. */
function adopt(runs: readonly Run[]): SuiteAction[] {
  return runs.flatMap(({ cell, sample, name, state }) =>
    (state.kind === 'unfinished' && !state.recorded) || (state.kind === 'finished' && state.recorded === 'no')
      ? [{ type: 'addRun', run: { cell, sample }, name, uid: state.uid } as const]
      : [],
  );
}

/**
 * In order: what another leader created and our watch has not brought is among the next ones, and is then met by its
 * name. So there are never more than `parallelism` at once, whoever leads.
 */
function creations(runs: readonly Run[], parallelism: number): SuiteAction[] {
  const room = parallelism - runs.filter(({ state }) => state.kind === 'unfinished').length;
  return runs
    .filter(({ state }) => state.kind === 'absent')
    .slice(0, Math.max(0, room))
    .map((run) => ({ type: 'createRun', run }));
}

const unfinished = (runs: readonly Run[]): { name: string; state: Extract<RunState, { kind: 'unfinished' }> }[] =>
  runs.flatMap(({ name, state }) => (state.kind === 'unfinished' ? [{ name, state }] : []));

function endings(runs: readonly Run[]): SuiteAction[] {
  return unfinished(runs)
    .filter(({ state }) => !state.ending)
    .map(({ name, state }) => ({ type: 'cancelRun', name, uid: state.uid }));
}

const isWaitingForRecord = (runs: readonly Run[]): boolean =>
  unfinished(runs).some(({ state }) => state.ending && !state.deletable);

function newResults(runs: readonly Run[]): RunResult[] {
  return runs.flatMap(({ state }) => (state.kind === 'finished' && state.recorded !== 'ended' ? [state.result] : []));
}

function lastEnd(runs: readonly Run[], now: number): Date {
  const ends = runs.flatMap(({ state }) => (state.kind === 'finished' ? [state.result.finishedAt.getTime()] : []));
  return new Date(ends.length === 0 ? now : Math.max(...ends));
}

interface Terms {
  readonly cancel: boolean;
  readonly lost: boolean;
  readonly minPassPercent: number;
}

function judge(summary: SuiteSummary, { cancel, lost, minPassPercent }: Terms): Omit<SuiteEnd, 'finishedAt'> {
  if (cancel && summary.cancelled + summary.notStarted > 0)
    return { phase: 'Cancelled', reason: 'Cancelled', message: 'The suite was cancelled before all of its runs had ended.' };
  if (lost) {
    const message = `So many runs did not pass that ${minPassPercent} % could not be reached any more; the rest was cancelled.`;
    return { phase: 'Failed', reason: 'FailedFast', message };
  }
  if (isOutOfReach(summary, minPassPercent)) {
    const message = `Fewer than ${minPassPercent} % of the runs passed.`;
    return { phase: 'Failed', reason: 'TooFewPassed', message };
  }
  const message = minPassPercent === 100 ? 'All runs passed.' : `At least ${minPassPercent} % of the runs passed.`;
  return { phase: 'Succeeded', reason: 'Succeeded', message };
}

/** The record says how it ended; the operator stopped before it could say so in the status. */
function planFinished(snapshot: SuiteSnapshot, record: SuiteRecord, finishedAt: Date): SuitePlan {
  const then = release(snapshot.raw);
  if (isDeleting(snapshot.raw)) return { ...NOTHING, then };
  const phase = record.phase as SuiteEnd['phase'];
  const end = { phase, reason: record.reason ?? phase, message: record.message ?? '', finishedAt };
  return { ...NOTHING, view: view(snapshot, summarize(snapshot.runs), { end }), then };
}

/**
 * Its runs are deleted, each of which ends, is captured and recorded first, by finalizers of its own; then the suite's end
 * is recorded and it may go. So neither foreground nor background deletion loses anything.
 */
function planDeletion(snapshot: SuiteSnapshot, record: SuiteRecord | undefined, now: number): SuitePlan {
  const { raw, runs } = snapshot;
  const deletions = unfinished(runs)
    .filter(({ state }) => state.deletable)
    .map(({ name, state }) => ({ type: 'deleteRun', name, uid: state.uid }) as const);
  if (record === undefined) return { ...NOTHING, then: [...deletions, ...release(raw)] };
  const summary = summarize(runs);
  const left = { actions: adopt(runs), results: newResults(runs) };
  if (summary.running > 0)
    return { ...left, view: view(snapshot, summary, { ending: true }), then: deletions, requeueAfterSeconds: LOOK_AGAIN_SECONDS };
  const end: SuiteEnd = { phase: 'Cancelled', ...DELETED, finishedAt: new Date(now) };
  const actions = [...left.actions, ...confirmAbsent(runs)];
  return { ...left, actions, view: view(snapshot, summary, { end }), then: release(raw) };
}

/** Of one that is gone by force, finalizer and all; its runs go by their owner reference. */
export function planGone(snapshot: SuiteSnapshot, now: number): SuitePlan {
  const summary = summarize(snapshot.runs);
  if (summary.running > 0) return NOTHING;
  const end: SuiteEnd = { phase: 'Cancelled', ...DELETED, finishedAt: new Date(now) };
  const actions = confirmAbsent(snapshot.runs);
  return { ...NOTHING, actions, results: newResults(snapshot.runs), view: view(snapshot, summary, { end }) };
}

/** Nothing new starts. A namespace must be deletable all the same; the sweep ends the row when the record is back. */
function planWithoutRecord(snapshot: SuiteSnapshot, now: number, settings: Pick<Settings, 'patience'>): SuitePlan {
  const { raw, runs, unavailableSince } = snapshot;
  const requeueAfterSeconds = RECORD_RETRY_SECONDS;
  if (!isDeleting(raw)) {
    if (conditionOf(raw, 'Accepted') !== undefined) return { ...NOTHING, requeueAfterSeconds };
    const accepted = {
      status: 'Unknown',
      reason: 'RecordUnavailable',
      message: 'Nothing is admitted while the database cannot be reached.',
    } as const;
    return { ...NOTHING, view: { ...view(snapshot, undefined, {}), accepted }, requeueAfterSeconds };
  }
  const since = Math.max(Date.parse(raw.metadata.deletionTimestamp ?? ''), unavailableSince ?? now);
  const deletions = unfinished(runs)
    .filter(({ state }) => state.deletable)
    .map(({ name, state }) => ({ type: 'deleteRun', name, uid: state.uid }) as const);
  if ((now - since) / 1000 < settings.patience.lostCapture) return { ...NOTHING, then: deletions, requeueAfterSeconds };
  return { ...NOTHING, then: [...deletions, ...release(raw)], requeueAfterSeconds };
}

function release(raw: RawSuite): SuiteAction[] {
  return hasFinalizer(raw, SUITE_FINALIZER) ? [{ type: 'removeFinalizer' }] : [];
}

function refusalOf({ invalid, suite, cells, refusal }: SuiteSnapshot): Refusal | undefined {
  const refuse = (reason: string, message: string): Refusal => ({ admitted: false, reason, message });
  if (invalid !== undefined) return refuse('InvalidSpec', invalid);
  if (suite === undefined) return refuse('InvalidSpec', 'The spec cannot be read.');
  if (cells.length === 0)
    return refuse('EmptyMatrix', 'spec.matrix.exclude leaves nothing to run. Take out an entry and create the suite again.');
  return refusal;
}

export function refusedView(snapshot: SuiteSnapshot, { reason, message }: Omit<Refusal, 'admitted'>): SuiteView {
  return { ...view(snapshot, undefined, {}), accepted: refused({ reason, message }) };
}

const refused = ({ reason, message }: Omit<Refusal, 'admitted'>): Claim => ({
  status: 'False',
  reason,
  message: clip(message, LIMITS.suiteMessageCharacters),
});

interface ViewTerms {
  readonly ending?: boolean;
  readonly end?: SuiteEnd;
  readonly obstacle?: SuiteSnapshot['obstacle'];
  readonly refusal?: Refusal | undefined;
}

function view(snapshot: SuiteSnapshot, summary: SuiteSummary | undefined, terms: ViewTerms): SuiteView {
  const { ending = false, end, obstacle, refusal } = terms;
  const created = snapshot.runs.flatMap(({ state }) =>
    state.kind === 'absent' || state.createdAt === undefined ? [] : [state.createdAt.getTime()],
  );
  const started = created.length > 0;
  return {
    phase: end?.phase ?? (ending ? 'Cancelling' : started ? 'Running' : 'Pending'),
    accepted: refusal === undefined || end !== undefined ? ADMITTED : refused(refusal),
    summary,
    cells: summary === undefined ? [] : summarizeCells(snapshot.cells, snapshot.runs),
    startedAt: started ? new Date(Math.min(...created)) : undefined,
    obstacle,
    end,
  };
}
