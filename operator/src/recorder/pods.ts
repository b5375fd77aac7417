import { LABELS, SANDBOX_CONTAINER } from '@crucible/crds';
import type { KubeObject, OwnerReference } from '../kube/index.ts';

interface ContainerState {
  readonly waiting?: { readonly reason?: string };
  readonly running?: { readonly startedAt?: string | null };
  readonly terminated?: { readonly startedAt?: string | null; readonly containerID?: string; readonly reason?: string };
}

interface ContainerStatus {
  readonly name: string;
  readonly containerID?: string;
  readonly restartCount?: number;
  readonly state?: ContainerState;
  readonly lastState?: ContainerState;
}

/** What the recorder keeps of a pod. */
export interface SandboxPod extends KubeObject {
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly phase?: string;
    readonly reason?: string;
    readonly containerStatuses?: readonly ContainerStatus[];
  };
}

/** Informer transform: thousands of pods are held, so only what the recorder decides by. */
export function slimPod(raw: KubeObject): SandboxPod {
  const { spec, status } = raw as Partial<SandboxPod>;
  const { name, namespace, uid, resourceVersion, creationTimestamp, deletionTimestamp, labels, ownerReferences } =
    raw.metadata;
  return {
    apiVersion: raw.apiVersion,
    kind: raw.kind,
    metadata: {
      ...(name !== undefined && { name }),
      ...(namespace !== undefined && { namespace }),
      ...(uid !== undefined && { uid }),
      ...(resourceVersion !== undefined && { resourceVersion }),
      ...(creationTimestamp !== undefined && { creationTimestamp }),
      ...(deletionTimestamp !== undefined && { deletionTimestamp }),
      ...(labels !== undefined && { labels }),
      ...(ownerReferences !== undefined && { ownerReferences }),
    },
    spec: spec?.nodeName === undefined ? {} : { nodeName: spec.nodeName },
    status: {
      ...(status?.phase !== undefined && { phase: status.phase }),
      ...(status?.reason !== undefined && { reason: status.reason }),
      containerStatuses: (status?.containerStatuses ?? []).filter((container) => container.name === SANDBOX_CONTAINER),
    },
  };
}

/** What can be expected of `pods/log` now. `doubtful`: Kubernetes cannot say whether the container ever ran. */
export type LogState =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'running' }
  | { readonly kind: 'ended'; readonly doubtful: boolean }
  | { readonly kind: 'neverStarted' };

export function logState(pod: SandboxPod): LogState {
  const over = pod.status.phase === 'Failed' || pod.status.phase === 'Succeeded';
  const container = pod.status.containerStatuses?.find((status) => status.name === SANDBOX_CONTAINER);
  if (container === undefined) {
    // Deleted before it had a node: the API server binds no such pod any more.
    const withdrawn = pod.metadata.deletionTimestamp !== undefined && pod.spec.nodeName === undefined;
    if (!over) return { kind: withdrawn ? 'neverStarted' : 'waiting' };
    // Refused by the kubelet, or ended before the kubelet reported: without a node nothing can have run.
    return pod.spec.nodeName === undefined ? { kind: 'neverStarted' } : { kind: 'ended', doubtful: true };
  }
  const { terminated, running } = container.state ?? {};
  if (terminated !== undefined) {
    // ContainerStatusUnknown is what the kubelet writes when it lost track; it then names no start.
    return { kind: 'ended', doubtful: !terminated.startedAt && !terminated.containerID && !container.containerID };
  }
  // A pod that the garbage collector failed because its node is gone still says "running".
  if (running !== undefined) return over ? { kind: 'ended', doubtful: false } : { kind: 'running' };
  if (!over) return { kind: 'waiting' };
  const ran = Boolean(container.containerID) || container.lastState?.terminated !== undefined;
  return ran ? { kind: 'ended', doubtful: false } : { kind: 'neverStarted' };
}

/** Which container a log is of. */
export interface SandboxContainer {
  readonly id: string | undefined;
  /** It is not the pod's first. */
  readonly restarted: boolean;
  /** The kubelet has seen its end. */
  readonly ended: boolean;
}

export function sandboxContainer(pod: SandboxPod): SandboxContainer | undefined {
  const container = pod.status.containerStatuses?.find((status) => status.name === SANDBOX_CONTAINER);
  if (container === undefined) return undefined;
  const terminated = container.state?.terminated;
  const state = logState(pod);
  const doubtful = state.kind === 'ended' && state.doubtful;
  return {
    id: terminated?.containerID ?? container.containerID,
    restarted: (container.restartCount ?? 0) > 0 || container.lastState?.terminated !== undefined,
    // ContainerStatusUnknown: it has lost track.
    ended: terminated !== undefined && !doubtful && terminated.reason !== 'ContainerStatusUnknown',
  };
}

/** Who a pod says it is. The pod's word alone: to be checked against the attempt that owns `jobUid`. */
export interface PodClaim {
  readonly podUid: string;
  readonly namespace: string;
  readonly name: string;
  readonly jobUid: string;
  readonly evaluationUid: string;
  readonly attempt: number;
  readonly createdAt: number;
}

export function podClaim(pod: SandboxPod): PodClaim | undefined {
  const { uid, namespace, name, labels = {}, ownerReferences = [], creationTimestamp } = pod.metadata;
  const jobUid = controllingJob(ownerReferences)?.uid;
  const evaluationUid = labels[LABELS.evaluationUid];
  const attempt = labels[LABELS.attempt] ?? '';
  if (labels[LABELS.sandbox] !== 'true' || !/^[1-9][0-9]{0,5}$/.test(attempt)) return undefined;
  if (!uid || !namespace || !name || !jobUid || !evaluationUid) return undefined;
  return {
    podUid: uid,
    namespace,
    name,
    jobUid,
    evaluationUid,
    attempt: Number(attempt),
    createdAt: Date.parse(creationTimestamp ?? '') || 0,
  };
}

/** What the database knows of the attempt whose Job has the claim's UID. */
export interface JobOwner {
  readonly evaluationUid: string;
  readonly attempt: number;
  readonly namespace: string;
  readonly podUid: string | undefined;
}

/** Labels can be written by whoever creates a pod; the Job's UID in our own record cannot. All must agree. */
export function claimHolds(claim: PodClaim, owner: JobOwner): boolean {
  return (
    owner.evaluationUid === claim.evaluationUid &&
    owner.attempt === claim.attempt &&
    owner.namespace === claim.namespace &&
    (owner.podUid === undefined || owner.podUid === claim.podUid)
  );
}

function controllingJob(references: readonly OwnerReference[]): OwnerReference | undefined {
  return references.find(
    (owner) => owner.controller === true && owner.kind === 'Job' && owner.apiVersion === 'batch/v1',
  );
}
