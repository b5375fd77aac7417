import { captureColumns, captureOf } from './capture-record.ts';
import { inTransaction } from './database.ts';
import type { Database, Queryable, Transaction } from './database.ts';
import { ConflictError, NotFoundError } from './errors.ts';
import { STATE_COLUMNS, lockEvaluation, lockUnlessFenced } from './evaluations.ts';
import { appendEvent } from './events.ts';
import { selectList } from './fields.ts';
import { NEW_ATTEMPT, attemptValues, endAtOnce, endValues, recordFirst, setJobAtOnce, setPodAtOnce } from './at-once.ts';
import { jsonbText } from './json.ts';
import { EVENT_TYPES } from './types.ts';
import type {
  AcceptOutcome, AcceptedEvaluation, AttemptIdentity, AttemptPod, AttemptRecord, CaptureRecord, EvaluationProgress, FinalAttempt, FinalizeOutcome,
  FinishEvaluation, NewAttempt, VerdictRecord,
} from './types.ts';

const FIELDS = [
  'evaluation_uid', 'number', 'job_name', 'job_uid', 'pod_name', 'pod_uid', 'node', 'runtime_class', 'image', 'image_digest', 'state',
  'epoch', 'created_at', 'started_at', 'finished_at', 'finalized_at', 'exit_code', 'signal', 'verdict', 'timeout_seconds', 'ending',
  'receipt', 'accepted_risks', 'inputs',
] as const;
const COLUMNS = selectList(FIELDS);
/** Before the names of an attempt's columns, and of its capture's, beside those of its evaluation. */
const OF_ATTEMPT = 'attempt.';
const OF_CAPTURE = 'capture.';

interface AttemptKey {
  evaluationUid: string;
  number: number;
}

