import type { Queryable } from '../database.ts';
import type { EventRecord } from '../types.ts';

/** An event with its position, and what names its evaluation. */
export interface PublishedEvent extends EventRecord {
  position: number;
  namespace: string;
  namespaceUid: string;
  name: string;
}

export const MAX_POSITION_BATCH = 1000;

// OFFSET 0: the events in their order, then each run by its key. A join may read all runs instead.
const select = (condition: string): string => `
  SELECT v.evaluation_uid AS "evaluationUid", v.seq, v.type, v.data, v.at, v.position,
         e.namespace, e.namespace_uid AS "namespaceUid", e.name
  FROM (SELECT evaluation_uid, seq, type, data, at, position FROM crucible.events WHERE ${condition} OFFSET 0) v
  CROSS JOIN LATERAL (SELECT namespace, namespace_uid, name FROM crucible.evaluations WHERE uid = v.evaluation_uid OFFSET 0) e
  ORDER BY v.position`;
const AFTER = select('position > $1 ORDER BY position LIMIT $2');
const AT = select('position = $1');

/** Events in the global order. Postgres alone: this works, and is complete, whatever Redis does. */
export class PositionRepository {
  readonly #db: Queryable;

  constructor(db: Queryable) {
    this.#db = db;
  }

  /** For the relay's role. Gives the oldest committed events without a position theirs; any number of callers at once. */
  async assign(batch = MAX_POSITION_BATCH): Promise<{ assigned: number; last: number }> {
    const { rows } = await this.#db.query<{ assigned: number; last: number }>('SELECT assigned, last FROM crucible.assign_positions($1)', [batch]);
    return rows[0] ?? { assigned: 0, last: 0 };
  }

  /** The highest position that was ever given. */
  async last(): Promise<number> {
    const { rows } = await this.#db.query<{ last: number }>('SELECT last_position AS last FROM crucible.event_positions');
    return rows[0]?.last ?? 0;
  }

  /** Events that have no position yet, counted up to `limit`. */
  async waiting(limit = 100_000): Promise<number> {
    const { rows } = await this.#db.query<{ count: number }>(
      'SELECT count(*) AS count FROM (SELECT FROM crucible.events WHERE position IS NULL LIMIT $1) w', [limit],
    );
    return rows[0]?.count ?? 0;
  }

  /** Ascending, after `position`; at most 1000. Positions are dense but for what retention has deleted. */
  async after(position: number, limit = MAX_POSITION_BATCH): Promise<PublishedEvent[]> {
    const { rows } = await this.#db.query<PublishedEvent>(AFTER, [position, Math.min(limit, MAX_POSITION_BATCH)]);
    return rows;
  }

  async at(position: number): Promise<PublishedEvent | undefined> {
    return (await this.#db.query<PublishedEvent>(AT, [position])).rows[0];
  }
}
