import type { Queryable } from '../database.ts';
import type { QueueLimits } from '../queue-order.ts';
import { inScope, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

/**
 * `Submitted`: the operator has not looked at it yet, refuses it, or holds back whatever needs that sandbox, with the reason. `Queued`: waits for a place; or, without a position and with
 * a reason that begins with Kueue, has one and waits until Kueue admits its Job. `Retrying`: has a place, and waits before its next attempt.
 * `Starting`: has a Job, and waits for its pod to run.
 */
export type QueueStage = 'Submitted' | 'Queued' | 'Retrying' | 'Starting';

export interface QueueItem {
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
  stage: QueueStage;
  /** CamelCase and a sentence; null while the operator has said nothing. */
  reason: string | null;
  message: string | null;
  priority: number;
  /** 1: the next that is given a place. Only of what is Queued, among all namespaces. */
  position: number | null;
  createdAt: Date;
}

export interface Queue {
  items: QueueItem[];
  /** In the scope: how many wait in each stage, of all of which `items` may be only the first. */
  waiting: Record<QueueStage, number>;
  /** In the scope: how many hold a place. */
  running: number;
}

const SHOWN = 500;
/** More than that are not ordered: those beyond it have no position. */
const MOST_ORDERED = 50_000;
const NO_LIMITS: QueueLimits = { total: Number.POSITIVE_INFINITY, namespaces: {} };

/** What waits, where and why. The first 500 of each stage; `limits` as the operator has them. */
export async function readQueue(db: Queryable, scope: Scope, limits: QueueLimits = NO_LIMITS): Promise<Queue> {
  const [first, others, counts] = await Promise.all([readFirst(db, scope, limits), readOthers(db, scope), countStages(db, scope)]);
  const queued = await describe(db, new Map(first.map(({ uid, position }) => [uid, position])));
  const of = (stage: QueueStage): QueueItem[] => others.filter((item) => item.stage === stage);
  const [submitted, kueue, retrying, starting] = [of('Submitted'), of('Queued'), of('Retrying'), of('Starting')];
  return {
    items: [...queued, ...kueue, ...submitted, ...retrying, ...starting],
    waiting: { Submitted: counts.submitted, Queued: (first[0]?.total ?? 0) + counts.kueue, Retrying: counts.retrying, Starting: counts.starting },
    running: counts.running,
  };
}

/** Of all that wait for a place, in the order of their places: one sort for whoever asks, not one for each. */
export async function readPositions(db: Queryable, limits: QueueLimits = NO_LIMITS): Promise<Map<string, number>> {
  const { rows } = await db.query<{ uids: string | null }>(POSITIONS, [limitsParameter(limits)]);
  return new Map(rows[0]?.uids?.split(',').map((uid, index) => [uid, index + 1]));
}

/**
 * What `grantOrder` computes step by step, in one sort, so that only those who are shown leave the database; a test compares
 * the two. The k-th of a namespace gets its place when the namespace holds `held` = running + k - 1: the fewest first. Of
 * several, those that have been given none of these places (`held` = running), then in the order in which they were given
 * the one before; so, step by step, those that began with more running first, then those served the longest time ago. What
 * comes to a namespace beyond its limit follows all the rest, by the same rule from the step on which it got there.
 */
export const ORDERED = `
  WITH held AS (
    SELECT n.name, sum((SELECT count(*) FROM crucible.evaluations p
                        WHERE p.namespace_uid = n.uid AND p.finished_at IS NULL AND p.attempts > 0))::bigint AS running,
           coalesce(date_trunc('milliseconds', max(u.last_grant_at)), '-infinity') AS last_grant_at
    FROM crucible.namespaces n LEFT JOIN crucible.namespace_usage u ON u.namespace_uid = n.uid GROUP BY n.name
  ), share AS MATERIALIZED (
    SELECT n.uid, h.running, coalesce(($1::jsonb ->> h.name)::bigint, ${Number.MAX_SAFE_INTEGER}) AS most,
           dense_rank() OVER (ORDER BY h.running DESC, h.last_grant_at, h.name COLLATE "C") AS rank
    FROM held h JOIN crucible.namespaces n USING (name)
  ), turn AS (
    SELECT w.uid, w.namespace_uid, s.rank, s.running, s.most,
           s.running + row_number() OVER (PARTITION BY s.rank ORDER BY w.priority DESC, w.created_at, w.name COLLATE "C") - 1 AS held
    FROM (SELECT * FROM crucible.evaluations WHERE finished_at IS NULL AND attempts = 0 AND NOT refused ORDER BY created_at LIMIT ${MOST_ORDERED}) w
    JOIN share s ON s.uid = w.namespace_uid
  ), ordered AS (
    SELECT uid, namespace_uid,
           row_number() OVER (ORDER BY held >= most, held, CASE WHEN held >= most THEN greatest(running, most) END DESC, rank) AS position
    FROM turn
  )`;
/** Positions count from one without a gap, and ten thousand rows cost their reader more than one long one. */
const POSITIONS = `${ORDERED} SELECT string_agg(uid::text, ',' ORDER BY position) AS uids FROM ordered`;
const FIRST = `${ORDERED} SELECT uid, position, count(*) OVER () AS total FROM ordered
  WHERE $2::uuid[] IS NULL OR namespace_uid = ANY ($2) ORDER BY position LIMIT ${SHOWN}`;

async function readFirst(db: Queryable, scope: Scope, limits: QueueLimits): Promise<{ uid: string; position: number; total: number }[]> {
  return (await db.query<{ uid: string; position: number; total: number }>(FIRST, [limitsParameter(limits), scopeParameter(scope)])).rows;
}

const limitsParameter = ({ namespaces }: QueueLimits): string => JSON.stringify(namespaces);

const ITEM = `e.uid, e.namespace, e.namespace_uid AS "namespaceUid", e.name, e.queue_reason AS reason, e.queue_message AS message,
  e.priority, e.created_at AS "createdAt"`;

async function describe(db: Queryable, positions: ReadonlyMap<string, number>): Promise<QueueItem[]> {
  if (positions.size === 0) return [];
  const { rows } = await db.query<Omit<QueueItem, 'stage' | 'position'>>(
    `SELECT ${ITEM} FROM crucible.evaluations e WHERE e.uid = ANY ($1::uuid[])`, [[...positions.keys()]],
  );
  return rows
    .map((row): QueueItem => ({ ...row, stage: 'Queued', position: positions.get(row.uid) ?? null }))
    .sort((a, b) => (a.position ?? 0) - (b.position ?? 0));
}

/** Recorded, and refused afterwards: few. */
const REFUSED = `e.finished_at IS NULL AND e.attempts = 0 AND e.refused AND ${inScope('e.namespace_uid', 1)}`;
/** In the order of their age. OFFSET 0: by the index of those with a place, which are few, not by that of the phase. */
export const OTHERS = `
  (SELECT ${ITEM}, CASE WHEN e.phase = 'Starting' THEN 'Starting' WHEN e.queue_reason LIKE 'Kueue%' THEN 'Queued' ELSE 'Retrying' END AS stage
   FROM (SELECT * FROM crucible.evaluations p WHERE p.finished_at IS NULL AND p.attempts > 0 AND ${inScope('p.namespace_uid', 1)} OFFSET 0) e
   WHERE e.phase IN ('Queued', 'Starting') ORDER BY e.created_at LIMIT ${3 * SHOWN})
  UNION ALL
  (SELECT ${ITEM}, 'Submitted' FROM crucible.evaluations e WHERE ${REFUSED} ORDER BY e.created_at LIMIT ${SHOWN})
  UNION ALL
  (SELECT s.uid, s.namespace, s.namespace_uid, s.name, s.reason, s.message, 0, s.submitted_at, 'Submitted' FROM crucible.submissions s
   WHERE s.state = 'submitted' AND ${inScope('s.namespace_uid', 1)}
     AND NOT EXISTS (SELECT FROM crucible.evaluations r WHERE r.uid = s.uid)
   ORDER BY s.submitted_at LIMIT ${SHOWN})`;

async function readOthers(db: Queryable, scope: Scope): Promise<QueueItem[]> {
  const { rows } = await db.query<Omit<QueueItem, 'position'>>(OTHERS, [scopeParameter(scope)]);
  return rows.map((row) => ({ ...row, position: null }));
}

interface Counts {
  running: number;
  starting: number;
  kueue: number;
  retrying: number;
  submitted: number;
}

/** Of all there are, whatever is shown of them. */
export const COUNTS = `
  SELECT count(*) AS running, count(*) FILTER (WHERE phase = 'Starting') AS starting,
         count(*) FILTER (WHERE phase = 'Queued' AND queue_reason LIKE 'Kueue%') AS kueue,
         count(*) FILTER (WHERE phase = 'Queued' AND coalesce(queue_reason, '') NOT LIKE 'Kueue%') AS retrying,
         (SELECT count(*) FROM crucible.submissions s
          WHERE s.state = 'submitted' AND ${inScope('s.namespace_uid', 1)}
            AND NOT EXISTS (SELECT FROM crucible.evaluations r WHERE r.uid = s.uid))
         + (SELECT count(*) FROM crucible.evaluations e WHERE ${REFUSED}) AS submitted
  FROM crucible.evaluations WHERE finished_at IS NULL AND attempts > 0 AND ${inScope('namespace_uid', 1)}`;

async function countStages(db: Queryable, scope: Scope): Promise<Counts> {
  const { rows } = await db.query<Counts>(COUNTS, [scopeParameter(scope)]);
  return rows[0] as Counts;
}