/** Written by the operator alone. Every change is fenced by the leader's epoch. */
export class AttemptRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Idempotent on (evaluation, number); as long as it has no Job, the row follows what is to be launched. Throws ConflictError
   * when the number is taken by another Job name, the attempt before it is not finalized, or the evaluation is finished;
   * FencedError; NotFoundError.
   */
  async create(input: NewAttempt, tx?: Transaction): Promise<{ created: boolean; attempt: AttemptRecord }> {
    return await inTransaction(this.#db, tx, async (tx) => {
      const { finishedAt } = await lockEvaluation(tx, input.evaluationUid, input.epoch);
      const existing = await read(tx, input);
      if (existing !== undefined) {
        if (existing.jobName === input.jobName) return { created: false, attempt: await withTerms(tx, existing, input) };
        throw new ConflictError(`attempt ${input.number} of evaluation ${input.evaluationUid} has another Job`);
      }
      if (finishedAt !== null) throw new ConflictError(`evaluation ${input.evaluationUid} is finished`);
      const before = { evaluationUid: input.evaluationUid, number: input.number - 1 };
      if (input.number > 1 && (await read(tx, before))?.state !== 'finalized') {
        throw new ConflictError(`attempt ${input.number - 1} of evaluation ${input.evaluationUid} is not finalized`);
      }
      const { rows } = await tx.query<AttemptRecord>(
        `INSERT INTO crucible.attempts (${NEW_ATTEMPT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING ${COLUMNS}`,
        attemptValues(input),
      );
      const data = { attempt: input.number, jobName: input.jobName };
      await appendEvent(tx, input.evaluationUid, { type: EVENT_TYPES.attemptCreated, data });
      return { created: true, attempt: rows[0] as AttemptRecord };
    });
  }

  /**
   * upsertAccepted and create of what is not recorded at all, which is how most runs begin, in one statement. False: the
   * evaluation is there already, and nothing was done.
   */
  async createFirst(evaluation: AcceptedEvaluation, attempt: NewAttempt): Promise<boolean> {
    return await recordFirst(this.#db, evaluation, attempt);
  }

  /** Once known, the Job's UID makes its pods trusted by the recorder. Idempotent. Throws ConflictError on another UID. */
  async setJob(input: AttemptKey & { jobUid: string; epoch: number }, tx?: Transaction): Promise<void> {
    if (await setJobAtOnce(tx ?? this.#db, input)) return;
    await inTransaction(this.#db, tx, async (tx) => {
      const attempt = await lock(tx, input);
      if (attempt.jobUid === input.jobUid) return;
      if (attempt.jobUid !== null || attempt.state === 'finalized') {
        throw new ConflictError(`attempt ${input.number} of evaluation ${input.evaluationUid} has another Job or is finalized`);
      }
      await tx.query('UPDATE crucible.attempts SET job_uid = $3, epoch = $4 WHERE evaluation_uid = $1 AND number = $2', [
        input.evaluationUid, input.number, input.jobUid, input.epoch,
      ]);
    });
  }

  /**
   * Binds the pod, and later adds what becomes known of it (node, digest, start): what is not given stays. `startedAt`
   * makes the attempt `running`. Throws ConflictError when it is bound to, or captured from, another pod, or finalized.
   */
  async setPod(input: AttemptKey & AttemptPod & { epoch: number }, tx?: Transaction): Promise<void> {
    if (await setPodAtOnce(tx ?? this.#db, input)) return;
    await inTransaction(this.#db, tx, async (tx) => {
      const attempt = await lock(tx, input);
      const next = {
        podName: input.podName,
        podUid: input.podUid,
        node: input.node ?? attempt.node,
        imageDigest: input.imageDigest ?? attempt.imageDigest,
        startedAt: input.startedAt ?? attempt.startedAt,
      };
      if (samePod(attempt, next)) return;
      if (attempt.state === 'finalized' || (attempt.podUid !== null && attempt.podUid !== input.podUid)) {
        throw new ConflictError(`attempt ${input.number} of evaluation ${input.evaluationUid} has another pod or is finalized`);
      }
      await tx.query(
        `UPDATE crucible.attempts SET pod_name = $3, pod_uid = $4, node = $5, image_digest = $6, started_at = $7, epoch = $8,
           state = CASE WHEN $7::timestamptz IS NULL THEN state ELSE 'running' END
         WHERE evaluation_uid = $1 AND number = $2`,
        [
          input.evaluationUid, input.number, next.podName, next.podUid, next.node, next.imageDigest, next.startedAt,
          input.epoch,
        ],
      );
      if (attempt.startedAt !== null || next.startedAt === null) return;
      const data = { attempt: input.number, podName: next.podName, node: next.node };
      await appendEvent(tx, input.evaluationUid, { type: EVENT_TYPES.attemptStarted, data });
    });
  }

  /**
   * Notes why the start is given up, before the pod is ended: its status will not say. Not the end of the attempt, and
   * no event. Throws ConflictError when it is finalized.
   */
  async setEnding(input: AttemptKey & { ending: VerdictRecord; epoch: number }, tx?: Transaction): Promise<void> {
    await inTransaction(this.#db, tx, async (tx) => {
      const attempt = await lock(tx, input);
      if (attempt.state === 'finalized')
        throw new ConflictError(`attempt ${input.number} of evaluation ${input.evaluationUid} is finalized`);
      await tx.query('UPDATE crucible.attempts SET ending = $3, epoch = $4 WHERE evaluation_uid = $1 AND number = $2', [
        input.evaluationUid, input.number, jsonbText(input.ending), input.epoch,
      ]);
    });
  }

  /** The end of the attempt, once and for all. Throws NotFoundError. */
  async finalize(input: FinalAttempt, tx?: Transaction): Promise<FinalizeOutcome> {
    return await inTransaction(this.#db, tx, async (tx) => {
      const allowed = await lockUnlessFenced(tx, input.evaluationUid, input.epoch);
      const attempt = await readLocked(tx, input);
      if (attempt.state === 'finalized') return (await sameEnd(tx, input)) ? 'already' : 'conflict';
      if (allowed === undefined || (attempt.podUid ?? input.podUid) !== input.podUid) return 'conflict';
      // Exact, because a new capture waits for the attempt's row lock that we hold.
      const { rowCount } = await tx.query(
        `UPDATE crucible.attempts SET state = 'finalized', finalized_at = now(), pod_uid = $3, started_at = coalesce($4, started_at),
           finished_at = $5, exit_code = $6, signal = $7, verdict = $8, receipt = $9, epoch = $10
         WHERE evaluation_uid = $1 AND number = $2 AND NOT EXISTS (
           SELECT FROM crucible.captures c WHERE c.evaluation_uid = $1 AND c.attempt = $2 AND c.pod_uid IS DISTINCT FROM $3::uuid)`,
        [input.evaluationUid, input.number, ...endValues(input), input.epoch],
      );
      if (rowCount === 0) return 'conflict';
      const { number, exitCode, signal, verdict } = input;
      const data = { attempt: number, exitCode, signal, verdict };
      await appendEvent(tx, input.evaluationUid, { type: EVENT_TYPES.attemptFinalized, data });
      return 'finalized';
    });
  }

  /** Makes this finalized attempt the evaluation's result, if there is none. Throws NotFoundError, ConflictError when not finalized. */
  async accept(input: AttemptKey & { epoch: number }, tx?: Transaction): Promise<AcceptOutcome> {
    return await inTransaction(this.#db, tx, async (tx) => {
      const row = await lockUnlessFenced(tx, input.evaluationUid, input.epoch);
      if (row === undefined) return 'conflict';
      if (row.acceptedAttempt !== null) return row.acceptedAttempt === input.number ? 'already' : 'conflict';
      const attempt = await readLocked(tx, input);
      if (attempt.state !== 'finalized') throw new ConflictError('only a finalized attempt can be accepted');
      await tx.query('UPDATE crucible.evaluations SET accepted_attempt = $2 WHERE uid = $1', [
        input.evaluationUid, input.number,
      ]);
      const data = { attempt: input.number };
      await appendEvent(tx, input.evaluationUid, { type: EVENT_TYPES.attemptAccepted, data });
      row.acceptedAttempt = input.number;
      return 'accepted';
    });
  }

  /**
   * finalize and accept of an attempt that ran and was captured, and the end of its evaluation, in one statement; before them
   * setPod of `pod`, for one that was over before anybody saw it run. False: something is not as it is for most runs, and nothing was done.
   */
  async finishRun(attempt: FinalAttempt, evaluation: FinishEvaluation, pod?: AttemptPod): Promise<boolean> {
    return await endAtOnce(this.#db, attempt, evaluation, pod);
  }

  async get(evaluationUid: string, number: number): Promise<AttemptRecord | undefined> {
    return await read(this.#db, { evaluationUid, number });
  }

  /** In order of their numbers. */
  async list(evaluationUid: string): Promise<AttemptRecord[]> {
    const { rows } = await this.#db.query<AttemptRecord>(
      `SELECT ${COLUMNS} FROM crucible.attempts WHERE evaluation_uid = $1 ORDER BY number`,
      [evaluationUid],
    );
    return rows;
  }

  /** An evaluation, its attempts in order of their numbers, and what is captured of the last one. */
  async withEvaluation(evaluationUid: string): Promise<RecordedRun> {
    const { rows } = await this.#db.query<Record<string, unknown>>(
      `SELECT ${selectList(STATE_COLUMNS, 'e.')}, ${selectList(FIELDS, 'a.', OF_ATTEMPT)}, c.*
       FROM crucible.evaluations e LEFT JOIN crucible.attempts a ON a.evaluation_uid = e.uid
       LEFT JOIN LATERAL (SELECT ${captureColumns(OF_CAPTURE)} FROM crucible.captures
         WHERE captures.evaluation_uid = a.evaluation_uid AND captures.attempt = a.number) c ON true
       WHERE e.uid = $1 ORDER BY a.number`,
      [evaluationUid],
    );
    const parts = rows.map(splitRow);
    const attempts = parts.flatMap(({ attempt }) => attempt ?? []);
    return { evaluation: parts[0]?.evaluation, attempts, capture: parts.at(-1)?.capture };
  }

  /** For the recorder, whose role sees only this much: it trusts pods of Jobs that are found here. */
  async findByJobUid(jobUid: string): Promise<AttemptIdentity | undefined> {
    const { rows } = await this.#db.query<AttemptIdentity>(
      `SELECT a.evaluation_uid AS "evaluationUid", a.number, e.namespace, e.name, a.job_name AS "jobName",
              a.job_uid AS "jobUid", a.pod_uid AS "podUid", a.state
       FROM crucible.attempts a JOIN crucible.evaluations e ON e.uid = a.evaluation_uid WHERE a.job_uid = $1`,
      [jobUid],
    );
    return rows[0];
  }
}

