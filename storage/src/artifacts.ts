import type { Database, Transaction } from './database.ts';
import type { ArtifactRecord } from './types.ts';

const COLUMNS = 'evaluation_uid AS "evaluationUid", attempt, index, path, size, sha256, complete, refused, mode';

/** What the sandbox sent as artifacts. Rows are written by CaptureRepository.finish(), content is in the FileStore. */
export class ArtifactRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** In order of their index, refused ones too. */
  async list(evaluationUid: string, attempt: number): Promise<ArtifactRecord[]> {
    const { rows } = await this.#db.query<ArtifactRecord>(
      `SELECT ${COLUMNS} FROM crucible.artifacts WHERE evaluation_uid = $1 AND attempt = $2 ORDER BY index`,
      [evaluationUid, attempt],
    );
    return rows;
  }

  async get(evaluationUid: string, attempt: number, index: number): Promise<ArtifactRecord | undefined> {
    const { rows } = await this.#db.query<ArtifactRecord>(
      `SELECT ${COLUMNS} FROM crucible.artifacts WHERE evaluation_uid = $1 AND attempt = $2 AND index = $3`,
      [evaluationUid, attempt, index],
    );
    return rows[0];
  }

  /** Which of these contents (hex sha256) have to be kept: some artifact points at them that has not expired. */
  async referenced(sha256s: readonly string[], tx?: Transaction): Promise<Set<string>> {
    const { rows } = await (tx ?? this.#db).query<{ sha256: string }>(
      `SELECT DISTINCT a.sha256 FROM crucible.artifacts a JOIN crucible.evaluations e ON e.uid = a.evaluation_uid
       WHERE a.sha256 = ANY($1::text[]) AND e.artifacts_deleted_at IS NULL`,
      [sha256s],
    );
    return new Set(rows.map(({ sha256 }) => sha256));
  }

  /** Bytes that the artifacts of an evaluation's namespace (by its UID) hold now. */
  async usedBytes(evaluationUid: string): Promise<number> {
    const { rows } = await this.#db.query<{ bytes: number }>(
      `SELECT u.bytes FROM crucible.evaluations e JOIN crucible.artifact_usage u USING (namespace_uid) WHERE e.uid = $1`,
      [evaluationUid],
    );
    return rows[0]?.bytes ?? 0;
  }
}
