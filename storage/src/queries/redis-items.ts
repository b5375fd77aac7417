import type { Redis } from 'ioredis';
import type { Queryable } from '../database.ts';
import { isUp } from '../redis/connection.ts';
import { pendingKey } from '../redis/pending.ts';
import { MICROS, encodeCursor } from './cursor.ts';
import { within } from './evaluation-list.ts';
import type { Page } from './evaluation-list.ts';
import { inScope, pageSize, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

/** A key of Redis that belongs to a run, for the explorer. */
export interface RedisItem {
  key: string;
  uid: string;
  /** Seconds until it goes by itself; null: never. */
  expiresInSeconds: number | null;
}

interface PageRequest {
  cursor?: string;
  limit?: number;
}

const USUAL_PAGE = 50;
const LARGEST_PAGE = 200;
/** More keys than that are not counted for one question. */
export const MOST_COUNTED = 5_000;
const KEYS_A_COMMAND = 500;

/** Newest first. They alone have keys of their own. One more than asked for tells that there is a next page. */
export async function listUnfinished(db: Queryable, scope: Scope, { cursor, limit }: { cursor?: string; limit: number }): Promise<{ uid: string; micros: number }[]> {
  const values: unknown[] = [scopeParameter(scope)];
  const bind = (value: unknown): string => `$${values.push(value)}`;
  const conditions = ['finished_at IS NULL', inScope('namespace_uid', 1), ...within(cursor === undefined ? {} : { cursor }, bind)];
  const sql = `SELECT uid, ${MICROS} AS micros FROM crucible.evaluations WHERE ${conditions.join(' AND ')} ORDER BY created_at DESC, uid DESC LIMIT ${limit}`;
  return (await db.query<{ uid: string; micros: number }>(sql, values)).rows;
}

/**
 * Keys that are there now, of the newest runs first. A page is of `limit` runs, some of which may have none. Undefined while
 * Redis cannot be asked; throws RangeError for a cursor that no list has given.
 */
export async function listRedisItems(db: Queryable, redis: Redis | undefined, scope: Scope, request: PageRequest = {}): Promise<Page<RedisItem> | undefined> {
  const limit = pageSize(request.limit, USUAL_PAGE, LARGEST_PAGE);
  const runs = await listUnfinished(db, scope, { ...request, limit: limit + 1 });
  if (redis === undefined || !isUp(redis)) return undefined;
  const shown = runs.slice(0, limit);
  const last = runs.length > limit ? shown.at(-1) : undefined;
  try {
    const seconds = await Promise.all(shown.map(({ uid }) => redis.ttl(pendingKey(uid))));
    const items = shown.flatMap(({ uid }, index): RedisItem[] => {
      const left = seconds[index] ?? -2;
      return left === -2 ? [] : [{ key: pendingKey(uid), uid, expiresInSeconds: left === -1 ? null : left }];
    });
    return { items, ...(last !== undefined && { nextCursor: encodeCursor(last) }) };
  } catch {
    return undefined;
  }
}

/** How many of them there are: of up to {@link MOST_COUNTED} runs, asked for in a few commands. Undefined when Redis fails. */
export async function countRedisItems(db: Queryable, redis: Redis, scope: Scope): Promise<number | undefined> {
  const keys = (await listUnfinished(db, scope, { limit: MOST_COUNTED })).map(({ uid }) => pendingKey(uid));
  const parts = Array.from({ length: Math.ceil(keys.length / KEYS_A_COMMAND) }, (_, part) => keys.slice(part * KEYS_A_COMMAND, (part + 1) * KEYS_A_COMMAND));
  const counts = await Promise.all(parts.map((part) => redis.exists(...part))).catch(() => undefined);
  return counts?.reduce((sum, count) => sum + count, 0);
}
