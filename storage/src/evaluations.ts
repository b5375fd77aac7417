import { inTransaction } from './database.ts';
import type { Database, Queryable, Transaction } from './database.ts';
import { FencedError, NotFoundError } from './errors.ts';
import { appendEvent } from './events.ts';
import { selectList } from './fields.ts';
import { jsonbText, safeText } from './json.ts';
import { EVENT_TYPES } from './types.ts';
import type { AcceptedEvaluation, EvaluationRecord, FinishEvaluation, FinishOutcome, NewEvent } from './types.ts';

/** All but what was asked for, which may be large. */
export const STATE_COLUMNS = [
  'uid', 'namespace', 'namespace_uid', 'name', 'generation', 'phase', 'verdict', 'passed', 'passed_reason', 'passed_message',
  'created_at', 'accepted_at', 'finished_at', 'accepted_attempt', 'event_seq', 'epoch',
] as const;
const COLUMNS = selectList([...STATE_COLUMNS, 'spec', 'labels']);
const MAX_PAGE = 1000;
const MAX_REASON = 100;
const MAX_MESSAGE = 1024;
const MAX_PRIORITY = 999_999_999;
const NIL_UID = '00000000-0000-0000-0000-000000000000';

/** A word and a sentence. */
export interface Waits {
  readonly reason: string;
  readonly message: string;
  /** Its owner has to change something. */
  readonly refused?: boolean;
}

