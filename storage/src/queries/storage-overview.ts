import type { Redis } from 'ioredis';
import type { Queryable } from '../database.ts';
import { redisOverview } from '../redis/overview.ts';
import { MICROS, encodeCursor } from './cursor.ts';
import { listEvaluations, within } from './evaluation-list.ts';
import type { Page } from './evaluation-list.ts';
import { countRedisItems } from './redis-items.ts';
import { newestRows, pageSize, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

export interface StorageTotals {
  /** Runs, and the bytes of their specs and captured output. */
  database: { evaluations: number; bytes: number };
  /** Artifacts of the runs; those that share their content count each. */
  file: { files: number; bytes: number };
  /**
   * Keys: of everything all that the server's database has; of a scope those of its unfinished runs, at most 5,000. The hit
   * rate is of our caches in all processes, null before the first question. All null while Redis cannot be asked.
   */
  redis: { keys: number; hitRate: number | null } | null;
}

export const TOTALS = `
  SELECT coalesce(sum(u.evaluations), 0)::bigint AS evaluations, coalesce(sum(u.spec_bytes + u.output_bytes), 0)::bigint AS bytes,
         coalesce(sum(a.files), 0)::bigint AS files, coalesce(sum(a.bytes), 0)::bigint AS "fileBytes"
  FROM crucible.namespace_usage u LEFT JOIN crucible.artifact_usage a USING (namespace_uid)
  WHERE $1::uuid[] IS NULL OR u.namespace_uid = ANY ($1)`;

/** What the runs of a scope use. From counters, whatever their number. */
export async function readStorageTotals(db: Queryable, redis: Redis | undefined, scope: Scope): Promise<StorageTotals> {
  const { rows } = await db.query<{ evaluations: number; bytes: number; files: number; fileBytes: number }>(TOTALS, [scopeParameter(scope)]);
  const { evaluations = 0, bytes = 0, files = 0, fileBytes = 0 } = rows[0] ?? {};
  return { database: { evaluations, bytes }, file: { files, bytes: fileBytes }, redis: await redisTotals(db, redis, scope) };
}

async function redisTotals(db: Queryable, redis: Redis | undefined, scope: Scope): Promise<StorageTotals['redis']> {
  const overview = await redisOverview(redis);
  if (redis === undefined || overview === undefined) return null;
  const { keys, hitRate } = overview;
  if (scope === 'all') return { keys, hitRate };
  const own = await countRedisItems(db, redis, scope);
  return own === undefined ? null : { keys: own, hitRate };
}

/** A run's part in Postgres, for the explorer. */
export interface DatabaseItem {
  uid: string;
  namespace: string;
  name: string;
  createdAt: Date;
  specBytes: number;
  stdoutBytes: number;
  stderrBytes: number;
  /** Since when the bytes of its output are gone. */
  outputDeletedAt: Date | null;
  attempts: number;
  artifacts: number;
  events: number;
}

interface PageRequest {
  cursor?: string;
  /** 1 to 200; default 50. */
  limit?: number;
}

const USUAL_PAGE = 50;
const LARGEST_PAGE = 200;

const SIZES = `
  SELECT e.uid, e.spec_bytes AS "specBytes", e.output_deleted_at AS "outputDeletedAt", e.event_seq AS events,
         (SELECT coalesce(sum(s.bytes), 0)::bigint FROM crucible.streams s
          WHERE s.evaluation_uid = e.uid AND s.stream = 'stdout' AND e.output_deleted_at IS NULL) AS "stdoutBytes",
         (SELECT coalesce(sum(s.bytes), 0)::bigint FROM crucible.streams s
          WHERE s.evaluation_uid = e.uid AND s.stream = 'stderr' AND e.output_deleted_at IS NULL) AS "stderrBytes",
         (SELECT count(*) FROM crucible.artifacts f WHERE f.evaluation_uid = e.uid) AS artifacts
  FROM crucible.evaluations e WHERE e.uid = ANY ($1::uuid[])`;

/** Newest first. */
export async function listDatabaseItems(db: Queryable, scope: Scope, request: PageRequest = {}): Promise<Page<DatabaseItem>> {
  const page = await listEvaluations(db, scope, { ...request, limit: pageSize(request.limit, USUAL_PAGE, LARGEST_PAGE) });
  const { rows } = await db.query<Omit<DatabaseItem, 'namespace' | 'name' | 'createdAt' | 'attempts'>>(SIZES, [page.items.map(({ uid }) => uid)]);
  const sizes = new Map(rows.map((row) => [row.uid, row]));
  const items = page.items.flatMap(({ uid, namespace, name, createdAt, attempts }) => {
    const size = sizes.get(uid);
    return size === undefined ? [] : [{ ...size, namespace, name, createdAt, attempts }];
  });
  return { items, ...(page.nextCursor !== undefined && { nextCursor: page.nextCursor }) };
}

/** An artifact whose content is kept, for the explorer. */
export interface FileItem {
  sha256: string;
  bytes: number;
  /** Hostile data. */
  path: string;
  uid: string;
  namespace: string;
  name: string;
  attempt: number;
  index: number;
  createdAt: Date;
}

/** Runs that one request looks at: most have no artifacts, or none any more. */
const LOOKS = 1_000;

function fileItems(scope: Scope, cursor: string | undefined, limit: number): { sql: string; values: unknown[] } {
  const values: unknown[] = scope === 'all' ? [] : [scope];
  const bind = (value: unknown): string => `$${values.push(value)}`;
  // What retention took is looked at too: to pass over it unseen would take any number of rows, each from its table.
  const conditions = within(cursor === undefined ? {} : { cursor }, bind);
  const sql = `
  WITH looked AS MATERIALIZED (${newestRows(scope, 'crucible.evaluations', conditions, LOOKS)}),
  bound AS (
    SELECT count(*) AS looked, (SELECT ${MICROS} FROM looked ORDER BY created_at, uid LIMIT 1) AS "lastMicros",
           (SELECT uid FROM looked ORDER BY created_at, uid LIMIT 1) AS "lastUid" FROM looked),
  runs AS (
    -- LIMIT 1, and OFFSET 0 below: each run by its key. A join may read all artifacts instead.
    SELECT l.uid, l.created_at FROM looked l
    CROSS JOIN LATERAL (SELECT FROM crucible.artifacts f WHERE f.evaluation_uid = l.uid AND f.complete LIMIT 1) has
    CROSS JOIN LATERAL (SELECT FROM crucible.evaluations e WHERE e.uid = l.uid AND e.artifacts_deleted_at IS NULL OFFSET 0) kept
    ORDER BY l.created_at DESC, l.uid DESC LIMIT ${limit + 1})
  SELECT b.*, p.* FROM bound b LEFT JOIN LATERAL (
    SELECT r.uid, ${MICROS.replace('created_at', 'r.created_at')} AS micros, r.created_at AS "createdAt", e.namespace, e.name,
           f.sha256, f.size AS bytes, f.path, f.attempt, f.index
    FROM runs r JOIN crucible.evaluations e ON e.uid = r.uid
    CROSS JOIN LATERAL (SELECT * FROM crucible.artifacts WHERE evaluation_uid = r.uid AND complete OFFSET 0) f) p ON true
  ORDER BY p."createdAt" DESC, p.uid DESC, p.attempt, p.index`;
  return { sql, values };
}

interface FileRow extends FileItem {
  micros: number;
  looked: number;
  lastMicros: number | null;
  lastUid: string | null;
}

/** Newest runs first, all files of a run on one page: `limit` is a number of runs. */
export async function listFileItems(db: Queryable, scope: Scope, request: PageRequest = {}): Promise<Page<FileItem>> {
  const limit = pageSize(request.limit, USUAL_PAGE, LARGEST_PAGE);
  const { sql, values } = fileItems(scope, request.cursor, limit);
  const { rows } = await db.query<FileRow>(sql, values);
  const found = rows.filter(({ uid }) => uid !== null);
  const runs = [...new Set(found.map(({ uid }) => uid))];
  const shown = new Set(runs.slice(0, limit));
  const own = found.filter(({ uid }) => shown.has(uid));
  const items = own.map(({ micros: _, looked: __, lastMicros: ___, lastUid: ____, ...item }) => item);
  const last = own.at(-1);
  if (runs.length > limit && last !== undefined) return { items, nextCursor: encodeCursor({ micros: last.micros, uid: last.uid }) };
  const { looked = 0, lastMicros = null, lastUid = null } = rows[0] ?? {};
  if (looked < LOOKS || lastMicros === null || lastUid === null) return { items };
  return { items, nextCursor: encodeCursor({ micros: lastMicros, uid: lastUid }) };
}
