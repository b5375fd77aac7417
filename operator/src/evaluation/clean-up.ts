import { CAPTURE_FINALIZER } from '@crucible/crds';
import type { Action } from './actions.ts';
import { isSuspended } from './kueue.ts';
import { hasFinalizer, isDeleting, uidOf } from './objects.ts';
import { hasStarted } from './pod.ts';
import { currentAttempt, isDeletingSnapshot } from './snapshot.ts';
import type { Snapshot } from './snapshot.ts';
import { isKueueStop } from './verdict.ts';
import { asVerdict } from './view.ts';

// What is left in the cluster of an attempt whose end is in the record.

/**
 * A Job that ran is handed to the garbage collector; one that never did, or whose Evaluation goes, is deleted at once. The
 * pod's finalizer goes after it. `jobName`: of the attempt whose ConfigMap goes too.
 */
export function cleanUp(snapshot: Snapshot, jobName?: string): Action[] {
  const actions = [...cleanUpJob(snapshot), ...releasePods(snapshot)];
  if (jobName !== undefined) actions.push({ type: 'deleteConfigMap', name: jobName });
  return actions;
}

/** Its Job only has to be handed over: that can wait until people know how it ended. */
export function canWait(snapshot: Snapshot): boolean {
  return cleanUpJob(snapshot).some(({ type }) => type === 'settleJob');
}

/**
 * Once the status says how it ended. Its ConfigMaps go with those of others, if they can; the finalizer goes when they have
 * gone, so that whoever takes over knows what is left.
 */
export function cleanUpFinished(snapshot: Snapshot): Action[] {
  const { raw, configMaps } = snapshot;
  if (!hasFinalizer(raw, CAPTURE_FINALIZER)) return cleanUp(snapshot);
  const jobName = raw.status?.attempts?.at(-1)?.jobName;
  if (jobName !== undefined && configMaps === undefined && !isDeletingSnapshot(snapshot))
    return [...cleanUp(snapshot), { type: 'sweepConfigMaps' }];
  return [...cleanUp(snapshot, configMaps === 'gone' ? undefined : jobName), { type: 'removeFinalizer' }];
}

function cleanUpJob(snapshot: Snapshot): Action[] {
  const { job, pod, raw } = snapshot;
  if (job === undefined || isDeleting(job)) return [];
  const ran = pod !== undefined && hasStarted(pod);
  const name = { jobName: job.metadata.name ?? '', jobUid: uidOf(job) };
  const owned = job.metadata.ownerReferences?.some(({ uid }) => uid === raw.metadata.uid) ?? false;
  // A Job that Kueue has stopped would be started again.
  const stopped = isSuspended(job) || isKueueStop(asVerdict(currentAttempt(snapshot)?.ending));
  if (isDeletingSnapshot(snapshot) || !ran || stopped) return [{ type: 'deleteJob', ...name }];
  return owned ? [] : [{ type: 'settleJob', ...name }];
}

/** The others are of attempts that are over, or a second pod that Kubernetes made for this one: not the one captured. */
function releasePods({ pod, others }: Snapshot): Action[] {
  return [pod, ...others].flatMap((one): Action[] =>
    one !== undefined && hasFinalizer(one, CAPTURE_FINALIZER)
      ? [{ type: 'releasePod', podName: one.metadata.name ?? '', podUid: uidOf(one) }]
      : [],
  );
}
