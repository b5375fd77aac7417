import type { Queryable } from './database.ts';
import { RANGES } from './output.ts';
import type { CaptureKey, CaptureRecord } from './types.ts';

const OF_CAPTURE = (table: string): string => `${table}.evaluation_uid = captures.evaluation_uid AND ${table}.attempt = captures.attempt`;
/** By their names in TypeScript. With streams and artifacts, so that what it says of them being complete holds for them. */
const COLUMNS: Readonly<Record<string, string>> = {
  evaluationUid: 'evaluation_uid',
  attempt: 'attempt',
  podUid: 'pod_uid',
  recorder: 'recorder',
  state: 'state',
  lastSeq: 'last_seq',
  missing: RANGES,
  startedAt: 'started_at',
  capturedAt: 'captured_at',
  complete: 'complete',
  reason: 'reason',
  summary: 'summary',
  receipt: 'receipt',
  artifactsComplete: 'artifacts_complete',
  streams: `(SELECT json_object_agg(stream, json_build_object('stream', stream, 'bytes', bytes, 'lines', lines, 'gaps', gaps,
       'truncated', truncated, 'complete', complete, 'producedBytes', produced_bytes, 'sha256', sha256))
     FROM crucible.streams WHERE ${OF_CAPTURE('streams')})`,
  artifacts: `(SELECT json_build_object('count', count(*) FILTER (WHERE refused IS NULL),
       'bytes', coalesce(sum(size) FILTER (WHERE complete), 0)::bigint, 'refused', count(*) FILTER (WHERE refused IS NOT NULL))
     FROM crucible.artifacts WHERE ${OF_CAPTURE('artifacts')})`,
};

/** Of crucible.captures in a select list, each with `prefix` before its name. */
export function captureColumns(prefix = ''): string {
  return Object.entries(COLUMNS).map(([name, expression]) => `${expression} AS "${prefix}${name}"`).join(', ');
}

/** Undefined where an outer join found none. */
export function captureOf(row: Readonly<Record<string, unknown>> | undefined): CaptureRecord | undefined {
  if (row === undefined || row['podUid'] === null) return undefined;
  const { artifactsComplete, artifacts, ...capture } = row;
  return { ...capture, artifacts: { ...(artifacts as object), complete: artifactsComplete ?? false } } as CaptureRecord;
}

export async function readCapture(db: Queryable, { evaluationUid, attempt }: CaptureKey): Promise<CaptureRecord | undefined> {
  const text = `SELECT ${captureColumns()} FROM crucible.captures WHERE evaluation_uid = $1 AND attempt = $2`;
  return captureOf((await db.query(text, [evaluationUid, attempt])).rows[0]);
}
