import type { Logger } from 'pino';
import type { ClusterCaches } from '../evaluation/caches.ts';
import type { EventRecorder, KubeObject } from '../kube/index.ts';
import { fingerprint, handlerOf } from './nodes.ts';
import { policyProblem } from './policies.ts';

export interface ChangeWatch {
  readonly caches: ClusterCaches;
  readonly events: EventRecorder;
  readonly logger: Logger;
  /** Others look on and say nothing. */
  readonly isLeader: () => boolean;
  /** Gates of namespaces may have opened or closed. */
  readonly onPolicies: () => void;
  /** What drills have shown may not be so any more. */
  readonly onChange: () => void;
  /** A RuntimeClass of this name means another runtime now. */
  readonly onReplaced: (runtimeClass: string) => void;
}

/** Tells of what in the cluster makes the results of drills stale. */
export function watchChanges({ caches, events, logger, isLeader, ...tell }: ChangeWatch): void {
  caches.policies.onChange((_, current) => {
    tell.onPolicies();
    tell.onChange();
    const problem = current && policyProblem([current], current.metadata.namespace ?? '');
    if (problem?.reason !== 'ForeignNetworkPolicy' || !isLeader()) return;
    logger.error(
      { policy: current?.metadata.name, namespace: current?.metadata.namespace },
      'a foreign NetworkPolicy closes admission',
    );
    events.event(current as KubeObject, { type: 'Warning', reason: problem.reason, message: problem.message });
  });
  caches.nodes.onChange((_, current, previous) => {
    if (current !== undefined && fingerprint(current) !== (previous && fingerprint(previous))) tell.onChange();
  });
  caches.runtimeClasses.onChange((key, current, previous) => {
    const handler = (one: KubeObject | undefined): string | undefined => handlerOf(one === undefined ? [] : [one], key);
    if (handler(current) !== handler(previous)) tell.onReplaced(key);
  });
}
