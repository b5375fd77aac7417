import type { Redis } from 'ioredis';
import { EVENT_STREAM, eventText, positionOf, streamId } from '../bus/stream.ts';
import { parseCloudEvent } from '../bus/cloud-event.ts';
import type { Queryable } from '../database.ts';
import type { FileStore } from '../files.ts';
import { isUp } from '../redis/connection.ts';
import { pendingKey } from '../redis/pending.ts';
import { inScope, isUid, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

/**
 * Where a part of a run is. What is named is there at this moment: rows are counted, files asked for their size, keys looked
 * up. What retention has deleted, or Redis has forgotten, is not named. Who reads a file learns whether its hash is right.
 */
export interface StorageLocation {
  backend: 'database' | 'file' | 'redis';
  /** What of the run is there. */
  holds: 'record' | 'attempts' | 'ledger' | 'stdout' | 'stderr' | 'artifactNames' | 'events' | 'kubernetesEvents' | 'submission' | 'artifact' | 'pending' | 'eventStream';
  /** The table, the sha256 of the content, or the key. */
  location: string;
  attempt: number | null;
  /** Rows, objects or entries. */
  items: number;
  /** Of what the run put there, without what the backend adds. */
  bytes: number;
  /** The name that the sandbox gave an artifact: hostile data. */
  path: string | null;
}

export interface StorageBackends {
  files?: Pick<FileStore, 'stat'> | undefined;
  redis?: Redis | undefined;
}

const MAX_FILES = 1_000;
const CONCURRENT_LOOKS = 16;
/** Of the newest events: more than any run has. */
const MAX_STREAM_LOOKS = 200;

/**
 * The rows of a run, counted by table; and what says where else to look, one row each: its artifacts' content, and the
 * positions of its events.
 */
export const PARTS_OF_RUN = `
  WITH run AS (
    SELECT e.uid, e.created_at, e.spec_bytes, e.artifacts_deleted_at FROM crucible.evaluations e
    WHERE e.uid = $1 AND ${inScope('e.namespace_uid', 2)}),
  own AS MATERIALIZED (
    SELECT v.seq, v.position, octet_length(v.data::text) AS bytes
    FROM run JOIN crucible.events v ON v.evaluation_uid = run.uid AND v.evaluation_created_at = run.created_at)
  SELECT 'record' AS holds, 'crucible.evaluations' AS location, NULL::integer AS attempt, 1::bigint AS items, spec_bytes::bigint AS bytes,
         NULL AS path
    FROM run
  UNION ALL SELECT 'submission', 'crucible.submissions', NULL, 1, 0, NULL
    FROM crucible.submissions s WHERE s.uid = $1 AND ${inScope('s.namespace_uid', 2)}
  UNION ALL SELECT 'attempts', 'crucible.attempts', NULL, count(*), 0, NULL
    FROM run JOIN crucible.attempts a ON a.evaluation_uid = run.uid HAVING count(*) > 0
  UNION ALL SELECT 'ledger', 'crucible.streams', s.attempt, count(*), 0, NULL
    FROM run JOIN crucible.streams s ON s.evaluation_uid = run.uid GROUP BY s.attempt
  UNION ALL SELECT o.stream, 'crucible.output_chunks', o.attempt, count(*), sum(octet_length(o.data)), NULL
    FROM run JOIN crucible.output_chunks o ON o.evaluation_uid = run.uid GROUP BY o.attempt, o.stream
  UNION ALL SELECT 'artifactNames', 'crucible.artifacts', f.attempt, count(*), 0, NULL
    FROM run JOIN crucible.artifacts f ON f.evaluation_uid = run.uid GROUP BY f.attempt
  UNION ALL SELECT 'events', 'crucible.events', NULL, count(*), sum(bytes), NULL FROM own HAVING count(*) > 0
  UNION ALL SELECT 'kubernetesEvents', 'crucible.kubernetes_events', NULL, count(*), 0, NULL
    FROM run JOIN crucible.kubernetes_events k ON k.evaluation_uid = run.uid HAVING count(*) > 0
  UNION ALL (
    SELECT 'artifact', f.sha256, f.attempt, 1, f.size, f.path FROM run JOIN crucible.artifacts f ON f.evaluation_uid = run.uid
    WHERE f.complete AND run.artifacts_deleted_at IS NULL ORDER BY f.attempt, f.index LIMIT ${MAX_FILES})
  UNION ALL (
    SELECT 'eventStream', position::text, NULL, 1, 0, NULL FROM own WHERE position IS NOT NULL ORDER BY seq DESC LIMIT ${MAX_STREAM_LOOKS})`;

type Part = Omit<StorageLocation, 'backend'>;

/** Empty for what is not in the scope. A backend that cannot be asked is not named; Postgres must answer. */
export async function listStorageLocations(
  db: Queryable,
  backends: StorageBackends,
  uid: string,
  scope: Scope,
): Promise<StorageLocation[]> {
  if (!isUid(uid)) return [];
  const { rows } = await db.query<Part>(PARTS_OF_RUN, [uid, scopeParameter(scope)]);
  const artifacts = rows.filter(({ holds }) => holds === 'artifact');
  const positions = rows.filter(({ holds }) => holds === 'eventStream').map(({ location }) => Number(location));
  const counted = rows.filter(({ holds }) => holds !== 'artifact' && holds !== 'eventStream');
  if (counted.length === 0) return [];
  const [files, keys] = await Promise.all([inFileStore(backends.files, artifacts), inRedis(backends.redis, uid, positions)]);
  return [...counted.map((row): StorageLocation => ({ backend: 'database', ...row })), ...files, ...keys];
}

async function inFileStore(files: StorageBackends['files'], artifacts: readonly Part[]): Promise<StorageLocation[]> {
  if (files === undefined) return [];
  const found = await inParallel(artifacts, async (artifact): Promise<StorageLocation[]> => {
    const info = await files.stat(artifact.location).catch(() => undefined);
    // Half a file, from a damaged disk or a restored backup, is not the content.
    return info?.size === artifact.bytes ? [{ ...artifact, backend: 'file' }] : [];
  });
  return found.flat();
}

async function inRedis(redis: Redis | undefined, uid: string, positions: readonly number[]): Promise<StorageLocation[]> {
  if (redis === undefined || !isUp(redis)) return [];
  const at = (holds: StorageLocation['holds'], key: string, items: number, bytes: number): StorageLocation[] =>
    items === 0 ? [] : [{ backend: 'redis', holds, location: key, attempt: null, items, bytes, path: null }];
  try {
    // What is older than the oldest entry is not looked for one by one: the stream is short, and most runs are older.
    const [pending, [oldest]] = await Promise.all([redis.strlen(pendingKey(uid)), redis.xrange(EVENT_STREAM, '-', '+', 'COUNT', 1)]);
    const from = oldest === undefined ? Infinity : positionOf(oldest[0]);
    const ids = positions.filter((position) => position >= from).map(streamId);
    const entries = await Promise.all(ids.map((id) => redis.xrange(EVENT_STREAM, id, id)));
    // A stream that was filled by somebody else has other events at these positions.
    const own = entries.flat().map(([, fields]) => eventText(fields)).filter((text) => isOf(uid, text));
    const bytes = own.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    return [...at('pending', pendingKey(uid), pending === 0 ? 0 : 1, pending), ...at('eventStream', EVENT_STREAM, own.length, bytes)];
  } catch {
    return [];
  }
}

function isOf(uid: string, text: string): boolean {
  try {
    return parseCloudEvent(text).subject === uid;
  } catch {
    return false;
  }
}

async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) results[index] = await work(items[index] as T);
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENT_LOOKS, items.length) }, worker));
  return results;
}
