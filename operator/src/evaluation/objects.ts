import type { KubeObject, ObjectMeta } from '../kube/index.ts';

// The parts of Kubernetes' own objects that decisions are made from. Everything is optional that the API server may
// leave out.

export interface ContainerState {
  waiting?: { reason?: string; message?: string };
  running?: { startedAt?: string };
  terminated?: {
    exitCode: number;
    signal?: number;
    reason?: string;
    message?: string;
    startedAt?: string | null;
    finishedAt?: string | null;
    containerID?: string;
  };
}

export interface ContainerStatus {
  name: string;
  image?: string;
  imageID?: string;
  containerID?: string;
  restartCount?: number;
  state?: ContainerState;
  lastState?: ContainerState;
}

export interface ContainerSpec {
  name: string;
  image?: string;
  securityContext?: object;
  resources?: { limits?: Record<string, string> };
}

export interface PodCondition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
}

export interface Pod extends KubeObject {
  spec?: {
    nodeName?: string;
    activeDeadlineSeconds?: number;
    runtimeClassName?: string;
    serviceAccountName?: string;
    automountServiceAccountToken?: boolean;
    hostUsers?: boolean;
    securityContext?: object;
    containers?: ContainerSpec[];
  };
  status?: {
    phase?: string;
    podIP?: string;
    reason?: string;
    message?: string;
    startTime?: string;
    conditions?: PodCondition[];
    initContainerStatuses?: ContainerStatus[];
    containerStatuses?: ContainerStatus[];
  };
}

export interface Job extends KubeObject {
  spec?: {
    ttlSecondsAfterFinished?: number;
    suspend?: boolean;
    template?: { spec?: { securityContext?: { runAsUser?: number } } };
  };
  status?: {
    active?: number;
    failed?: number;
    succeeded?: number;
    startTime?: string;
    conditions?: PodCondition[];
  };
}

export interface Namespace extends KubeObject {
  status?: { phase?: string };
}

export interface RuntimeClass extends KubeObject {
  handler?: string;
}

export interface KubeEvent extends KubeObject {
  involvedObject?: { kind?: string; name?: string; uid?: string; fieldPath?: string };
  reason?: string;
  message?: string;
  type?: string;
  count?: number;
  firstTimestamp?: string | null;
}

export function uidOf(object: { metadata: ObjectMeta }): string {
  return object.metadata.uid ?? '';
}

export function isDeleting(object: { metadata: ObjectMeta }): boolean {
  return object.metadata.deletionTimestamp !== undefined;
}

export function hasFinalizer(object: { metadata: ObjectMeta }, finalizer: string): boolean {
  return object.metadata.finalizers?.includes(finalizer) ?? false;
}

export function trueCondition(conditions: readonly PodCondition[] | undefined, type: string): PodCondition | undefined {
  return conditions?.find((condition) => condition.type === type && condition.status === 'True');
}
