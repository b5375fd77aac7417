import type { Queryable } from '../database.ts';
import { SUBMISSION_COLUMNS } from '../submissions.ts';
import type { SubmissionRecord } from '../submissions.ts';
import type { AttemptRecord, CaptureRecord, EvaluationRecord, SeqRange, StreamLedger, StreamName, VerdictRecord } from '../types.ts';
import { inScope, isUid, scopeParameter } from './scope.ts';
import type { Scope } from './scope.ts';

export type AttemptDetail = AttemptRecord & {
  /** What came out of it; null while no recorder follows it, or when no pod ever ran. */
  capture: CaptureRecord | null;
};

export interface EvaluationDetail extends EvaluationRecord {
  priority: number;
  /** Why it waits; null when it does not. */
  queueReason: string | null;
  queueMessage: string | null;
  /** Who submitted it through the API; null when it was applied to the cluster directly. */
  submittedBy: string | null;
  /** Since when the bytes are gone by retention. */
  outputDeletedAt: Date | null;
  artifactsDeletedAt: Date | null;
  /** In order of their numbers. */
  attempts: AttemptDetail[];
}

/** Whom an id belongs to, before anything of it is shown: the caller's access is decided by this. */
export interface EvaluationOwner {
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
}

/** Undefined: nobody has submitted it, and the operator has never seen it. */
export async function findOwner(db: Queryable, uid: string): Promise<EvaluationOwner | undefined> {
  if (!isUid(uid)) return undefined;
  return (await db.query<EvaluationOwner>(OWNER, [uid])).rows[0];
}

const OWNER_COLUMNS = 'uid, namespace, namespace_uid AS "namespaceUid", name';
export const OWNER = `
  SELECT ${OWNER_COLUMNS} FROM crucible.evaluations WHERE uid = $1
  UNION SELECT ${OWNER_COLUMNS} FROM crucible.submissions WHERE uid = $1 LIMIT 1`;

/** `finished` and `accepted` are 200 and 202; undefined is 404. */
export type EvaluationState =
  | { state: 'finished'; phase: string; verdict: VerdictRecord; passed: boolean | null; finishedAt: Date }
  | { state: 'accepted'; phase: string; queueReason: string | null; queueMessage: string | null; refused: boolean };

/** Deleted before anything of it could be recorded: its end is all there is to say. */
const WITHDRAWN: VerdictRecord = {
  class: 'Cancelled', attributableTo: 'User', confidence: 'Confirmed', message: 'Deleted before it was admitted.', evidence: [],
};

interface StateRow {
  phase: string | null;
  verdict: VerdictRecord | null;
  passed: boolean | null;
  finishedAt: Date | null;
  queueReason: string | null;
  queueMessage: string | null;
  withdrawnAt: Date | null;
  refused: boolean;
}

export const STATE = `
  SELECT e.phase, e.verdict, e.passed, e.finished_at AS "finishedAt", e.queue_reason AS "queueReason",
         e.queue_message AS "queueMessage", NULL::timestamptz AS "withdrawnAt", e.refused AND e.phase = 'Queued' AS refused, 1 AS rank
  FROM crucible.evaluations e WHERE e.uid = $1 AND ${inScope('e.namespace_uid', 2)}
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, s.reason, s.message, s.withdrawn_at, s.refused, 2
  FROM crucible.submissions s WHERE s.uid = $1 AND ${inScope('s.namespace_uid', 2)} ORDER BY rank LIMIT 1`;

export async function readState(db: Queryable, uid: string, scope: Scope): Promise<EvaluationState | undefined> {
  if (!isUid(uid)) return undefined;
  const { rows } = await db.query<StateRow>(STATE, [uid, scopeParameter(scope)]);
  const row = rows[0];
  if (row === undefined) return undefined;
  if (row.withdrawnAt !== null)
    return { state: 'finished', phase: 'Cancelled', verdict: WITHDRAWN, passed: null, finishedAt: row.withdrawnAt };
  if (row.finishedAt !== null && row.verdict !== null && row.phase !== null)
    return { state: 'finished', phase: row.phase, verdict: row.verdict, passed: row.passed, finishedAt: row.finishedAt };
  // The operator has not looked at it yet; Queued is what it will say first.
  const { phase, queueReason, queueMessage, refused } = row;
  return { state: 'accepted', phase: phase ?? 'Queued', queueReason, queueMessage, refused };
}

export async function readSubmission(db: Queryable, uid: string, scope: Scope): Promise<SubmissionRecord | undefined> {
  if (!isUid(uid)) return undefined;
  const { rows } = await db.query<SubmissionRecord>(
    `SELECT ${SUBMISSION_COLUMNS} FROM crucible.submissions WHERE uid = $1 AND ${inScope('namespace_uid', 2)}`,
    [uid, scopeParameter(scope)],
  );
  return rows[0];
}

