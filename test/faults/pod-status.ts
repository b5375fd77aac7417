import { SANDBOX_CONTAINER } from '@crucible/crds';

// What a kubelet writes into a pod's status, for tests that play one.

export interface ContainerStates {
  readonly waiting?: object;
  readonly running?: object;
  readonly terminated?: object;
}

/** For a merge patch: the states that are not given are removed. */
export function containerStatus({ waiting, running, terminated }: ContainerStates): object {
  return {
    name: SANDBOX_CONTAINER,
    image: 'crucible/python:test',
    imageID: 'sha256:abc',
    ready: running !== undefined,
    restartCount: 0,
    state: { waiting: waiting ?? null, running: running ?? null, terminated: terminated ?? null },
  };
}

/** As metav1.Time: whole seconds. */
export function kubeTime(date: Date): string {
  return date.toISOString().replace(/\.\d{3}Z$/, 'Z');
}