/** Written by the operator alone. Every change is fenced by the leader's epoch and writes its event. */
export class EvaluationRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Records an admitted evaluation; again with a higher generation it takes over spec and labels (cancel, priority).
   * A finished one is left as it is. Idempotent. Throws FencedError.
   */
  async upsertAccepted(input: AcceptedEvaluation, tx?: Transaction): Promise<{ created: boolean }> {
    return await inTransaction(this.#db, tx, async (tx) => {
      const values = acceptedValues(input);
      const { rowCount } = await tx.query(INSERT_ACCEPTED, values);
      if (rowCount === 1) {
        await appendEvent(tx, input.uid, acceptedEvent(input));
        return { created: true };
      }
      await lockEvaluation(tx, input.uid, input.epoch);
      const { 4: generation, 5: spec, 6: labels, 8: priority } = values;
      await tx.query(
        `UPDATE crucible.evaluations SET generation = $2, spec = $3, labels = $4, priority = $5
         WHERE uid = $1 AND generation < $2 AND finished_at IS NULL`,
        [input.uid, generation, spec, labels, priority],
      );
      return { created: false };
    });
  }

  /** No change (and no event) when it has that phase or is finished. Throws NotFoundError, FencedError. */
  async setPhase(input: { uid: string; phase: string; epoch: number }, tx?: Transaction): Promise<{ changed: boolean }> {
    if (tx === undefined && (await setPhaseAtOnce(this.#db, input))) return { changed: true };
    return await inTransaction(this.#db, tx, async (tx) => {
      const row = await lockEvaluation(tx, input.uid, input.epoch);
      const { phase, finishedAt } = row;
      if (phase === input.phase || finishedAt !== null) return { changed: false };
      await tx.query(
        `UPDATE crucible.evaluations SET phase = $2, queue_reason = CASE WHEN $2 = 'Queued' THEN queue_reason END,
           queue_message = CASE WHEN $2 = 'Queued' THEN queue_message END WHERE uid = $1`,
        [input.uid, input.phase],
      );
      await appendEvent(tx, input.uid, { type: EVENT_TYPES.evaluationPhase, data: { from: phase, to: input.phase } });
      row.phase = input.phase;
      return { changed: true };
    });
  }

  /**
   * Why it waits, or, refused, never will start as it is, as its status says; undefined when it does not. For readers of the queue:
   * no event, and nothing happens to what is finished, not recorded yet, or written by a newer leader.
   */
  async setQueue(input: { uid: string; queue: Waits | undefined; epoch: number }): Promise<{ changed: boolean }> {
    const reason = input.queue === undefined ? null : safeText(input.queue.reason).slice(0, MAX_REASON);
    const message = input.queue === undefined ? null : safeText(input.queue.message).slice(0, MAX_MESSAGE);
    const { rowCount } = await this.#db.query(
      `UPDATE crucible.evaluations SET queue_reason = $2, queue_message = $3, refused = $5 WHERE uid = $1 AND finished_at IS NULL AND epoch <= $4
         AND (queue_reason, queue_message, refused) IS DISTINCT FROM ($2::text, $3::text, $5::boolean)`,
      [input.uid, reason, message, input.epoch, input.queue?.refused ?? false],
    );
    return { changed: rowCount > 0 };
  }

  /** Writes the end, once: compare-and-set on `finished_at is null`. Throws NotFoundError. */
  async finish(input: FinishEvaluation, tx?: Transaction): Promise<FinishOutcome> {
    return await inTransaction(this.#db, tx, async (tx) => {
      const row = await lockUnlessFenced(tx, input.uid, input.epoch);
      if (row === undefined) return 'conflict';
      const verdict = jsonbText(input.verdict);
      if (row.finishedAt !== null) {
        const { rows } = await tx.query<{ same: boolean }>(
          `SELECT phase = $2 AND verdict = $3::jsonb AND passed IS NOT DISTINCT FROM $4::boolean AS same
           FROM crucible.evaluations WHERE uid = $1`,
          [input.uid, input.phase, verdict, input.passed],
        );
        return rows[0]?.same === true ? 'already' : 'conflict';
      }
      await tx.query(
        `UPDATE crucible.evaluations SET phase = $2, verdict = $3, passed = $4, finished_at = $5, passed_reason = $6,
           passed_message = $7, queue_reason = NULL, queue_message = NULL WHERE uid = $1`,
        [input.uid, ...finishValues(input)],
      );
      const data = { phase: input.phase, verdict: input.verdict, passed: input.passed };
      await appendEvent(tx, input.uid, { type: EVENT_TYPES.evaluationFinished, data });
      row.phase = input.phase;
      row.finishedAt = input.finishedAt;
      return 'finished';
    });
  }

  async get(uid: string, tx?: Transaction): Promise<EvaluationRecord | undefined> {
    return await one(tx ?? this.#db, `SELECT ${COLUMNS} FROM crucible.evaluations WHERE uid = $1`, [uid]);
  }

  /** The newest one of that name. */
  async findByName(namespace: string, name: string): Promise<EvaluationRecord | undefined> {
    const text = `SELECT ${COLUMNS} FROM crucible.evaluations WHERE namespace = $1 AND name = $2
                  ORDER BY created_at DESC, accepted_at DESC LIMIT 1`;
    return await one(this.#db, text, [namespace, name]);
  }

  /** The highest that has written anything: a leader of a lower one is refused. 0 when there is none. */
  async maxEpoch(): Promise<number> {
    const { rows } = await this.#db.query<{ epoch: number | null }>('SELECT max(epoch) AS epoch FROM crucible.evaluations');
    return rows[0]?.epoch ?? 0;
  }

  /**
   * By uid, ascending, for janitors; at most 1000, from the one after `after`. Without their specs: those of ten thousand
   * that wait may be a gigabyte.
   */
  async listUnfinished(options: { after?: string; limit?: number } = {}): Promise<Pick<EvaluationRecord, 'uid' | 'acceptedAt'>[]> {
    const { rows } = await this.#db.query<Pick<EvaluationRecord, 'uid' | 'acceptedAt'>>(
      `SELECT uid, accepted_at AS "acceptedAt" FROM crucible.evaluations WHERE finished_at IS NULL AND uid > $1 ORDER BY uid LIMIT $2`,
      [options.after ?? NIL_UID, Math.min(options.limit ?? MAX_PAGE, MAX_PAGE)],
    );
    return rows;
  }
}

/** $1 to $12: acceptedValues. */
export const INSERT_ACCEPTED = `INSERT INTO crucible.evaluations
    (uid, namespace, namespace_uid, name, generation, spec, labels, phase, priority, runtime, created_at, epoch)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (uid) DO NOTHING`;

export function acceptedValues(input: AcceptedEvaluation): unknown[] {
  return [
    input.uid, input.namespace, input.namespaceUid, input.name, input.generation, JSON.stringify(input.spec),
    jsonbText(input.labels ?? {}), input.phase, priorityOf(input.spec), runtimeOf(input.spec), input.createdAt, input.epoch,
  ];
}

export function acceptedEvent({ namespace, name, phase }: AcceptedEvaluation): NewEvent {
  return { type: EVENT_TYPES.evaluationAccepted, data: { namespace, name, phase } };
}

