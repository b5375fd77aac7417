import { LIMITS, clip } from '@crucible/crds';
import type { Verdict } from '@crucible/crds';
import type { KubeObject, ObjectCache } from '../kube/index.ts';
import type { QueueView } from './actions.ts';
import type { Job, PodCondition } from './objects.ts';
import { trueCondition } from './objects.ts';
import { KUEUE_STOP, evidence, verdict } from './verdict.ts';

// Kueue's side of a Job with its queue label. It makes a Workload for the Job, which it owns, decides by quota, and says
// so in two places: the Workload's conditions, and the Job's spec.suspend. Only the latter starts and stops anything.

/** What is read of kueue.x-k8s.io/v1beta1 Workload. */
export interface Workload extends KubeObject {
  spec?: { active?: boolean; queueName?: string };
  status?: { conditions?: PodCondition[]; admissionChecks?: { name: string; state: string; message?: string }[] };
}

export function isSuspended(job: Job | undefined): boolean {
  return job?.spec?.suspend === true;
}

/**
 * Since when it may have pods: waiting for Kueue is not waiting for a pod. Undefined while the Job controller has not seen
 * yet that it is resumed: until then the condition says that it is suspended.
 */
export function resumedAt({ metadata, status }: Job): string | undefined {
  const suspended = status?.conditions?.find(({ type }) => type === 'Suspended');
  if (suspended === undefined) return metadata.creationTimestamp;
  return suspended.status === 'False' ? suspended.lastTransitionTime : undefined;
}

/** What a suspended Job waits for, in Kueue's own words. Pure. */
export function kueueQueue(workload: Workload | undefined, queue: string): QueueView {
  if (workload === undefined)
    return view('NoWorkload', `Kueue has made no Workload for it yet. Is Kueue running, and is there a LocalQueue "${queue}"?`);
  const conditions = workload.status?.conditions ?? [];
  const evicted = trueCondition(conditions, 'Evicted');
  const reserved = conditions.find(({ type }) => type === 'QuotaReserved');
  if (workload.spec?.active === false)
    return view(evicted?.reason ?? 'Deactivated', evicted?.message ?? 'Its Workload is deactivated (spec.active: false).');
  if (reserved?.status === 'True') {
    const check = workload.status?.admissionChecks?.find(({ state }) => state !== 'Ready');
    const admitted = trueCondition(conditions, 'Admitted');
    if (admitted !== undefined) return view('Admitted', 'Kueue has admitted it and is about to start its Job.');
    const message = check === undefined ? 'Quota is reserved.' : `Quota is reserved; admission check ${check.name} is ${check.state}. ${check.message ?? ''}`;
    return view('AdmissionChecks', message);
  }
  if (evicted !== undefined) return view(evicted.reason ?? 'Evicted', evicted.message ?? '');
  return view(reserved?.reason ?? 'Pending', reserved?.message ?? 'Waits for quota.');
}

function view(reason: string, message: string): QueueView {
  return {
    reason: `Kueue${reason}`.slice(0, 64),
    message: clip(`Kueue: ${message}`.replaceAll(/\s+/g, ' ').trim(), LIMITS.queueMessageCharacters),
  };
}

/**
 * Kueue has suspended a Job that has a pod: Kubernetes deletes the pod. Why is noted at once, because Kueue may start
 * the Job again before this is judged. Pure.
 */
export function stoppedByKueue(workload: Workload | undefined): Verdict {
  const conditions = workload?.status?.conditions;
  const evicted = trueCondition(conditions, 'Evicted');
  const preempted = trueCondition(conditions, 'Preempted');
  const facts = [
    evidence(KUEUE_STOP, 'the Job was suspended while it had a pod'),
    evicted && evidence('Workload/Evicted', `${evicted.reason}: ${evicted.message ?? ''}`),
    preempted && evidence('Workload/Preempted', `${preempted.reason}: ${preempted.message ?? ''}`),
  ];
  if (evicted === undefined || evicted.reason === 'Preempted') {
    const message = 'Kueue gave this run’s place to another workload, which ended it. Set spec.retry to have it run again.';
    return verdict('Preempted', 'Infrastructure', message, facts, evicted === undefined ? 'Probable' : 'Confirmed');
  }
  const message = 'Kueue stopped this run; the evidence has its reason. Set spec.retry to have it run again.';
  return verdict('Evicted', 'Infrastructure', message, facts);
}

/** Workloads by the uid of the Job that they are for. */
export class WorkloadIndex {
  readonly #cache: ObjectCache<Workload>;
  readonly #keys = new Map<string, string>();

  constructor(cache: ObjectCache<Workload>) {
    this.#cache = cache;
    cache.onChange((key, current, previous) => {
      if (previous !== undefined) this.#keys.delete(jobUidOf(previous));
      if (current !== undefined) this.#keys.set(jobUidOf(current), key);
    });
  }

  ofJob(uid: string): Workload | undefined {
    const key = this.#keys.get(uid);
    return key === undefined ? undefined : this.#cache.get(key);
  }
}

export function jobUidOf({ metadata }: Workload): string {
  return metadata.ownerReferences?.find(({ kind }) => kind === 'Job')?.uid ?? '';
}

export function jobNameOf({ metadata }: Workload): string | undefined {
  return metadata.ownerReferences?.find(({ kind }) => kind === 'Job')?.name;
}
