import type { Queryable } from '../database.ts';
import type { ToldEvent } from '../kubernetes-events.ts';
import { inScope, isUid, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

/** As it was told, by the attempt that it is about. */
export interface KubernetesEvent extends Omit<ToldEvent, 'namespaceUid' | 'jobUid' | 'podUid'> {
  attempt: number | null;
}

export interface KubernetesEvents {
  /** In the order of time. */
  events: KubernetesEvent[];
  /** How many more there were than are kept, about, and when; null: none. */
  leftOut: { count: number; firstSeenAt: Date; lastSeenAt: Date } | null;
}

/** The row that counts what was left out. */
const NOBODY = '00000000-0000-0000-0000-000000000000';

export const RUN_KUBERNETES_EVENTS = `
  SELECT k.event_uid AS uid, k.attempt, k.object_kind AS "objectKind", k.object_name AS "objectName", k.type, k.reason, k.message,
         k.component, k.count, k.first_seen_at AS "firstSeenAt", k.last_seen_at AS "lastSeenAt"
  FROM crucible.evaluations e JOIN crucible.kubernetes_events k ON k.evaluation_uid = e.uid
  WHERE e.uid = $1 AND ${inScope('e.namespace_uid', 2)} ORDER BY k.first_seen_at, k.arrival`;

/** What Kubernetes told about the Jobs and pods of one run. */
export async function listKubernetesEvents(db: Queryable, uid: string, scope: Scope): Promise<KubernetesEvents> {
  if (!isUid(uid)) return { events: [], leftOut: null };
  const { rows } = await db.query<KubernetesEvent>(RUN_KUBERNETES_EVENTS, [uid, scopeParameter(scope)]);
  const more = rows.find(({ uid: event }) => event === NOBODY);
  const leftOut = more === undefined ? null : { count: more.count, firstSeenAt: more.firstSeenAt, lastSeenAt: more.lastSeenAt };
  return { events: rows.filter((row) => row.uid !== NOBODY), leftOut };
}
