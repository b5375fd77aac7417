import { CAPTURE_FINALIZER, SANDBOX_CONTAINER } from '@crucible/crds';
import type { ContainerSpec, ContainerStatus, Pod } from './objects.ts';
import { hasFinalizer, trueCondition } from './objects.ts';

// What a pod's status says about the one container that matters. The kubelet writes it; nothing here comes from the
// sandbox.

export type Terminated = NonNullable<NonNullable<ContainerStatus['state']>['terminated']>;

export function sandboxStatus(pod: Pod): ContainerStatus | undefined {
  return pod.status?.containerStatuses?.find((status) => status.name === SANDBOX_CONTAINER);
}

export function sandboxSpec(pod: Pod): ContainerSpec | undefined {
  return pod.spec?.containers?.find(({ name }) => name === SANDBOX_CONTAINER);
}

/** The untrusted container runs or has run: from here on there may be output. */
export function hasStarted(pod: Pod): boolean {
  const state = sandboxStatus(pod)?.state;
  if (state?.running !== undefined) return true;
  const ended = state?.terminated;
  // A container that could not be created also "terminates" (StartError, ContainerStatusUnknown), at time zero or
  // without an id.
  return ended !== undefined && ended.reason !== 'StartError' && validTime(ended.startedAt) !== undefined;
}

export function terminated(pod: Pod): Terminated | undefined {
  return sandboxStatus(pod)?.state?.terminated;
}

/**
 * The pod has come to its end and its status says how. A terminated container in a pod that is still Running does not:
 * the pod's reason (Evicted, DeadlineExceeded) comes with its phase. A pod that was deleted and whose node never said
 * what became of it is over after `lostSeconds`.
 */
export function isOver(pod: Pod, now: number, lostSeconds: number): boolean {
  if (hasEndPhase(pod)) {
    // Older kubelets write Failed before they have stopped the container (kubernetes#108366); a lost node never
    // corrects it.
    return (
      sandboxStatus(pod)?.state?.running === undefined ||
      pod.status?.reason === 'NodeLost' ||
      disruption(pod) !== undefined ||
      isLost(pod, now, lostSeconds)
    );
  }
  return isLost(pod, now, lostSeconds);
}

/** Its code may still print something, and nobody has let go of it. */
export function isHeld(pod: Pod): boolean {
  return hasFinalizer(pod, CAPTURE_FINALIZER) && !hasEndPhase(pod);
}

export function hasEndPhase(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

/** deletionTimestamp is the end of the grace period, by which the kubelet should have been done. */
export function isLost(pod: Pod, now: number, lostSeconds: number): boolean {
  const deleted = pod.metadata.deletionTimestamp;
  return deleted !== undefined && terminated(pod) === undefined && now - Date.parse(deleted) > lostSeconds * 1000;
}

export function startedAt(pod: Pod): string | undefined {
  const state = sandboxStatus(pod)?.state;
  return validTime(state?.running?.startedAt) ?? validTime(state?.terminated?.startedAt);
}

export function finishedAt(pod: Pod): string | undefined {
  return validTime(terminated(pod)?.finishedAt);
}

/** Whole seconds between the kubelet's own times; both are cut to seconds, so the value is exact to one. */
export function ranSeconds(pod: Pod): number | undefined {
  const [from, to] = [startedAt(pod), finishedAt(pod)];
  if (from === undefined || to === undefined) return undefined;
  return Math.max(0, Math.round((Date.parse(to) - Date.parse(from)) / 1000));
}

/** Why something outside the pod ended it: eviction, preemption, a lost node (KEP-3329). */
export function disruption(pod: Pod): { reason: string; message: string } | undefined {
  const target = trueCondition(pod.status?.conditions, 'DisruptionTarget');
  return target && { reason: target.reason ?? '', message: target.message ?? '' };
}

/** From here on a kubelet may start the code at any time, whatever the last status we have seen says. */
export function hasNode(pod: Pod): boolean {
  return pod.spec?.nodeName !== undefined && pod.spec.nodeName !== '';
}

/** It has no node and gets none: the API server binds no pod that is being deleted. Nothing of it can have run. */
export function isWithdrawn(pod: Pod): boolean {
  return !hasNode(pod) && pod.metadata.deletionTimestamp !== undefined;
}

/** The kubelet cannot say whether the container ever ran. */
export function isDoubtful(pod: Pod): boolean {
  if (!hasNode(pod) || hasStarted(pod)) return false;
  const status = sandboxStatus(pod);
  return status === undefined || status.state?.terminated?.reason === 'ContainerStatusUnknown';
}

export function isScheduled(pod: Pod): boolean {
  return pod.spec?.nodeName !== undefined || trueCondition(pod.status?.conditions, 'PodScheduled') !== undefined;
}

/** When the pod got its node, or, without a node yet, when it was created. */
export function waitingSince(pod: Pod): string {
  const scheduled = trueCondition(pod.status?.conditions, 'PodScheduled')?.lastTransitionTime;
  return pod.status?.startTime ?? scheduled ?? pod.metadata.creationTimestamp ?? '';
}

/** The digest the kubelet really ran, `registry/name@sha256:…` or a bare digest, or undefined before that. */
export function imageDigest(pod: Pod): string | undefined {
  const id = sandboxStatus(pod)?.imageID;
  return id === undefined || id === '' ? undefined : id;
}

// A zero metav1.Time is written as null or as year 1 by different kubelets.
function validTime(value: string | null | undefined): string | undefined {
  if (value === undefined || value === null) return undefined;
  return Date.parse(value) > 0 ? value : undefined;
}
