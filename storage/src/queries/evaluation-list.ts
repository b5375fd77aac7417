import type { Queryable } from '../database.ts';
import type { VerdictRecord } from '../types.ts';
import { MICROS, decodeCursor, encodeCursor, timeOf } from './cursor.ts';
import type { LabelRequirement } from './label-selector.ts';
import { newestRows, pageSize } from './scope.ts';
import type { Scope } from './scope.ts';

/** A row of the list: no spec, which may be large. */
export interface EvaluationSummary {
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
  labels: Record<string, string>;
  runtime: string | null;
  phase: string;
  priority: number;
  queueReason: string | null;
  verdict: VerdictRecord | null;
  passed: boolean | null;
  attempts: number;
  createdAt: Date;
  acceptedAt: Date;
  /** Of the newest attempt. */
  startedAt: Date | null;
  exitCode: number | null;
  signal: string | null;
  finishedAt: Date | null;
}

export interface EvaluationFilter {
  phases?: readonly string[];
  verdictClasses?: readonly string[];
  labels?: readonly LabelRequirement[];
  /** Created then or later. */
  since?: Date;
  /** Part of the name. */
  name?: string;
  cursor?: string;
  /** 1 to 500; default 50. */
  limit?: number;
}

export interface Page<T> {
  items: T[];
  /**
   * Present while there may be more. A page may hold fewer than asked, also none, and yet have a next: one request looks
   * at a bounded number of rows, however rare what it looks for is.
   */
  nextCursor?: string;
}

const USUAL_PAGE = 50;
const LARGEST_PAGE = 500;
/** Rows that one request looks at when an index alone does not answer it. */
const LOOKS = 2_000;

/** An index that has rows in the order of the list, and what it takes to follow it. */
interface Path {
  from: string;
  conditions: string[];
  /** It alone answers the filter: nothing is looked at in vain. */
  exact: boolean;
}

interface Scan {
  sql: string;
  values: unknown[];
  limit: number;
  looks: number;
}

interface Row extends EvaluationSummary {
  micros: number | null;
  lastMicros: number | null;
  lastUid: string | null;
  looked: number;
}

/** Newest first. Throws RangeError for a cursor that no list has given. */
export async function listEvaluations(db: Queryable, scope: Scope, filter: EvaluationFilter): Promise<Page<EvaluationSummary>> {
  if (scope !== 'all' && scope.length === 0) return { items: [] };
  const scan = planList(scope, filter);
  const { rows } = await db.query<Row>(scan.sql, scan.values);
  const found = rows.filter(({ uid }) => uid !== null);
  const items = found.slice(0, scan.limit).map(({ micros: _, lastMicros: __, lastUid: ___, looked: ____, ...item }) => item);
  const last = found[scan.limit - 1];
  if (found.length > scan.limit && last?.micros != null) return { items, nextCursor: encodeCursor({ micros: last.micros, uid: last.uid }) };
  const { looked = 0, lastMicros = null, lastUid = null } = rows[0] ?? {};
  if (looked < scan.looks || lastMicros === null || lastUid === null) return { items };
  return { items, nextCursor: encodeCursor({ micros: lastMicros, uid: lastUid }) };
}

/** The first page of what is in a scope, and of everything: what is asked most, and one plan is right for every scope. */
export const NEWEST = planList([], {}).sql;
export const NEWEST_OF_ALL = planList('all', {}).sql;

