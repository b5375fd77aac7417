import type { Queryable } from '../database.ts';
import type { EventRecord } from '../types.ts';
import { readEvaluation } from './evaluation-detail.ts';
import type { EvaluationDetail } from './evaluation-detail.ts';
import { listRunEvents } from './event-log.ts';
import { listKubernetesEvents } from './kubernetes-events.ts';
import type { Scope } from './scope.ts';
import { listStorageLocations } from './storage-locations.ts';
import type { StorageBackends, StorageLocation } from './storage-locations.ts';
import { buildTimeline } from './timeline.ts';
import type { TimelineEntry } from './timeline.ts';

export interface CompleteEvaluation {
  evaluation: EvaluationDetail;
  /** The first 1000. */
  events: EventRecord[];
  storageLocations: StorageLocation[];
  timeline: TimelineEntry[];
}

/** All there is about one run, output and artifacts aside. Undefined when there is none in the scope. */
export async function readComplete(
  db: Queryable,
  backends: StorageBackends,
  uid: string,
  scope: Scope,
): Promise<CompleteEvaluation | undefined> {
  const [evaluation, events, told, storageLocations] = await Promise.all([
    readEvaluation(db, uid, scope),
    listRunEvents(db, uid, scope),
    listKubernetesEvents(db, uid, scope),
    listStorageLocations(db, backends, uid, scope),
  ]);
  if (evaluation === undefined) return undefined;
  return { evaluation, events, storageLocations, timeline: buildTimeline(evaluation, events, told) };
}