export const EVALUATION = `
  SELECT e.uid, e.namespace, e.namespace_uid AS "namespaceUid", e.name, e.generation, e.spec, e.labels, e.phase, e.verdict,
         e.passed, e.passed_reason AS "passedReason", e.passed_message AS "passedMessage", e.created_at AS "createdAt",
         e.accepted_at AS "acceptedAt", e.finished_at AS "finishedAt", e.accepted_attempt AS "acceptedAttempt",
         e.event_seq AS "eventSeq", e.epoch, e.priority, e.queue_reason AS "queueReason", e.queue_message AS "queueMessage",
         e.output_deleted_at AS "outputDeletedAt", e.artifacts_deleted_at AS "artifactsDeletedAt",
         s.submitted_by AS "submittedBy"
  FROM crucible.evaluations e LEFT JOIN crucible.submissions s ON s.uid = e.uid
  WHERE e.uid = $1 AND ${inScope('e.namespace_uid', 2)}`;

export const ATTEMPTS = `
  SELECT a.evaluation_uid AS "evaluationUid", a.number, a.job_name AS "jobName", a.job_uid AS "jobUid", a.pod_name AS "podName",
         a.pod_uid AS "podUid", a.node, a.runtime_class AS "runtimeClass", a.image, a.image_digest AS "imageDigest", a.state,
         a.epoch, a.created_at AS "createdAt", a.started_at AS "startedAt", a.finished_at AS "finishedAt",
         a.finalized_at AS "finalizedAt", a.exit_code AS "exitCode", a.signal, a.verdict,
         a.timeout_seconds AS "timeoutSeconds", a.ending, a.receipt, a.inputs,
         c.recorder, c.pod_uid AS "capturePodUid", c.state AS "captureState", c.last_seq AS "lastSeq",
         (SELECT coalesce(json_agg(json_build_object('from', lower(r), 'to', upper(r) - 1) ORDER BY lower(r)), '[]')
          FROM unnest(c.missing) r) AS missing,
         c.started_at AS "captureStartedAt", c.captured_at AS "capturedAt", c.complete, c.reason, c.summary, c.receipt AS measured,
         c.artifacts_complete AS "artifactsComplete",
         (SELECT json_build_object('count', count(*) FILTER (WHERE f.refused IS NULL),
                                   'bytes', coalesce(sum(f.size) FILTER (WHERE f.complete), 0),
                                   'refused', count(*) FILTER (WHERE f.refused IS NOT NULL))
          FROM crucible.artifacts f WHERE f.evaluation_uid = a.evaluation_uid AND f.attempt = a.number) AS artifacts,
         (SELECT json_agg(json_build_object('stream', l.stream, 'bytes', l.bytes, 'lines', l.lines, 'gaps', l.gaps,
                                            'truncated', l.truncated, 'complete', l.complete,
                                            'producedBytes', l.produced_bytes, 'sha256', l.sha256))
          FROM crucible.streams l WHERE l.evaluation_uid = a.evaluation_uid AND l.attempt = a.number) AS streams
  FROM crucible.attempts a LEFT JOIN crucible.captures c ON c.evaluation_uid = a.evaluation_uid AND c.attempt = a.number
  WHERE a.evaluation_uid = $1 ORDER BY a.number`;

interface AttemptRow extends AttemptRecord {
  recorder: string | null;
  capturePodUid: string;
  captureState: CaptureRecord['state'];
  lastSeq: number;
  missing: SeqRange[];
  captureStartedAt: Date;
  capturedAt: Date | null;
  complete: boolean | null;
  reason: string | null;
  summary: unknown;
  measured: unknown;
  artifactsComplete: boolean | null;
  artifacts: { count: number; bytes: number; refused: number };
  streams: StreamLedger[] | null;
}

/** With its attempts, their captures, ledgers and receipts. */
export async function readEvaluation(db: Queryable, uid: string, scope: Scope): Promise<EvaluationDetail | undefined> {
  if (!isUid(uid)) return undefined;
  const [evaluation, attempts] = await Promise.all([
    db.query<Omit<EvaluationDetail, 'attempts'>>(EVALUATION, [uid, scopeParameter(scope)]),
    db.query<AttemptRow>(ATTEMPTS, [uid]),
  ]);
  return evaluation.rows[0] && { ...evaluation.rows[0], attempts: attempts.rows.map(toAttempt) };
}

function toAttempt(row: AttemptRow): AttemptDetail {
  const {
    recorder, capturePodUid, captureState, lastSeq, missing, captureStartedAt, capturedAt, complete, reason, summary, measured,
    artifactsComplete, artifacts, streams, ...attempt
  } = row;
  if (recorder === null) return { ...attempt, capture: null };
  const of = (name: StreamName): StreamLedger => streams?.find(({ stream }) => stream === name) as StreamLedger;
  const capture: CaptureRecord = {
    evaluationUid: row.evaluationUid, attempt: row.number, podUid: capturePodUid, recorder, state: captureState, lastSeq, missing,
    startedAt: captureStartedAt, capturedAt, complete, reason, summary, receipt: measured,
    streams: { stdout: of('stdout'), stderr: of('stderr') },
    artifacts: { ...artifacts, complete: artifactsComplete ?? false },
  };
  return { ...attempt, capture };
}
