import type { Queryable } from '../database.ts';
import type { RunOutcome } from '../suites.ts';
import type { Page } from './evaluation-list.ts';
import { MICROS, decodeCursor, encodeCursor, timeOf } from './cursor.ts';
import { inScope, isUid, pageSize, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

/** A row of the list: no spec, which may be large. */
export interface SuiteSummaryRow {
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
  labels: Record<string, string>;
  phase: string;
  /** Why it ended so, both or neither. */
  reason: string | null;
  message: string | null;
  /** Runs: cells times samples. */
  total: number;
  /** As in the resource's status.summary; empty before the first run. */
  summary: Record<string, unknown>;
  createdAt: Date;
  acceptedAt: Date;
  finishedAt: Date | null;
}

export interface SuiteDetail extends SuiteSummaryRow {
  generation: number;
  spec: object;
  cells: SuiteCellRow[];
}

export interface SuiteCellRow {
  /** From 1. */
  cell: number;
  parameters: Record<string, string>;
  /** As in the resource's status.cells; empty before the first end. */
  summary: Record<string, unknown>;
}

export interface SuiteRunRow {
  cell: number;
  sample: number;
  evaluationUid: string;
  evaluationName: string;
  createdAt: Date;
  /** null while it has not ended. */
  outcome: RunOutcome | null;
  verdictClass: string | null;
  attempts: number | null;
  finishedAt: Date | null;
}

export interface SuiteEventRow {
  /** From 1, without gaps. */
  seq: number;
  type: string;
  data: Record<string, unknown>;
  at: Date;
}

export interface SuiteFilter {
  phases?: readonly string[];
  /** Part of the name. */
  name?: string;
  cursor?: string;
  /** 1 to 500; default 50. */
  limit?: number;
}

const USUAL_PAGE = 50;
const LARGEST_PAGE = 500;
/** A suite has a thousand runs at most. */
const MOST_RUNS = 1_000;

const COLUMNS = `uid, namespace, namespace_uid AS "namespaceUid", name, labels, phase, reason, message, total, summary,
  created_at AS "createdAt", accepted_at AS "acceptedAt", finished_at AS "finishedAt"`;

/** Newest first, also of suites whose resource is gone. Throws RangeError for a cursor that no list has given. */
export async function listSuites(db: Queryable, scope: Scope, filter: SuiteFilter = {}): Promise<Page<SuiteSummaryRow>> {
  const place = filter.cursor === undefined ? undefined : decodeCursor(filter.cursor);
  const limit = pageSize(filter.limit, USUAL_PAGE, LARGEST_PAGE);
  const { rows } = await db.query<SuiteSummaryRow & { micros: number }>(
    `SELECT ${COLUMNS}, ${MICROS} AS micros FROM crucible.suites
     WHERE ${inScope('namespace_uid', 1)} AND ($2::text[] IS NULL OR phase = ANY ($2::text[]))
       AND ($3::bigint IS NULL OR (created_at, uid) < (${timeOf('$3')}, $4::uuid))
       AND ($5::text IS NULL OR position($5 in name) > 0)
     ORDER BY created_at DESC, uid DESC LIMIT $6`,
    [scopeParameter(scope), filter.phases ?? null, place?.micros ?? null, place?.uid ?? null, filter.name ?? null, limit + 1],
  );
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  const items = rows.slice(0, limit).map(({ micros: _, ...row }) => row);
  return last === undefined ? { items } : { items, nextCursor: encodeCursor({ micros: last.micros, uid: last.uid }) };
}

/** With its spec and all of its cells; undefined when there is none in the scope. */
export async function readSuite(db: Queryable, scope: Scope, uid: string): Promise<SuiteDetail | undefined> {
  if (!isUid(uid)) return undefined;
  const { rows } = await db.query<Omit<SuiteDetail, 'cells'>>(
    `SELECT ${COLUMNS}, generation, spec FROM crucible.suites WHERE uid = $2 AND ${inScope('namespace_uid', 1)}`,
    [scopeParameter(scope), uid],
  );
  const suite = rows[0];
  if (suite === undefined) return undefined;
  const cells = await db.query<SuiteCellRow>('SELECT cell, parameters, summary FROM crucible.suite_cells WHERE suite_uid = $1 ORDER BY cell', [uid]);
  return { ...suite, cells: cells.rows };
}

/** All that have an Evaluation, by cell and sample; empty for a suite that is not in the scope. */
export async function listSuiteRuns(db: Queryable, scope: Scope, uid: string): Promise<SuiteRunRow[]> {
  return await partsOf<SuiteRunRow>(
    db, scope, uid,
    `SELECT p.cell, p.sample, p.evaluation_uid AS "evaluationUid", p.evaluation_name AS "evaluationName", p.created_at AS "createdAt",
            p.outcome, p.verdict_class AS "verdictClass", p.attempts, p.finished_at AS "finishedAt"
     FROM crucible.suite_runs p`,
    `p.cell, p.sample LIMIT ${MOST_RUNS}`,
  );
}

/** Its own events; those of its runs belong to the runs. */
export async function listSuiteEvents(db: Queryable, scope: Scope, uid: string): Promise<SuiteEventRow[]> {
  return await partsOf<SuiteEventRow>(db, scope, uid, 'SELECT p.seq, p.type, p.data, p.at FROM crucible.suite_events p', `p.seq LIMIT ${MOST_RUNS}`);
}

async function partsOf<R extends object>(db: Queryable, scope: Scope, uid: string, select: string, order: string): Promise<R[]> {
  if (!isUid(uid)) return [];
  const text = `${select} JOIN crucible.suites s ON s.uid = p.suite_uid
    WHERE p.suite_uid = $2 AND ${inScope('s.namespace_uid', 1)} ORDER BY ${order}`;
  return (await db.query<R>(text, [scopeParameter(scope), uid])).rows;
}
