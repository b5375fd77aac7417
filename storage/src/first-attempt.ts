import type { Queryable } from './database.ts';
import { INSERT_ACCEPTED, acceptedEvent, acceptedValues } from './evaluations.ts';
import { jsonbText } from './json.ts';
import { EVENT_TYPES } from './types.ts';
import type { AcceptedEvaluation, AttemptPod, NewAttempt } from './types.ts';

// Changes of an attempt as most runs have them, each with its event in one statement: in steps they take five to ten, and
// every run waits for the first. What is not as expected changes nothing, and whoever asked takes the steps, which also say
// what is wrong. As there, the row of the evaluation is locked first, and the epoch is the fence; one that is higher than
// the recorded one is left to the steps.

const LOCKED = `locked AS (SELECT uid FROM crucible.evaluations WHERE uid = $1 AND epoch = $2 FOR NO KEY UPDATE)`;

/** The columns of an attempt before anything of it is in the cluster, as attemptValues has them. */
export const NEW_ATTEMPT = 'evaluation_uid, number, job_name, image, runtime_class, timeout_seconds, accepted_risks, inputs, epoch';

export function attemptValues(input: NewAttempt): unknown[] {
  return [
    input.evaluationUid, input.number, input.jobName, input.image, input.runtimeClass, input.timeoutSeconds ?? null,
    input.acceptedRisks === undefined ? null : jsonbText(input.acceptedRisks),
    input.inputs === undefined ? null : jsonbText(input.inputs), input.epoch,
  ];
}

export async function recordFirst(db: Queryable, evaluation: AcceptedEvaluation, attempt: NewAttempt): Promise<boolean> {
  const accepted = acceptedEvent(evaluation);
  const created = { attempt: attempt.number, jobName: attempt.jobName };
  const { rowCount } = await db.query(
    `WITH accepted AS (${INSERT_ACCEPTED} RETURNING uid), created AS (
       INSERT INTO crucible.attempts (${NEW_ATTEMPT})
       SELECT uid, $14::integer, $15, $16, $17, $18::integer, $19::jsonb, $20::jsonb, $21::bigint FROM accepted
       WHERE uid = $13::uuid RETURNING evaluation_uid AS uid
     )
     SELECT crucible.append_event(uid, $22, $23), crucible.append_event(uid, $24, $25) FROM created`,
    [
      ...acceptedValues(evaluation), ...attemptValues(attempt), accepted.type, jsonbText(accepted.data),
      EVENT_TYPES.attemptCreated, jsonbText(created),
    ],
  );
  return rowCount === 1;
}

export async function setJobAtOnce(
  db: Queryable,
  { evaluationUid, number, jobUid, epoch }: { evaluationUid: string; number: number; jobUid: string; epoch: number },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `WITH ${LOCKED} UPDATE crucible.attempts a SET job_uid = $4, epoch = $2 FROM locked
     WHERE a.evaluation_uid = locked.uid AND a.number = $3 AND a.job_uid IS NULL AND a.state <> 'finalized'`,
    [evaluationUid, epoch, number, jobUid],
  );
  return rowCount === 1;
}

/** Of one that is bound to no pod yet, to one that has started. */
export async function setPodAtOnce(
  db: Queryable,
  { evaluationUid, number, epoch, podUid, podName, node, imageDigest, startedAt }: AttemptPod & { evaluationUid: string; number: number; epoch: number },
): Promise<boolean> {
  if (startedAt == null) return false;
  const { rowCount } = await db.query(
    `WITH ${LOCKED}, bound AS (
       UPDATE crucible.attempts a SET pod_name = $4, pod_uid = $5, node = $6, image_digest = $7, started_at = $8, state = 'running',
         epoch = $2
       FROM locked WHERE a.evaluation_uid = locked.uid AND a.number = $3 AND a.pod_uid IS NULL AND a.state <> 'finalized'
       RETURNING a.evaluation_uid AS uid
     )
     SELECT crucible.append_event(uid, $9, $10) FROM bound`,
    [
      evaluationUid, epoch, number, podName, podUid, node, imageDigest ?? null, startedAt,
      EVENT_TYPES.attemptStarted, jsonbText({ attempt: number, podName, node }),
    ],
  );
  return rowCount === 1;
}
