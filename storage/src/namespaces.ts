import type { Database } from './database.ts';

export interface NamespaceRecord {
  uid: string;
  name: string;
  firstSeenAt: Date;
  /** Since when another namespace, or none, has the name. Its rows belong to nobody who is granted something by name. */
  goneAt: Date | null;
}

const COLUMNS = 'uid, name, first_seen_at AS "firstSeenAt", gone_at AS "goneAt"';

/** Which UID a namespace's name meant when the operator last looked. For lists and the queue; access is never decided by it. */
export class NamespaceRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Those that exist, as far as the operator has told, by name. */
  async current(): Promise<NamespaceRecord[]> {
    const { rows } = await this.#db.query<NamespaceRecord>(`SELECT ${COLUMNS} FROM crucible.namespaces WHERE gone_at IS NULL ORDER BY name`);
    return rows;
  }

  /** For the operator, of a namespace that it sees. Idempotent; another one of that name is gone from then on. */
  async observe(namespace: { uid: string; name: string }): Promise<void> {
    await this.#db.query('SELECT crucible.observe_namespace($1, $2)', [namespace.uid, namespace.name]);
  }

  /** For the operator, when it is deleted. */
  async end(uid: string): Promise<void> {
    await this.#db.query('SELECT crucible.end_namespace($1)', [uid]);
  }
}
