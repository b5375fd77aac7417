import type { Queryable } from '../database.ts';
import { grantOrder } from '../queue-order.ts';
import type { QueueLimits, Share, Waiting } from '../queue-order.ts';
import { scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

/**
 * `Submitted`: the operator has not recorded it yet, or refuses it, with the reason. `Queued`: waits for a place. `Retrying`: has a place, and waits
 * before its next attempt. `Starting`: has a Job, and waits for its pod to run.
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

interface WaitingRow extends Waiting {
  uid: string;
  namespaceUid: string;
}

const SHOWN = 500;
/** More than that are not ordered: those beyond it have no position. */
const MOST_ORDERED = 50_000;
const NO_LIMITS: QueueLimits = { total: Number.POSITIVE_INFINITY, namespaces: {} };

/** What waits, where and why. The first 500 of each stage; `limits` as the operator has them. */
export async function readQueue(db: Queryable, scope: Scope, limits: QueueLimits = NO_LIMITS): Promise<Queue> {
  const [order, others, running] = await Promise.all([waitingInOrder(db, limits), readOthers(db, scope), countPlaced(db, scope)]);
  const mine = order.map((row, index) => ({ row, position: index + 1 })).filter(({ row }) => scope === 'all' || scope.includes(row.namespaceUid));
  const positions = new Map(mine.slice(0, SHOWN).map(({ row, position }) => [row.uid, position]));
  const queued = await describe(db, positions);
  const of = (stage: QueueStage): QueueItem[] => others.filter((item) => item.stage === stage);
  const [submitted, retrying, starting] = [of('Submitted'), of('Retrying'), of('Starting')];
  return {
    items: [...queued, ...submitted, ...retrying, ...starting],
    waiting: { Submitted: submitted.length, Queued: mine.length, Retrying: retrying.length, Starting: starting.length },
    running,
  };
}

/** The position of one; undefined when it does not wait for a place. */
export async function readPosition(db: Queryable, uid: string, limits: QueueLimits = NO_LIMITS): Promise<number | undefined> {
  const index = (await waitingInOrder(db, limits)).findIndex((row) => row.uid === uid);
  return index === -1 ? undefined : index + 1;
}

/** From two indexes that hold nothing but what waits and what has a place. */
export const WAITING = `
  SELECT w.uid, w.name, w.namespace_uid AS "namespaceUid", w.priority, (extract(epoch FROM w.created_at) * 1000)::float8 AS "createdAt"
  FROM crucible.evaluations w WHERE w.finished_at IS NULL AND w.attempts = 0 ORDER BY w.created_at LIMIT ${MOST_ORDERED}`;
export const SHARES = `
  SELECT n.uid, n.name, u.last_grant_at AS "lastGrantAt",
         (SELECT count(*) FROM crucible.evaluations p
          WHERE p.namespace_uid = n.uid AND p.finished_at IS NULL AND p.attempts > 0) AS running
  FROM crucible.namespaces n JOIN crucible.namespace_usage u ON u.namespace_uid = n.uid`;

async function waitingInOrder(db: Queryable, limits: QueueLimits): Promise<WaitingRow[]> {
  const [waiting, namespaces] = await Promise.all([
    db.query<{ uid: string; name: string; namespaceUid: string; priority: number; createdAt: number }>(WAITING),
    db.query<{ uid: string; name: string; running: number; lastGrantAt: Date | null }>(SHARES),
  ]);
  if (waiting.rows.length === 0) return [];
  const names = new Map(namespaces.rows.map(({ uid, name }) => [uid, name]));
  const shares: Record<string, Share> = {};
  for (const { name, running, lastGrantAt } of namespaces.rows) {
    const before = shares[name] ?? { running: 0, lastGrantAt: 0 };
    shares[name] = { running: before.running + running, lastGrantAt: Math.max(before.lastGrantAt, lastGrantAt?.getTime() ?? 0) };
  }
  const rows = waiting.rows.map((row) => ({ ...row, namespace: names.get(row.namespaceUid) ?? row.namespaceUid }));
  return grantOrder(rows, shares, limits);
}

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

/** Per namespace, in the order of their age. */
export const OTHERS = `
  SELECT o.* FROM (SELECT uid AS nsuid FROM crucible.namespaces WHERE $1::uuid[] IS NULL OR uid = ANY ($1)) n
  CROSS JOIN LATERAL (
    (SELECT ${ITEM}, CASE e.phase WHEN 'Queued' THEN 'Retrying' ELSE 'Starting' END AS stage FROM crucible.evaluations e
     WHERE e.namespace_uid = n.nsuid AND e.finished_at IS NULL AND e.attempts > 0 AND e.phase IN ('Queued', 'Starting')
     ORDER BY e.created_at LIMIT ${SHOWN})
    UNION ALL
    (SELECT s.uid, s.namespace, s.namespace_uid, s.name, s.reason, s.message, 0, s.submitted_at, 'Submitted' FROM crucible.submissions s
     WHERE s.namespace_uid = n.nsuid AND s.state = 'submitted'
       AND NOT EXISTS (SELECT FROM crucible.evaluations r WHERE r.uid = s.uid)
     ORDER BY s.submitted_at LIMIT ${SHOWN})) o
  LIMIT ${4 * SHOWN}`;

async function readOthers(db: Queryable, scope: Scope): Promise<QueueItem[]> {
  const { rows } = await db.query<Omit<QueueItem, 'position'>>(OTHERS, [scopeParameter(scope)]);
  return rows.map((row) => ({ ...row, position: null }));
}

export const PLACED = `
  SELECT count(*) AS count FROM crucible.evaluations
  WHERE finished_at IS NULL AND attempts > 0 AND ($1::uuid[] IS NULL OR namespace_uid = ANY ($1))`;

async function countPlaced(db: Queryable, scope: Scope): Promise<number> {
  const { rows } = await db.query<{ count: number }>(PLACED, [scopeParameter(scope)]);
  return rows[0]?.count ?? 0;
}
