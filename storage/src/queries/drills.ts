import type { Queryable } from '../database.ts';
import { DRILL_COLUMNS } from '../drills.ts';
import type { DrillOutcome, DrillRecord } from '../drills.ts';
import { decodeCursor, encodeCursor, timeOf } from './cursor.ts';
import type { Page } from './evaluation-list.ts';
import { pageSize } from './scope.ts';

// Drills are about the cluster and not about a namespace: who may see them is asked before, for all of them at once.

export interface DrillFilter {
  /** Empty: the cluster's default runtime. */
  runtimeClass?: string;
  kind?: DrillRecord['kind'];
  outcome?: DrillOutcome;
  cursor?: string;
  /** 1 to 200; default 50. */
  limit?: number;
}

const USUAL_PAGE = 50;
const LARGEST_PAGE = 200;

/** Newest first. Throws RangeError for a cursor that no list has given. */
export async function listDrills(db: Queryable, filter: DrillFilter = {}): Promise<Page<DrillRecord>> {
  const place = filter.cursor === undefined ? undefined : decodeCursor(filter.cursor);
  const limit = pageSize(filter.limit, USUAL_PAGE, LARGEST_PAGE);
  const { rows } = await db.query<DrillRecord & { micros: number }>(
    `SELECT ${DRILL_COLUMNS}, (extract(epoch FROM finished_at) * 1000000)::bigint AS micros FROM crucible.drills
     WHERE ($1::text IS NULL OR coalesce(runtime_class, '') = $1) AND ($2::text IS NULL OR kind = $2)
       AND ($3::text IS NULL OR outcome = $3)
       AND ($4::bigint IS NULL OR finished_at < ${timeOf('$4')} OR (finished_at = ${timeOf('$4')} AND id > $5::uuid))
     ORDER BY finished_at DESC, id LIMIT $6`,
    [filter.runtimeClass ?? null, filter.kind ?? null, filter.outcome ?? null, place?.micros ?? null, place?.uid ?? null, limit + 1],
  );
  const items = rows.slice(0, limit).map(({ micros: _, ...row }) => row);
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return last === undefined ? { items } : { items, nextCursor: encodeCursor({ micros: last.micros, uid: last.id }) };
}
