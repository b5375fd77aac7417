import { inTransaction } from './database.ts';
import type { Database, Transaction } from './database.ts';
import { ConflictError, FencedError, NotFoundError, QueryError } from './errors.ts';
import { jsonbText, safeText } from './json.ts';
import type { VerdictRecord } from './types.ts';

/** How a run counts: met expect (or succeeded without one); did not; was broken by the infrastructure; never ended. */
export const RUN_OUTCOMES = ['Passed', 'Failed', 'InfrastructureFailed', 'Cancelled'] as const;
export type RunOutcome = (typeof RUN_OUTCOMES)[number];

/** Types of the events that storage writes with the change they tell of. */
export const SUITE_EVENT_TYPES = { accepted: 'suite.accepted', phase: 'suite.phase', finished: 'suite.finished' } as const;

export interface AcceptedSuite {
  uid: string;
  namespace: string;
  /** UID of the namespace: one recreated under an old name inherits nothing. */
  namespaceUid: string;
  name: string;
  generation: number;
  /** Stored verbatim. */
  spec: object;
  labels?: Readonly<Record<string, string>>;
  phase: string;
  /** Of every cell, in order: cell 1 first. */
  cells: readonly Readonly<Record<string, string>>[];
  samples: number;
  /** metadata.creationTimestamp of the resource. */
  createdAt: Date;
  /** The leader's lease epoch; a lower one than the row has seen is refused. */
  epoch: number;
}

/** One run of one cell, both from 1. */
export interface RunPlace {
  cell: number;
  sample: number;
}

export interface RunResult extends RunPlace {
  outcome: RunOutcome;
  /** null when it was deleted before anything was recorded of it. */
  verdictClass: string | null;
  attempts: number;
  finishedAt: Date;
}

/** What changed since the last time. Repeating it changes nothing. */
export interface SuiteProgress {
  uid: string;
  epoch: number;
  phase: string;
  summary: object;
  /** Of cells whose summary is another one now. */
  cells: readonly { cell: number; summary: object }[];
  results: readonly RunResult[];
  /** Set once, with the last results. */
  end?: { reason: string; message: string; finishedAt: Date } | undefined;
}

export interface SuiteRecord {
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
  generation: number;
  spec: object;
  labels: Record<string, string>;
  phase: string;
  reason: string | null;
  message: string | null;
  total: number;
  createdAt: Date;
  acceptedAt: Date;
  finishedAt: Date | null;
  epoch: number;
}

export interface SuiteRunRecord extends RunPlace {
  evaluationUid: string;
  evaluationName: string;
  createdAt: Date;
  outcome: RunOutcome | null;
  verdictClass: string | null;
  attempts: number | null;
  finishedAt: Date | null;
  /** While there is no outcome: what the record says of its evaluation; null when it knows none. */
  evaluation: { finishedAt: Date | null; verdict: VerdictRecord | null; passed: boolean | null; attempts: number } | null;
}

const COLUMNS = `uid, namespace, namespace_uid AS "namespaceUid", name, generation, spec, labels, phase, reason, message, total,
  created_at AS "createdAt", accepted_at AS "acceptedAt", finished_at AS "finishedAt", epoch`;
const NIL_UID = '00000000-0000-0000-0000-000000000000';
const MAX_PAGE = 1000;

