import type { Queryable } from '../database.ts';
import { readSlice } from '../output.ts';
import type { ArtifactRecord, OutputSlice, StreamLedger, StreamName } from '../types.ts';
import { inScope, isUid, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

export interface RunKey {
  uid: string;
  /** Default: the accepted attempt, else the newest one. */
  attempt?: number | undefined;
}

/** A stream of one attempt, before its bytes are read. */
export interface StreamInfo extends StreamLedger {
  attempt: number;
  /** While following it grows; what is captured is final. */
  state: 'following' | 'captured';
  /** Since when retention has deleted the bytes; the ledger stays. */
  deletedAt: Date | null;
}

export const STREAM = `
  SELECT s.attempt, s.stream, s.bytes, s.lines, s.gaps, s.truncated, s.complete, s.produced_bytes AS "producedBytes", s.sha256,
         c.state, e.output_deleted_at AS "deletedAt"
  FROM crucible.evaluations e
  JOIN crucible.captures c ON c.evaluation_uid = e.uid AND c.attempt = coalesce($3, e.accepted_attempt, e.attempts)
  JOIN crucible.streams s ON s.evaluation_uid = e.uid AND s.attempt = c.attempt AND s.stream = $4
  WHERE e.uid = $1 AND ${inScope('e.namespace_uid', 2)}`;

/** Undefined when there is no such run, attempt or capture in the scope. */
export async function readStream(db: Queryable, key: RunKey, stream: StreamName, scope: Scope): Promise<StreamInfo | undefined> {
  if (!isUid(key.uid)) return undefined;
  const { rows } = await db.query<StreamInfo>(STREAM, [key.uid, scopeParameter(scope), key.attempt ?? null, stream]);
  return rows[0];
}

/** Which attempt is meant when none is named; 1 while there is none. */
export async function currentAttempt(db: Queryable, uid: string): Promise<number> {
  const { rows } = await db.query<{ attempt: number }>(
    'SELECT greatest(coalesce(accepted_attempt, attempts), 1) AS attempt FROM crucible.evaluations WHERE uid = $1', [uid],
  );
  return rows[0]?.attempt ?? 1;
}

export interface OutputRange extends OutputSlice {
  info: StreamInfo;
}

/**
 * Bytes offset … offset + length of a stream as they are stored, at most 1 MiB a call: go on from offset + data.length.
 * Empty past the end, and when retention has deleted them. Undefined as readStream().
 */
export async function readOutputRange(
  db: Queryable,
  key: RunKey,
  stream: StreamName,
  scope: Scope,
  range: { offset?: number; length?: number } = {},
): Promise<OutputRange | undefined> {
  const info = await readStream(db, key, stream, scope);
  if (info === undefined) return undefined;
  const where = { from: 'start' as const, offset: range.offset ?? 0 };
  const slice = await readSlice(db, { evaluationUid: key.uid, attempt: info.attempt }, stream, where, range.length);
  return { ...slice, info };
}

/** An artifact, and whether its content may still be asked for. */
export interface ArtifactItem extends ArtifactRecord {
  /** Since when retention has let go of the content. */
  deletedAt: Date | null;
}

const ARTIFACTS = `
  SELECT f.evaluation_uid AS "evaluationUid", f.attempt, f.index, f.path, f.size, f.sha256, f.complete, f.refused, f.mode,
         e.artifacts_deleted_at AS "deletedAt"
  FROM crucible.evaluations e
  JOIN crucible.artifacts f ON f.evaluation_uid = e.uid AND f.attempt = coalesce($3, e.accepted_attempt, e.attempts)
  WHERE e.uid = $1 AND ${inScope('e.namespace_uid', 2)}`;

/** In order of their index, refused ones too. Undefined when there is no such run in the scope. */
export async function listArtifacts(db: Queryable, key: RunKey, scope: Scope): Promise<ArtifactItem[] | undefined> {
  if (!isUid(key.uid)) return undefined;
  const values = [key.uid, scopeParameter(scope)];
  const [found, { rows }] = await Promise.all([
    db.query(`SELECT FROM crucible.evaluations WHERE uid = $1 AND ${inScope('namespace_uid', 2)}`, values),
    db.query<ArtifactItem>(`${ARTIFACTS} ORDER BY f.index`, [...values, key.attempt ?? null]),
  ]);
  return found.rowCount === 0 ? undefined : rows;
}

/** By the path that the sandbox gave it, compared byte by byte. The first complete one, if there are several. */
export async function findArtifact(db: Queryable, key: RunKey, path: string, scope: Scope): Promise<ArtifactItem | undefined> {
  if (!isUid(key.uid)) return undefined;
  const { rows } = await db.query<ArtifactItem>(`${ARTIFACTS} AND f.path = $4 ORDER BY f.complete DESC, f.index LIMIT 1`, [
    key.uid, scopeParameter(scope), key.attempt ?? null, path,
  ]);
  return rows[0];
}
