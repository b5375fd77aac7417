import type { Pod } from '../evaluation/objects.ts';

/** The kubelet makes a sandbox within moments, before it pulls any image; a scheduler decides at once. */
export const STUCK_MS = 30_000;

/**
 * Why a pod that has waited for `waitedMs` will not get a sandbox while a drill waits: there is no node for it, or the
 * node has no such handler. Undefined: it has one, or there is still time. Pure. A kubelet that does not tell
 * (PodReadyToStartContainers came with Kubernetes 1.29) is given all the time there is.
 */
export function whyStuck({ status }: Pod, waitedMs: number): string | undefined {
  if (waitedMs < STUCK_MS || status?.phase !== 'Pending') return undefined;
  const isFalse = (type: string) => status.conditions?.find((one) => one.type === type && one.status === 'False');
  const unscheduled = isFalse('PodScheduled');
  if (unscheduled !== undefined) return `no node takes it: ${unscheduled.message ?? unscheduled.reason ?? 'not scheduled'}`;
  return isFalse('PodReadyToStartContainers') && `its node has made no sandbox within ${STUCK_MS / 1000} s`;
}