/** Written by the operator alone. Every change is fenced by the leader's epoch and writes its event. */
export class SuiteRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Records an accepted suite and its cells; again with a higher generation it takes over spec and labels. Idempotent. */
  async upsertAccepted(input: AcceptedSuite): Promise<{ created: boolean }> {
    return await this.#db.transaction(async (tx) => {
      const { uid, namespace, namespaceUid, name, generation, phase, createdAt, epoch } = input;
      const spec = JSON.stringify(input.spec);
      const labels = jsonbText(input.labels ?? {});
      const total = input.cells.length * input.samples;
      const { rowCount } = await tx.query(
        `INSERT INTO crucible.suites (uid, namespace, namespace_uid, name, generation, spec, labels, phase, total, created_at, epoch)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (uid) DO NOTHING`,
        [uid, namespace, namespaceUid, name, generation, spec, labels, phase, total, createdAt, epoch],
      );
      if (rowCount === 1) {
        await tx.query(
          `INSERT INTO crucible.suite_cells (suite_uid, cell, parameters)
           SELECT $1, ordinality, value FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY`,
          [uid, jsonbText(input.cells)],
        );
        await append(tx, uid, SUITE_EVENT_TYPES.accepted, { namespace, name, total });
        return { created: true };
      }
      await lock(tx, uid, epoch);
      await tx.query(
        `UPDATE crucible.suites SET generation = $2, spec = $3, labels = $4
         WHERE uid = $1 AND generation < $2 AND finished_at IS NULL`,
        [uid, generation, spec, labels],
      );
      return { created: false };
    });
  }

  /** Which Evaluation is that run. Idempotent; throws ConflictError when it is another one already. */
  async addRun(input: RunPlace & { uid: string; epoch: number; evaluationUid: string; evaluationName: string }): Promise<void> {
    const { uid, epoch, cell, sample, evaluationUid, evaluationName } = input;
    await this.#db.transaction(async (tx) => {
      await lock(tx, uid, epoch);
      const { rows } = await tx.query<{ known: string }>(
        'SELECT evaluation_uid AS known FROM crucible.suite_runs WHERE suite_uid = $1 AND cell = $2 AND sample = $3',
        [uid, cell, sample],
      );
      if (rows[0]?.known === evaluationUid) return;
      if (rows[0] !== undefined) throw new ConflictError(`that run of suite ${uid} is another evaluation`);
      await tx.query(
        `INSERT INTO crucible.suite_runs (suite_uid, cell, sample, evaluation_uid, evaluation_name) VALUES ($1, $2, $3, $4, $5)`,
        [uid, cell, sample, evaluationUid, evaluationName],
      );
    });
  }

  /** Results, counts and phase in one transaction. A finished suite is left as it is: `already`. */
  async save(input: SuiteProgress, tx?: Transaction): Promise<'saved' | 'already'> {
    return await inTransaction(this.#db, tx, async (tx) => {
      const { uid, phase, end } = input;
      const before = await lock(tx, uid, input.epoch);
      if (before.finishedAt !== null) return 'already';
      await tx.query(
        `UPDATE crucible.suite_runs r SET outcome = n.outcome, verdict_class = n."verdictClass", attempts = n.attempts, finished_at = n."finishedAt"
         FROM jsonb_to_recordset($2::jsonb) AS n(cell int, sample int, outcome text, "verdictClass" text, attempts int, "finishedAt" timestamptz)
         WHERE r.suite_uid = $1 AND r.cell = n.cell AND r.sample = n.sample AND r.outcome IS NULL`,
        [uid, jsonbText(input.results)],
      );
      await tx.query(
        `UPDATE crucible.suite_cells c SET summary = n.summary FROM jsonb_to_recordset($2::jsonb) AS n(cell int, summary jsonb)
         WHERE c.suite_uid = $1 AND c.cell = n.cell AND c.summary <> n.summary`,
        [uid, jsonbText(input.cells)],
      );
      const message = end === undefined ? null : safeText(end.message);
      await tx.query(
        'UPDATE crucible.suites SET phase = $2, summary = $3, reason = $4, message = $5, finished_at = $6 WHERE uid = $1',
        [uid, phase, jsonbText(input.summary), end?.reason ?? null, message, end?.finishedAt ?? null],
      );
      if (end !== undefined) await append(tx, uid, SUITE_EVENT_TYPES.finished, { phase, reason: end.reason, summary: input.summary });
      else if (before.phase !== phase) await append(tx, uid, SUITE_EVENT_TYPES.phase, { from: before.phase, to: phase });
      return 'saved';
    });
  }

  async get(uid: string): Promise<SuiteRecord | undefined> {
    return (await this.#db.query<SuiteRecord>(`SELECT ${COLUMNS} FROM crucible.suites WHERE uid = $1`, [uid])).rows[0];
  }

  /** All that have an Evaluation, in order. */
  async runs(uid: string): Promise<SuiteRunRecord[]> {
    const { rows } = await this.#db.query<SuiteRunRecord>(
      `SELECT r.cell, r.sample, r.evaluation_uid AS "evaluationUid", r.evaluation_name AS "evaluationName",
              r.created_at AS "createdAt", r.outcome, r.verdict_class AS "verdictClass", r.attempts, r.finished_at AS "finishedAt",
              CASE WHEN e.uid IS NOT NULL THEN jsonb_build_object('finishedAt', e.finished_at, 'verdict', e.verdict,
                'passed', e.passed, 'attempts', (SELECT count(*) FROM crucible.attempts a WHERE a.evaluation_uid = e.uid)) END AS evaluation
       FROM crucible.suite_runs r LEFT JOIN crucible.evaluations e ON e.uid = r.evaluation_uid AND r.outcome IS NULL
       WHERE r.suite_uid = $1 ORDER BY r.cell, r.sample`,
      [uid],
    );
    return rows.map((row) => (row.evaluation === null ? row : { ...row, evaluation: withDate(row.evaluation) }));
  }

  /** The parameters of every cell, in order: cell 1 first. */
  async cells(uid: string): Promise<Record<string, string>[]> {
    const { rows } = await this.#db.query<{ parameters: Record<string, string> }>(
      'SELECT parameters FROM crucible.suite_cells WHERE suite_uid = $1 ORDER BY cell',
      [uid],
    );
    return rows.map(({ parameters }) => parameters);
  }

  /** By uid, ascending; at most 1000, from the one after `after`. */
  async listUnfinished(after: string = NIL_UID): Promise<SuiteRecord[]> {
    const text = `SELECT ${COLUMNS} FROM crucible.suites WHERE finished_at IS NULL AND uid > $1 ORDER BY uid LIMIT ${MAX_PAGE}`;
    return (await this.#db.query<SuiteRecord>(text, [after])).rows;
  }

  /** The highest that has written anything; 0 when there is none. */
  async maxEpoch(): Promise<number> {
    const { rows } = await this.#db.query<{ epoch: number | null }>('SELECT max(epoch) AS epoch FROM crucible.suites');
    return rows[0]?.epoch ?? 0;
  }
}

