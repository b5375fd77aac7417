import { MAX_POSITION_BATCH } from '../bus/positions.ts';
import type { PublishedEvent } from '../bus/positions.ts';
import type { Queryable } from '../database.ts';
import type { EventRecord } from '../types.ts';
import { inScope, isUid, pageSize, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

export const RUN_EVENTS = `
  SELECT v.evaluation_uid AS "evaluationUid", v.seq, v.type, v.data, v.at, v.position
  FROM crucible.evaluations e JOIN crucible.events v ON v.evaluation_uid = e.uid AND v.evaluation_created_at = e.created_at
  WHERE e.uid = $1 AND ${inScope('e.namespace_uid', 2)} AND v.seq > $3 ORDER BY v.seq LIMIT $4`;

/** Of one evaluation, ascending, after the number `after`; at most 1000. They are there at once, position or not. */
export async function listRunEvents(
  db: Queryable,
  uid: string,
  scope: Scope,
  options: { after?: number; limit?: number } = {},
): Promise<EventRecord[]> {
  if (!isUid(uid)) return [];
  const values = [uid, scopeParameter(scope), options.after ?? 0, pageSize(options.limit, 1000, 1000)];
  return (await db.query<EventRecord>(RUN_EVENTS, values)).rows;
}

export interface EventBatch {
  /** Of the scope, ascending by position. */
  events: PublishedEvent[];
  /** Up to here nothing is left to read, of whomever: go on after it. Equal to `after` when there was nothing. */
  last: number;
}

// OFFSET 0: each run by its key. A join may read all runs instead.
export const EVENT_LOG = `
  WITH next AS MATERIALIZED (
    SELECT evaluation_uid, seq, type, data, at, position FROM crucible.events WHERE position > $1 ORDER BY position LIMIT $3)
  SELECT (SELECT max(position) FROM next) AS last, f.*
  FROM (SELECT) one LEFT JOIN LATERAL (
    SELECT v.evaluation_uid AS "evaluationUid", v.seq, v.type, v.data, v.at, v.position,
           e.namespace, e.namespace_uid AS "namespaceUid", e.name
    FROM next v CROSS JOIN LATERAL (SELECT namespace, namespace_uid, name FROM crucible.evaluations WHERE uid = v.evaluation_uid OFFSET 0) e
    WHERE ${inScope('e.namespace_uid', 2)} ORDER BY v.position) f ON true`;

/**
 * Of all evaluations in the scope, in the global order, after a position (a Last-Event-ID). It looks at up to `limit` events
 * (1000) of anybody's: where others are busy, a batch may be empty and `last` go on all the same.
 */
export async function listEventsAfter(
  db: Queryable,
  position: number,
  scope: Scope,
  limit?: number,
): Promise<EventBatch> {
  const { rows } = await db.query<PublishedEvent & { last: number | null }>(EVENT_LOG, [
    position, scopeParameter(scope), pageSize(limit, MAX_POSITION_BATCH, MAX_POSITION_BATCH),
  ]);
  const events = rows.filter((row) => row.position !== null).map(({ last: _, ...event }) => event);
  return { events, last: rows[0]?.last ?? position };
}
