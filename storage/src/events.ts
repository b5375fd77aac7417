import type { Database, Transaction } from './database.ts';
import { QueryError } from './errors.ts';
import { jsonbText } from './json.ts';
import type { EventRecord, NewEvent } from './types.ts';

const MAX_PAGE = 1000;

/** Storage's own changes write their events themselves (EVENT_TYPES); this is for the others, and for reading. */
export class EventRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Numbers the event (gapless per evaluation) under the evaluation's row lock and returns the number. In the caller's
   * transaction, so that it is there if and only if the change it tells of is. Throws NotFoundError.
   */
  async append(tx: Transaction, evaluationUid: string, event: NewEvent): Promise<number> {
    return await appendEvent(tx, evaluationUid, event);
  }

  /** Ascending from the one after `after` (default 0, the beginning); at most 1000. Empty for an unknown evaluation. */
  async list(evaluationUid: string, options: { after?: number; limit?: number } = {}): Promise<EventRecord[]> {
    const { rows } = await this.#db.query<EventRecord>(
      // The run's creation names the partition that has all of them.
      `SELECT v.evaluation_uid AS "evaluationUid", v.seq, v.type, v.data, v.at, v.position
       FROM crucible.evaluations e JOIN crucible.events v ON v.evaluation_uid = e.uid AND v.evaluation_created_at = e.created_at
       WHERE e.uid = $1 AND v.seq > $2 ORDER BY v.seq LIMIT $3`,
      [evaluationUid, options.after ?? 0, Math.min(options.limit ?? MAX_PAGE, MAX_PAGE)],
    );
    return rows;
  }
}

export async function appendEvent(tx: Transaction, evaluationUid: string, event: NewEvent): Promise<number> {
  const { rows } = await tx.query<{ seq: number }>('SELECT crucible.append_event($1, $2, $3) AS seq', [
    evaluationUid, event.type, jsonbText(event.data ?? {}),
  ]);
  if (rows[0] === undefined) throw new QueryError('an event got no number', undefined);
  return rows[0].seq;
}