async function read(db: Queryable, key: AttemptKey, suffix = ''): Promise<AttemptRecord | undefined> {
  const text = `SELECT ${COLUMNS} FROM crucible.attempts WHERE evaluation_uid = $1 AND number = $2 ${suffix}`;
  return (await db.query<AttemptRecord>(text, [key.evaluationUid, key.number])).rows[0];
}

/** Before anything of it is in the cluster it has the terms of its launch, whichever were recorded first. */
async function withTerms(tx: Transaction, existing: AttemptRecord, input: NewAttempt): Promise<AttemptRecord> {
  if (existing.jobUid !== null || existing.state !== 'created') return existing;
  const { rows } = await tx.query<AttemptRecord>(
    `UPDATE crucible.attempts SET image = $3, runtime_class = $4, timeout_seconds = $5, accepted_risks = $6, epoch = $7
     WHERE evaluation_uid = $1 AND number = $2 RETURNING ${COLUMNS}`,
    [
      input.evaluationUid, input.number, input.image, input.runtimeClass, input.timeoutSeconds ?? null,
      input.acceptedRisks === undefined ? null : jsonbText(input.acceptedRisks), input.epoch,
    ],
  );
  return rows[0] as AttemptRecord;
}

export interface RecordedRun {
  evaluation: EvaluationProgress | undefined;
  attempts: AttemptRecord[];
  /** Of the last attempt. */
  capture: CaptureRecord | undefined;
}