/** The statement for a filter. Its text holds nothing of what was asked, but which conditions there are and the size of the page. */
function planList(scope: Scope, filter: EvaluationFilter): Scan {
  const limit = pageSize(filter.limit, USUAL_PAGE, LARGEST_PAGE);
  const values: unknown[] = scope === 'all' ? [] : [scope];
  const bind = (value: unknown): string => `$${values.push(value)}`;
  const path = choosePath(filter, bind);
  const looks = path.exact ? limit + 1 : Math.max(LOOKS, limit + 1);
  const conditions = [...path.conditions, ...within(filter, bind)];
  const sql = `
    WITH looked AS MATERIALIZED (${newestRows(scope, path.from, conditions, looks)}),
    bound AS (
      SELECT count(*) AS looked, (SELECT ${MICROS} FROM looked ORDER BY created_at, uid LIMIT 1) AS "lastMicros",
             (SELECT uid FROM looked ORDER BY created_at, uid LIMIT 1) AS "lastUid" FROM looked)
    SELECT b.*, p.* FROM bound b LEFT JOIN LATERAL (
      SELECT e.uid, e.namespace, e.namespace_uid AS "namespaceUid", e.name, e.labels, e.runtime, e.phase, e.priority,
             e.queue_reason AS "queueReason", e.verdict, e.passed, e.attempts, e.created_at AS "createdAt",
             e.accepted_at AS "acceptedAt", e.finished_at AS "finishedAt", ${MICROS.replace('created_at', 'e.created_at')} AS micros,
             a.started_at AS "startedAt", a.exit_code AS "exitCode", a.signal
      FROM (SELECT uid FROM looked ORDER BY created_at DESC, uid DESC) l
      -- OFFSET 0: one after the other, by key, until the page is full. A join may read all runs instead.
      CROSS JOIN LATERAL (SELECT * FROM crucible.evaluations WHERE uid = l.uid OFFSET 0) e
      LEFT JOIN LATERAL (
        SELECT started_at, exit_code, signal FROM crucible.attempts WHERE evaluation_uid = e.uid AND number = e.attempts OFFSET 0) a ON true
      WHERE ${[...residual(filter, bind), 'true'].join(' AND ')}
      LIMIT ${limit + 1}) p ON true
    ORDER BY p."createdAt" DESC, p.uid DESC`;
  return { sql, values, limit, looks };
}

/** `since` and the cursor, for every way to find rows: the same order in each index. */
export function within({ since, cursor }: EvaluationFilter, bind: (value: unknown) => string): string[] {
  const place = cursor === undefined ? undefined : decodeCursor(cursor);
  return [
    ...(since === undefined ? [] : [`created_at >= ${bind(since)}::timestamptz`]),
    ...(place === undefined ? [] : [`(created_at, uid) < (${timeOf(bind(place.micros))}, ${bind(place.uid)}::uuid)`]),
  ];
}

/** The most telling of what is asked for leads; the rest is compared on the way. */
function choosePath(filter: EvaluationFilter, bind: (value: unknown) => string): Path {
  const { phases, verdictClasses, labels = [], name } = filter;
  const leading = labels.find(({ operator, values }) => operator === 'in' && values.length === 1);
  const asked = labels.length + Number(phases !== undefined) + Number(verdictClasses !== undefined) + Number(name !== undefined);
  if (leading !== undefined) {
    const label = bind(`${leading.key}=${leading.values[0]}`);
    return { from: 'crucible.evaluation_labels', conditions: [`label = ${label}`], exact: asked === 1 };
  }
  const from = 'crucible.evaluations';
  if (verdictClasses?.length === 1)
    return { from, conditions: [`verdict ->> 'class' = ${bind(verdictClasses[0])}`], exact: asked === 1 };
  if (phases?.length === 1) return { from, conditions: [`phase = ${bind(phases[0])}`], exact: asked === 1 };
  return { from, conditions: [], exact: asked === 0 };
}

function residual(filter: EvaluationFilter, bind: (value: unknown) => string): string[] {
  const { phases, verdictClasses, labels = [], name } = filter;
  return [
    ...(phases === undefined ? [] : [`e.phase = ANY (${bind(phases)}::text[])`]),
    ...(verdictClasses === undefined ? [] : [`e.verdict ->> 'class' = ANY (${bind(verdictClasses)}::text[])`]),
    ...(name === undefined ? [] : [`strpos(e.name, ${bind(name)}) > 0`]),
    ...labels.map(({ key, operator, values }) => {
      const label = `e.labels ->> ${bind(key)}::text`;
      if (operator === 'exists') return `${label} IS NOT NULL`;
      if (operator === 'absent') return `${label} IS NULL`;
      const named = `coalesce(${label} = ANY (${bind(values)}::text[]), false)`;
      return operator === 'in' ? named : `NOT ${named}`;
    }),
  ];
}