function withDate(evaluation: NonNullable<SuiteRunRecord['evaluation']>): NonNullable<SuiteRunRecord['evaluation']> {
  const { finishedAt } = evaluation;
  return { ...evaluation, finishedAt: finishedAt === null ? null : new Date(finishedAt) };
}

// As lockEvaluation: one order of locks, one place for the fence.
async function lock(tx: Transaction, uid: string, epoch: number): Promise<{ phase: string; finishedAt: Date | null }> {
  const { rows } = await tx.query<{ phase: string; finishedAt: Date | null; epoch: number }>(
    `SELECT phase, finished_at AS "finishedAt", epoch FROM crucible.suites WHERE uid = $1 FOR NO KEY UPDATE`,
    [uid],
  );
  const row = rows[0];
  if (row === undefined) throw new NotFoundError(`there is no suite ${uid}`);
  if (row.epoch > epoch) throw new FencedError(`a leader of epoch ${row.epoch} has written suite ${uid}, this one is of ${epoch}`);
  if (row.epoch < epoch) await tx.query('UPDATE crucible.suites SET epoch = $2 WHERE uid = $1', [uid, epoch]);
  return row;
}

async function append(tx: Transaction, uid: string, type: string, data: object): Promise<void> {
  const { rowCount } = await tx.query('SELECT crucible.append_suite_event($1, $2, $3)', [uid, type, jsonbText(data)]);
  if (rowCount !== 1) throw new QueryError('an event got no number', undefined);
}
