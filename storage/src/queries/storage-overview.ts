import type { Redis } from 'ioredis';
import type { Queryable } from '../database.ts';
import { isUp } from '../redis/connection.ts';
import { pendingKey } from '../redis/pending.ts';
import { MICROS, encodeCursor } from './cursor.ts';
import { listEvaluations, within } from './evaluation-list.ts';
import type { Page } from './evaluation-list.ts';
import { newestRows, pageSize, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

export interface StorageTotals {
  /** Runs, and the bytes of their specs and captured output. */
  database: { evaluations: number; bytes: number };
  /** Artifacts of the runs; those that share their content count each. */
  file: { files: number; bytes: number };
  /** Keys that belong to the runs. Null while Redis cannot be asked. */
  redis: { keys: number } | null;
}

export const TOTALS = `
  SELECT coalesce(sum(u.evaluations), 0)::bigint AS evaluations, coalesce(sum(u.spec_bytes + u.output_bytes), 0)::bigint AS bytes,
         coalesce(sum(a.files), 0)::bigint AS files, coalesce(sum(a.bytes), 0)::bigint AS "fileBytes"
  FROM crucible.namespace_usage u LEFT JOIN crucible.artifact_usage a USING (namespace_uid)
  WHERE $1::uuid[] IS NULL OR u.namespace_uid = ANY ($1)`;

/** What the runs of a scope use. From counters, whatever their number; the hit rate is the cache's own to tell. */
export async function readStorageTotals(db: Queryable, redis: Redis | undefined, scope: Scope): Promise<StorageTotals> {
  const { rows } = await db.query<{ evaluations: number; bytes: number; files: number; fileBytes: number }>(TOTALS, [scopeParameter(scope)]);
  const { evaluations = 0, bytes = 0, files = 0, fileBytes = 0 } = rows[0] ?? {};
  const keys = await countKeys(db, redis, scope);
  return { database: { evaluations, bytes }, file: { files, bytes: fileBytes }, redis: keys === undefined ? null : { keys } };
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

/** Runs that one request looks at: most have no artifacts. */
const LOOKS = 1_000;

function fileItems(scope: Scope, cursor: string | undefined, limit: number): { sql: string; values: unknown[] } {
  const values: unknown[] = scope === 'all' ? [] : [scope];
  const bind = (value: unknown): string => `$${values.push(value)}`;
  const conditions = ['artifacts_deleted_at IS NULL', ...within(cursor === undefined ? {} : { cursor }, bind)];
  const sql = `
  WITH looked AS MATERIALIZED (${newestRows(scope, 'crucible.evaluations', conditions, LOOKS)}),
  bound AS (
    SELECT count(*) AS looked, (SELECT ${MICROS} FROM looked ORDER BY created_at, uid LIMIT 1) AS "lastMicros",
           (SELECT uid FROM looked ORDER BY created_at, uid LIMIT 1) AS "lastUid" FROM looked),
  runs AS (
    -- LIMIT 1, and OFFSET 0 below: each run by its key. A join may read all artifacts instead.
    SELECT l.uid, l.created_at FROM looked l
    CROSS JOIN LATERAL (SELECT FROM crucible.artifacts f WHERE f.evaluation_uid = l.uid AND f.complete LIMIT 1) has
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

/** A key of Redis that belongs to a run, for the explorer. */
export interface RedisItem {
  key: string;
  uid: string;
  /** Seconds until it goes by itself; null: never. */
  expiresInSeconds: number | null;
}

const UNFINISHED_LOOKS = 5_000;
export const UNFINISHED = `
  SELECT s.uid FROM (SELECT uid AS nsuid FROM crucible.namespaces WHERE $1::uuid[] IS NULL OR uid = ANY ($1)) n
  CROSS JOIN LATERAL (
    (SELECT uid FROM crucible.evaluations WHERE namespace_uid = n.nsuid AND finished_at IS NULL AND attempts > 0 LIMIT ${UNFINISHED_LOOKS})
    UNION ALL
    (SELECT uid FROM crucible.evaluations WHERE namespace_uid = n.nsuid AND finished_at IS NULL AND attempts = 0 LIMIT ${UNFINISHED_LOOKS})) s
  LIMIT ${UNFINISHED_LOOKS}`;

/** Keys of runs in the scope that are there now; at most 5000. Undefined while Redis cannot be asked. */
export async function listRedisItems(db: Queryable, redis: Redis | undefined, scope: Scope): Promise<RedisItem[] | undefined> {
  if (redis === undefined || !isUp(redis)) return undefined;
  const { rows } = await db.query<{ uid: string }>(UNFINISHED, [scopeParameter(scope)]);
  try {
    const seconds = await Promise.all(rows.map(({ uid }) => redis.ttl(pendingKey(uid))));
    return rows.flatMap(({ uid }, index): RedisItem[] => {
      const left = seconds[index] ?? -2;
      return left === -2 ? [] : [{ key: pendingKey(uid), uid, expiresInSeconds: left === -1 ? null : left }];
    });
  } catch {
    return undefined;
  }
}

async function countKeys(db: Queryable, redis: Redis | undefined, scope: Scope): Promise<number | undefined> {
  if (redis === undefined || !isUp(redis)) return undefined;
  if (scope === 'all') return await redis.dbsize().catch(() => undefined);
  return (await listRedisItems(db, redis, scope))?.length;
}
