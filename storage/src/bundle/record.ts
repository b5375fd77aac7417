import type { Database } from '../database.ts';
import { ConflictError, NotFoundError } from '../errors.ts';
import type { VerdictRecord } from '../types.ts';

/** evaluation.json: what the record says of the run as a whole. */
export interface EvaluationDocument {
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
  generation: number;
  labels: Record<string, string>;
  phase: string;
  verdict: VerdictRecord;
  passed: boolean | null;
  passedReason: string | null;
  passedMessage: string | null;
  createdAt: Date;
  acceptedAt: Date;
  finishedAt: Date;
  acceptedAttempt: number | null;
  outputDeletedAt: Date | null;
  artifactsDeletedAt: Date | null;
}

/** The evaluation has not ended: there is no evidence of how it did. */
export class NotFinishedError extends ConflictError {}

/** Throws NotFoundError, NotFinishedError. The spec is the text as it was stored. */
export async function readRun(db: Database, uid: string): Promise<{ evaluation: EvaluationDocument; spec: string }> {
  const { rows } = await db.query<EvaluationDocument & { spec: string }>(
    `SELECT uid, namespace, namespace_uid AS "namespaceUid", name, generation, labels, phase, verdict, passed,
            passed_reason AS "passedReason", passed_message AS "passedMessage", created_at AS "createdAt",
            accepted_at AS "acceptedAt", finished_at AS "finishedAt", accepted_attempt AS "acceptedAttempt",
            output_deleted_at AS "outputDeletedAt", artifacts_deleted_at AS "artifactsDeletedAt", spec::text AS spec
     FROM crucible.evaluations WHERE uid = $1`,
    [uid],
  );
  if (rows[0] === undefined) throw new NotFoundError(`there is no evaluation ${uid}`);
  const { spec, ...evaluation } = rows[0];
  if (evaluation.finishedAt === null) throw new NotFinishedError(`evaluation ${uid} has not finished: its bundle can be made when it has`);
  return { evaluation, spec };
}
