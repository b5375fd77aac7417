import type { Database } from './database.ts';
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

  /** Which of these contents (hex sha256) any artifact points at: the others may be swept from the file store. */
  async referenced(sha256s: readonly string[]): Promise<Set<string>> {
    const { rows } = await this.#db.query<{ sha256: string }>(
      'SELECT DISTINCT sha256 FROM crucible.artifacts WHERE sha256 = ANY($1::text[])',
      [sha256s],
    );
    return new Set(rows.map(({ sha256 }) => sha256));
  }
}
