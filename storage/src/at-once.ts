import type { Queryable } from './database.ts';
import { INSERT_ACCEPTED, acceptedEvent, acceptedValues, finishValues } from './evaluations.ts';
import { jsonbText } from './json.ts';
import { EVENT_TYPES } from './types.ts';
import type { AcceptedEvaluation, AttemptPod, FinalAttempt, FinishEvaluation, NewAttempt } from './types.ts';

// Changes of an attempt as most runs have them, each with its events in one statement: in steps they take five to twelve, and
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
      EVENT_TYPES.attemptStarted, jsonbText(startOf(number, { podName, node })),
    ],
  );
  return rowCount === 1;
}

function startOf(attempt: number, { podName, node }: Pick<AttemptPod, 'podName' | 'node'>): object {
  return { attempt, podName, node };
}

/** Of an attempt, in the order of its columns wherever it is ended. */
export function endValues({ podUid, startedAt, finishedAt, exitCode, signal, verdict, receipt }: FinalAttempt): unknown[] {
  const document = receipt == null ? null : jsonbText(receipt);
  return [podUid, startedAt, finishedAt, exitCode, signal, jsonbText(verdict), document];
}

/**
 * finalize, accept and finish, of the attempt that is the result. Only of one whose own pod was captured: then no capture of
 * another pod can begin meanwhile, which this statement would not see. `pod`: of an attempt that is bound to none yet, to this
 * one, as setPod would have it; it has started.
 */
export async function endAtOnce(db: Queryable, attempt: FinalAttempt, evaluation: FinishEvaluation, pod: AttemptPod | undefined): Promise<boolean> {
  if (pod !== undefined && (pod.startedAt == null || pod.podUid !== attempt.podUid)) return false;
  const { number, exitCode, signal, verdict } = attempt;
  const { phase, passed } = evaluation;
  const { rowCount } = await db.query(
    pod === undefined ? END : BIND_AND_END,
    [
      attempt.evaluationUid, attempt.epoch, number, ...endValues(attempt), ...finishValues(evaluation),
      EVENT_TYPES.attemptFinalized, jsonbText({ attempt: number, exitCode, signal, verdict }),
      EVENT_TYPES.attemptAccepted, jsonbText({ attempt: number }),
      EVENT_TYPES.evaluationFinished, jsonbText({ phase, verdict: evaluation.verdict, passed }),
      ...(pod === undefined ? [] : [pod.podName, pod.node, pod.imageDigest ?? null, pod.startedAt, EVENT_TYPES.attemptStarted, jsonbText(startOf(number, pod))]),
    ],
  );
  return rowCount === 1;
}

const END = endText(false);
const BIND_AND_END = endText(true);

function endText(withPod: boolean): string {
  const bind = withPod ? ', pod_name = $23, node = $24, image_digest = $25' : '';
  const started = withPod ? '$26::timestamptz' : 'started_at';
  const bound = withPod ? 'a.pod_uid IS NULL AND a.started_at IS NULL' : '(a.pod_uid IS NULL OR a.pod_uid = $4)';
  return `WITH locked AS (
       SELECT uid FROM crucible.evaluations
       WHERE uid = $1 AND epoch = $2 AND finished_at IS NULL AND accepted_attempt IS NULL FOR NO KEY UPDATE
     ), ended AS (
       UPDATE crucible.attempts a SET state = 'finalized', finalized_at = now(), pod_uid = $4, started_at = coalesce($5, ${started}),
         finished_at = $6, exit_code = $7, signal = $8, verdict = $9, receipt = $10, epoch = $2${bind}
       FROM locked WHERE a.evaluation_uid = locked.uid AND a.number = $3 AND a.state <> 'finalized'
         AND ${bound} AND EXISTS (
           SELECT FROM crucible.captures c WHERE c.evaluation_uid = $1 AND c.attempt = $3 AND c.pod_uid = $4)
       RETURNING a.evaluation_uid AS uid
     ), finished AS (
       UPDATE crucible.evaluations e SET accepted_attempt = $3, phase = $11, verdict = $12, passed = $13, finished_at = $14,
         passed_reason = $15, passed_message = $16, queue_reason = NULL, queue_message = NULL
       FROM ended WHERE e.uid = ended.uid RETURNING e.uid
     )
     SELECT ${withPod ? 'crucible.append_event(uid, $27, $28), ' : ''}crucible.append_event(uid, $17, $18),
       crucible.append_event(uid, $19, $20), crucible.append_event(uid, $21, $22)
     FROM finished`;
}
