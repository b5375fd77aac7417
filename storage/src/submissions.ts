import type { Database } from './database.ts';
import { safeText } from './json.ts';

export interface SubmissionRecord {
  /** Of the Evaluation, as the API server gave it. */
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
  /** The user as the API server names it; null when it was applied to the cluster itself. */
  submittedBy: string | null;
  /** Or, when it was not submitted, created. */
  submittedAt: Date;
  /** `recorded`: there is an evaluation. `withdrawn`: deleted before the operator had recorded anything of it. */
  state: 'submitted' | 'recorded' | 'withdrawn';
  withdrawnAt: Date | null;
  /** Why it is not admitted, as its status says; null when it is, or nobody has looked yet. */
  reason: string | null;
  message: string | null;
  /** Its owner has to change something. Otherwise the reason is what it waits for. */
  refused: boolean;
}

/** What the operator has not admitted, and hence not recorded. */
export interface NotAdmitted {
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
  createdAt: Date;
  reason: string;
  message: string;
  refused: boolean;
}

export const SUBMISSION_COLUMNS = `uid, namespace, namespace_uid AS "namespaceUid", name, submitted_by AS "submittedBy",
  submitted_at AS "submittedAt", state, withdrawn_at AS "withdrawnAt", reason, message, refused`;
const MAX_PAGE = 1000;
const NIL_UID = '00000000-0000-0000-0000-000000000000';

/** What came in through the API, and what is not admitted, however it came in. */
export class SubmissionRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * For the API: after the API server has taken the Evaluation, and before the caller is told. Idempotent. The namespace's
   * UID is the cluster's: what the operator has told last may be of one that is gone.
   */
  async record(input: { uid: string; namespace: string; namespaceUid: string; name: string; submittedBy: string }): Promise<void> {
    const values = [input.uid, input.namespace, input.namespaceUid, input.name, input.submittedBy];
    await this.#db.query('SELECT crucible.record_submission($1, $2, $3, $4, $5)', values);
  }

  /** For the operator: submitted or told of so long ago, and still without a row of evaluations. By uid, at most 1000, those after `after`. */
  async listUnrecorded(options: { olderThanSeconds: number; after?: string; limit?: number }): Promise<SubmissionRecord[]> {
    const { rows } = await this.#db.query<SubmissionRecord>(
      `SELECT ${SUBMISSION_COLUMNS} FROM crucible.submissions s
       WHERE state = 'submitted' AND submitted_at < now() - make_interval(secs => $1)
         AND uid > $3 AND NOT EXISTS (SELECT FROM crucible.evaluations e WHERE e.uid = s.uid)
       ORDER BY uid LIMIT $2`,
      [options.olderThanSeconds, Math.min(options.limit ?? MAX_PAGE, MAX_PAGE), options.after ?? NIL_UID],
    );
    return rows;
  }

  /** For the operator, which sees that the Evaluation is gone. False when it was recorded, withdrawn or never submitted. */
  async withdraw(uid: string): Promise<boolean> {
    const { rows } = await this.#db.query<{ done: boolean }>('SELECT crucible.withdraw_submission($1) AS done', [uid]);
    return rows[0]?.done === true;
  }

  /** For the operator. False when it is recorded, withdrawn, or told of in the same words. */
  async tell({ uid, namespace, namespaceUid, name, createdAt, reason, message, refused }: NotAdmitted): Promise<boolean> {
    const { rows } = await this.#db.query<{ done: boolean }>(
      'SELECT crucible.tell_not_admitted($1, $2, $3, $4, $5, $6, $7, $8) AS done',
      [uid, namespace, namespaceUid, name, createdAt, safeText(reason), safeText(message), refused],
    );
    return rows[0]?.done === true;
  }
}
