import { inTransaction } from './database.ts';
import type { Database, Transaction } from './database.ts';
import { safeText } from './json.ts';

export type DrillOutcome = 'held' | 'broken' | 'open';

export interface DrillRecord {
  id: string;
  kind: 'quick' | 'full';
  /** null: the cluster's default runtime. */
  runtimeClass: string | null;
  trigger: string;
  outcome: DrillOutcome;
  /** Rules by outcome. */
  held: number;
  broken: number;
  open: number;
  startedAt: Date;
  finishedAt: Date;
}

export interface DrillFinding {
  attack: string;
  rule: number;
  outcome: DrillOutcome;
  /** Partly printed by a sandbox: shown as text, never interpreted. */
  evidence: string;
}

export interface DrillDetails extends DrillRecord {
  findings: DrillFinding[];
}

export interface NewDrill extends DrillRecord {
  epoch: number;
  findings: readonly DrillFinding[];
}

export const DRILL_COLUMNS = `id, kind, runtime_class AS "runtimeClass", trigger, outcome, held, broken, open, started_at AS "startedAt",
  finished_at AS "finishedAt"`;

/** The history of drills. Written by the operator, once each; read by the API. */
export class DrillRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Idempotent on the id. */
  async record(drill: NewDrill, tx?: Transaction): Promise<void> {
    await inTransaction(this.#db, tx, async (tx) => {
      const { rowCount } = await tx.query(
        `INSERT INTO crucible.drills (id, kind, runtime_class, trigger, outcome, held, broken, open, started_at, finished_at, epoch)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING`,
        [
          drill.id, drill.kind, drill.runtimeClass, drill.trigger, drill.outcome, drill.held, drill.broken, drill.open,
          drill.startedAt, drill.finishedAt, drill.epoch,
        ],
      );
      if (rowCount === 0) return;
      for (const { attack, rule, outcome, evidence } of drill.findings) {
        await tx.query(
          'INSERT INTO crucible.drill_findings (drill_id, attack, rule, outcome, evidence) VALUES ($1, $2, $3, $4, $5)',
          [drill.id, attack, rule, outcome, safeText(evidence)],
        );
      }
    });
  }

  async get(id: string): Promise<DrillDetails | undefined> {
    const { rows } = await this.#db.query<DrillRecord>(`SELECT ${DRILL_COLUMNS} FROM crucible.drills WHERE id = $1`, [id]);
    if (rows[0] === undefined) return undefined;
    const found = await this.#db.query<DrillFinding>(
      'SELECT attack, rule, outcome, evidence FROM crucible.drill_findings WHERE drill_id = $1 ORDER BY rule, attack',
      [id],
    );
    return { ...rows[0], findings: found.rows };
  }

  /** The newest drill of each RuntimeClass. */
  async latest(): Promise<DrillRecord[]> {
    const { rows } = await this.#db.query<DrillRecord>(
      `SELECT DISTINCT ON (coalesce(runtime_class, '')) ${DRILL_COLUMNS} FROM crucible.drills
       ORDER BY coalesce(runtime_class, ''), finished_at DESC, id`,
    );
    return rows;
  }

  /** What was found broken of a class (null: the default runtime) and has not been shown to hold since. */
  async broken(runtimeClass: string | null): Promise<DrillFinding[]> {
    const { rows } = await this.#db.query<DrillFinding>(
      `SELECT attack, rule, outcome, evidence FROM crucible.drill_knowledge
       WHERE coalesce(runtime_class, '') = coalesce($1, '') AND outcome = 'broken' ORDER BY rule, attack`,
      [runtimeClass],
    );
    return rows;
  }

  /** Deletes what is older than 90 days, except the newest of each class and of each attack. Returns how many. */
  async expire(): Promise<number> {
    const { rows } = await this.#db.query<{ count: number }>('SELECT crucible.expire_drills()::int AS count');
    return rows[0]?.count ?? 0;
  }
}
