import { formatDuration } from '@crucible/crds';
import type { Condition, EvaluationSuiteStatus, SuiteCellStatus } from '@crucible/crds';
import type { Claim } from '../evaluation/actions.ts';
import { time } from '../evaluation/view.ts';
import type { SuiteView } from './actions.ts';

/** Of the status, so that all of it stays under 16 KiB; the rest of the cells are in the record. */
const MAX_CELL_BYTES = 6 * 1024;

/** The status for a view. Conditions keep the time of their last transition. Pure. */
export function buildStatus(
  view: SuiteView,
  generation: number,
  previous: EvaluationSuiteStatus | undefined,
  now: number,
): EvaluationSuiteStatus {
  const { phase, summary, end } = view;
  const startedAt = previous?.startedAt ?? (view.startedAt && time(view.startedAt));
  const cells = fitting(view.cells);
  const seconds =
    startedAt === undefined || end === undefined
      ? undefined
      : Math.max(0, Math.round((end.finishedAt.getTime() - Date.parse(startedAt)) / 1000));
  return {
    observedGeneration: generation,
    phase,
    conditions: Object.entries(claims(view)).map(([type, claim]) => condition(type, claim, generation, previous, now)),
    ...(startedAt !== undefined && { startedAt }),
    ...(end && { finishedAt: time(end.finishedAt) }),
    ...(seconds !== undefined && { duration: formatDuration(seconds) }),
    ...(summary && { summary }),
    ...(cells.length > 0 && { cells }),
    ...(cells.length < view.cells.length && { cellsOmitted: view.cells.length - cells.length }),
  };
}

/** The first ones, up to a number of bytes. */
function fitting(cells: readonly SuiteCellStatus[]): SuiteCellStatus[] {
  let bytes = 0;
  return cells.filter((cell) => {
    bytes += Buffer.byteLength(JSON.stringify(cell));
    return bytes <= MAX_CELL_BYTES;
  });
}

// The same as of an Evaluation, so that a pipeline waits on both alike.
function claims({ phase, accepted, obstacle, end }: SuiteView): Record<string, Claim> {
  if (end !== undefined) {
    const { reason, message } = end;
    const claim = (holds: boolean): Claim => ({ status: holds ? 'True' : 'False', reason, message });
    const succeeded = end.phase === 'Succeeded';
    return {
      Accepted: accepted,
      Complete: claim(succeeded),
      Failed: claim(!succeeded),
      Finished: claim(true),
      Ready: claim(succeeded),
      ...(!succeeded && { Stalled: claim(true) }),
    };
  }
  if (accepted.status === 'False') {
    const { reason, message } = accepted;
    return { Accepted: accepted, Ready: { status: 'False', reason, message }, Stalled: { status: 'True', reason, message } };
  }
  const progress = obstacle ?? { reason: phase, message: PROGRESS[phase] ?? '' };
  return {
    Accepted: accepted,
    Ready: { status: 'False', ...progress },
    Reconciling: { status: 'True', ...progress },
  };
}

const PROGRESS: Readonly<Record<string, string>> = {
  Pending: 'The first runs are being created.',
  Running: 'Not all runs have ended.',
  Cancelling: 'The runs that have not ended are being ended; their output is kept.',
};

function condition(
  type: string,
  claim: Claim,
  generation: number,
  previous: EvaluationSuiteStatus | undefined,
  now: number,
): Condition {
  const before = previous?.conditions?.find((candidate) => candidate.type === type);
  const kept = before !== undefined && before.status === claim.status;
  const lastTransitionTime = kept ? before.lastTransitionTime : time(new Date(now));
  return { type, observedGeneration: generation, lastTransitionTime, ...claim };
}

export interface Announcement {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

/** Kubernetes events for what changed: reason and message are the condition's own. */
export function announcements(previous: EvaluationSuiteStatus | undefined, next: EvaluationSuiteStatus): Announcement[] {
  const of = (status: EvaluationSuiteStatus | undefined, type: string): Condition | undefined =>
    status?.conditions?.find((candidate) => candidate.type === type);
  const changed = (type: string): Condition | undefined => {
    const [before, after] = [of(previous, type), of(next, type)];
    return before?.status === after?.status && before?.reason === after?.reason ? undefined : after;
  };
  const events: Announcement[] = [];
  const accepted = changed('Accepted');
  if (accepted) events.push({ ...said(accepted), type: accepted.status === 'True' ? 'Normal' : 'Warning' });
  // Phases are no news; what the creation of runs waits for is.
  const waits = changed('Reconciling');
  if (waits && !(waits.reason in PROGRESS)) events.push({ ...said(waits), type: 'Warning' });
  const finished = changed('Finished');
  if (finished) events.push({ ...said(finished), type: next.phase === 'Succeeded' ? 'Normal' : 'Warning' });
  return events;
}

const said = ({ reason, message }: Condition): { reason: string; message: string } => ({ reason, message });
