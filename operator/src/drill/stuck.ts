import type { Pod } from '../evaluation/objects.ts';
import { isFinished } from '../evaluation/snapshot.ts';
import type { RawEvaluation } from '../evaluation/snapshot.ts';

/** A scheduler decides at once. Who scales a cluster from nothing is asked again with the next drill. */
export const STUCK_MS = 30_000;

/**
 * Why nothing that is started like this run will run while a drill waits: admission refuses it, it ended without the code's
 * doing, or no node has taken its pod for `unscheduledMs`. Undefined: there is still time. Pure.
 */
export function whyStuck(raw: RawEvaluation, pods: readonly Pod[], unscheduledMs: number): string | undefined {
  const refused = raw.status?.conditions?.find(({ type, status: holds }) => type === 'Accepted' && holds === 'False');
  if (refused !== undefined) return refused.message;
  const verdict = raw.status?.verdict;
  if (isFinished(raw) && verdict !== undefined && verdict.attributableTo !== 'Code') return verdict.message;
  const unscheduled = pods.map(unscheduledBecause).find((why) => why !== undefined);
  return unscheduledMs < STUCK_MS || unscheduled === undefined ? undefined : `no node takes it: ${unscheduled}`;
}

export function unscheduledBecause({ status }: Pod): string | undefined {
  if (status?.phase !== 'Pending') return undefined;
  const found = status.conditions?.find(({ type, status: holds }) => type === 'PodScheduled' && holds === 'False');
  return found && (found.message ?? found.reason ?? 'not scheduled');
}