function splitRow(row: Record<string, unknown>): { evaluation: EvaluationProgress; attempt: AttemptRecord | undefined; capture: CaptureRecord | undefined } {
  const evaluation: Record<string, unknown> = {};
  const attempt: Record<string, unknown> = {};
  const capture: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(row)) {
    if (name.startsWith(OF_ATTEMPT)) attempt[name.slice(OF_ATTEMPT.length)] = value;
    else if (name.startsWith(OF_CAPTURE)) capture[name.slice(OF_CAPTURE.length)] = value;
    else evaluation[name] = value;
  }
  const found = attempt['number'] === null ? undefined : (attempt as unknown as AttemptRecord);
  return { evaluation: evaluation as unknown as EvaluationProgress, attempt: found, capture: captureOf(capture) };
}

async function readLocked(tx: Transaction, key: AttemptKey): Promise<AttemptRecord> {
  const attempt = await read(tx, key, 'FOR NO KEY UPDATE');
  if (attempt === undefined) throw new NotFoundError(`there is no attempt ${key.number} of evaluation ${key.evaluationUid}`);
  return attempt;
}

async function lock(tx: Transaction, input: AttemptKey & { epoch: number }): Promise<AttemptRecord> {
  await lockEvaluation(tx, input.evaluationUid, input.epoch);
  return await readLocked(tx, input);
}

type PodFields = Pick<AttemptRecord, 'podName' | 'podUid' | 'node' | 'imageDigest' | 'startedAt'>;

function samePod(a: PodFields, b: PodFields): boolean {
  return (
    a.podName === b.podName && a.podUid === b.podUid && a.node === b.node && a.imageDigest === b.imageDigest &&
    a.startedAt?.getTime() === b.startedAt?.getTime()
  );
}

async function sameEnd(tx: Transaction, input: FinalAttempt): Promise<boolean> {
  const { rows } = await tx.query<{ same: boolean }>(
    `SELECT (pod_uid, exit_code, signal, verdict) IS NOT DISTINCT FROM ($3::uuid, $4::integer, $5::text, $6::jsonb) AS same
     FROM crucible.attempts WHERE evaluation_uid = $1 AND number = $2`,
    [input.evaluationUid, input.number, input.podUid, input.exitCode, input.signal, jsonbText(input.verdict)],
  );
  return rows[0]?.same === true;
}