/** Of an evaluation, in the order of its columns wherever it is ended. */
export function finishValues({ phase, verdict, passed, finishedAt, score }: FinishEvaluation): unknown[] {
  return [phase, jsonbText(verdict), passed, finishedAt, score?.reason ?? null, score === undefined ? null : safeText(score.message)];
}

/**
 * As setPhase in steps, in one statement, for the leader that has written it last. False: it has that phase, is finished,
 * or was written by another leader.
 */
async function setPhaseAtOnce(db: Queryable, { uid, phase, epoch }: { uid: string; phase: string; epoch: number }): Promise<boolean> {
  const { rowCount } = await db.query(
    `WITH before AS (
       SELECT uid, phase FROM crucible.evaluations
       WHERE uid = $1 AND epoch = $3 AND finished_at IS NULL AND phase <> $2 FOR NO KEY UPDATE
     ), changed AS (
       UPDATE crucible.evaluations e SET phase = $2, queue_reason = CASE WHEN $2 = 'Queued' THEN queue_reason END,
         queue_message = CASE WHEN $2 = 'Queued' THEN queue_message END
       FROM before WHERE e.uid = before.uid RETURNING e.uid, before.phase AS "from"
     )
     SELECT crucible.append_event(uid, $4, jsonb_build_object('from', "from", 'to', $2::text)) FROM changed`,
    [uid, phase, epoch, EVENT_TYPES.evaluationPhase],
  );
  return rowCount === 1;
}

/** The resource's schema has made it an integer; what is kept here is only an order. */
function priorityOf(spec: object): number {
  const { priority } = spec as { priority?: unknown };
  return typeof priority === 'number' && Number.isInteger(priority) ? Math.max(-MAX_PRIORITY, Math.min(priority, MAX_PRIORITY)) : 0;
}

function runtimeOf(spec: object): string | null {
  const { runtime } = spec as { runtime?: unknown };
  return typeof runtime === 'string' ? runtime : null;
}

async function one(db: Queryable, text: string, values: unknown[]): Promise<EvaluationRecord | undefined> {
  return (await db.query<EvaluationRecord>(text, values)).rows[0];
}

/** As it is within the transaction: who changes the row changes this too. */
export interface LockedEvaluation {
  phase: string;
  finishedAt: Date | null;
  acceptedAttempt: number | null;
  epoch: number;
}

/** What a transaction has locked already, it need not ask for again. */
const LOCKED = new WeakMap<Transaction, Map<string, LockedEvaluation>>();

/**
 * Every change of an evaluation or its attempts locks this row first: one order, so no deadlocks, and one place for the
 * fence. A higher epoch is recorded, and from then on lower ones are refused.
 */
export async function lockEvaluation(tx: Transaction, uid: string, epoch: number): Promise<LockedEvaluation> {
  const locked = LOCKED.get(tx) ?? new Map<string, LockedEvaluation>();
  LOCKED.set(tx, locked);
  const row = locked.get(uid) ?? (await lockRow(tx, uid));
  if (row === undefined) throw new NotFoundError(`there is no evaluation ${uid}`);
  locked.set(uid, row);
  if (row.epoch > epoch) throw new FencedError(`a leader of epoch ${row.epoch} has written evaluation ${uid}, this one is of ${epoch}`);
  if (row.epoch < epoch) await tx.query('UPDATE crucible.evaluations SET epoch = $2 WHERE uid = $1', [uid, epoch]);
  row.epoch = epoch;
  return row;
}

async function lockRow(tx: Transaction, uid: string): Promise<LockedEvaluation | undefined> {
  const { rows } = await tx.query<LockedEvaluation>(
    `SELECT phase, finished_at AS "finishedAt", accepted_attempt AS "acceptedAttempt", epoch
     FROM crucible.evaluations WHERE uid = $1 FOR NO KEY UPDATE`,
    [uid],
  );
  return rows[0];
}

/** Undefined when fenced, for those who answer `conflict`. The transaction stays usable. */
export async function lockUnlessFenced(tx: Transaction, uid: string, epoch: number): Promise<LockedEvaluation | undefined> {
  try {
    return await lockEvaluation(tx, uid, epoch);
  } catch (error) {
    if (error instanceof FencedError) return undefined;
    throw error;
  }
}
