import { CAPTURE_FINALIZER } from '@crucible/crds';
import type { KubeObject } from '../kube/index.ts';
import { hasFinalizer, isDeleting, uidOf } from './objects.ts';
import type { Job, Pod } from './objects.ts';
import type { RawEvaluation } from './snapshot.ts';

// Which changes can change a decision. One run brings about twenty, most of them of the bookkeeping of Kubernetes and of
// ourselves, and each reconcile asks the record. Where it is not certain, the answer is yes; and everything is delivered
// again from time to time (the same object twice), which is yes as well.

type Change<T> = readonly [current: T | undefined, previous: T | undefined];

/** A new one, one that is gone, another one of the same name, a resync; one that begins to go or loses our finalizer. */
function lifeMatters([current, previous]: Change<KubeObject>): boolean {
  if (current === undefined || previous === undefined || current === previous) return true;
  if (uidOf(current) !== uidOf(previous) || isDeleting(current) !== isDeleting(previous)) return true;
  return hasFinalizer(previous, CAPTURE_FINALIZER) && !hasFinalizer(current, CAPTURE_FINALIZER);
}

export function evaluationMatters(...change: Change<RawEvaluation>): boolean {
  const [current, previous] = change;
  if (lifeMatters(change)) return true;
  return current!.metadata.generation !== previous!.metadata.generation || differs(current!.status, previous!.status);
}

/** A new one has nothing to tell before a scheduler or a kubelet has spoken; whoever waits for it looks by himself. */
export function podMatters(...change: Change<Pod>): boolean {
  const [current, previous] = change;
  if (previous === undefined) return isDeleting(current!) || current!.spec?.nodeName !== undefined || !isBlank(current!);
  if (lifeMatters(change)) return true;
  return !justPlaced(current!, previous) && (differs(current!.spec, previous.spec) || differs(current!.status, previous.status));
}

/** `hasPod`: one is known of it, and then its end is told by that. */
export function jobMatters(current: Job | undefined, previous: Job | undefined, hasPod: boolean): boolean {
  if (current !== undefined && previous === undefined) return isDeleting(current);
  if (lifeMatters([current, previous])) return true;
  if (current!.spec?.suspend !== previous!.spec?.suspend) return true;
  return !hasPod && differs(current!.status, previous!.status);
}

function isBlank({ status }: Pod, placed = false): boolean {
  const { phase, conditions = [], containerStatuses = [] } = status ?? {};
  const said = conditions.filter(({ type, status: is }) => !(placed && type === 'PodScheduled' && is === 'True'));
  return (phase === undefined || phase === 'Pending') && said.length === 0 && containerStatuses.length === 0;
}

/** At the first try, and no kubelet has spoken yet, which it does within moments. Whoever waits for it looks by himself. */
function justPlaced(current: Pod, previous: Pod): boolean {
  const { nodeName, ...spec } = current.spec ?? {};
  if (nodeName === undefined || differs(spec, previous.spec ?? {})) return false;
  return isBlank(previous) && isBlank(current, true);
}

function differs(left: unknown, right: unknown): boolean {
  return JSON.stringify(left) !== JSON.stringify(right);
}
