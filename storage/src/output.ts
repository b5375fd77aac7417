import type { Queryable } from './database.ts';
import { MAX_CHUNK_BYTES } from './capture-rules.ts';
import { NotFoundError } from './errors.ts';
import type { CaptureKey, OutputSlice, StreamName } from './types.ts';

export const MAX_READ_BYTES = 1024 * 1024;
/** Column `missing` of crucible.captures as inclusive ranges. */
export const RANGES = `(SELECT coalesce(json_agg(json_build_object('from', lower(r), 'to', upper(r) - 1) ORDER BY lower(r)), '[]')
  FROM unnest(missing) r)`;
export const MISSING_RANGES = `${RANGES} AS missing`;

interface Row {
  total: number;
  start: number;
  offset: number | null;
  data: Buffer | null;
}

export const SLICE = `
  SELECT s.total, s.start, c.byte_offset AS offset, c.data
  FROM (SELECT bytes AS total, CASE WHEN $4 = 'end' THEN greatest(bytes - $5, 0) ELSE least($5, bytes) END AS start
        FROM crucible.streams WHERE evaluation_uid = $1 AND attempt = $2 AND stream = $3) s
  LEFT JOIN crucible.output_chunks c ON c.evaluation_uid = $1 AND c.attempt = $2 AND c.stream = $3
    AND c.byte_offset > s.start - ${MAX_CHUNK_BYTES} AND c.byte_offset < s.start + $6::bigint
    AND c.byte_offset + octet_length(c.data) > s.start
  ORDER BY c.byte_offset`;

/** In one statement, hence one snapshot: a reconcile that moves chunks cannot come between. */
export async function readSlice(
  db: Queryable,
  key: CaptureKey,
  stream: StreamName,
  where: { from: 'start' | 'end'; offset: number },
  length: number = MAX_READ_BYTES,
): Promise<OutputSlice> {
  const bounded = Math.max(0, Math.min(length, MAX_READ_BYTES));
  const offset = Math.max(0, where.from === 'end' ? bounded : where.offset);
  const { rows } = await db.query<Row>(SLICE, [key.evaluationUid, key.attempt, stream, where.from, offset, bounded]);
  const first = rows[0];
  if (first === undefined) throw new NotFoundError(`attempt ${key.attempt} of evaluation ${key.evaluationUid} has no output`);
  const { total, start } = first;
  const pieces = rows.flatMap(({ offset, data }) =>
    offset === null || data === null ? [] : [data.subarray(Math.max(0, start - offset), Math.max(0, start + bounded - offset))],
  );
  return { offset: start, data: Buffer.concat(pieces), totalBytes: total };
}
