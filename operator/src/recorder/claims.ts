import { STREAM_NAMES } from '@crucible/storage';
import type { CaptureKey, Queryable } from '@crucible/storage';
import type { StoredChunk } from './ledger.ts';

/** A recorder that has not renewed its claims for this long, although Postgres was there, is taken for dead. */
export const LEASE_MS = 20_000;
export const HEARTBEAT_MS = 5_000;

export type ClaimOutcome = 'ours' | 'absent' | 'captured' | { readonly heldBy: string };

/**
 * Whether the claim of another recorder is abandoned: it has stood unchanged over looks that make up LEASE_MS. Only pauses
 * between looks that were answered count, and none from before an outage, for nobody can renew while Postgres is away or
 * stands still; and until its owner is back, the frames that it spooled may be the only copy.
 */
export class ClaimWatch {
  readonly #pauseMs: number;
  #stamp: string | undefined;
  #unchangedMs = 0;
  #outages = 0;

  /** `pauseMs`: between two looks. */
  constructor(pauseMs: number) {
    this.#pauseMs = pauseMs;
  }

  /** The stamp that may be replaced. `outages`: how many there have been. */
  abandoned(outages: number): string | undefined {
    if (outages !== this.#outages) {
      this.#outages = outages;
      this.#stamp = undefined;
    }
    return this.#stamp !== undefined && this.#unchangedMs >= LEASE_MS ? this.#stamp : undefined;
  }

  saw(stamp: string): void {
    this.#unchangedMs = stamp === this.#stamp ? this.#unchangedMs + this.#pauseMs : 0;
    this.#stamp = stamp;
  }
}

/**
 * Which recorder works on which capture, so that replicas share instead of repeating each other's reads. It is kept in
 * captures.recorder as `<recorder>@<seconds of the database's clock>`, which changes with every heartbeat: no column that a
 * crash leaves wrong, and no clock that two have to agree on. `@0` is given back.
 * The claim saves work and nothing more; that no byte is stored twice rests on the compare-and-set of the position.
 */
export class Claims {
  readonly #id: string;
  readonly #database: Queryable;
  readonly #heartbeats: Queryable;
  #stamp: string;

  /** `heartbeats`: has connections of its own, so that claims are renewed in time whatever else waits for Postgres. */
  constructor(id: string, database: Queryable, heartbeats: Queryable = database) {
    if (!/^[A-Za-z0-9._-]{1,200}$/.test(id)) throw new Error('the recorder needs a plain name');
    this.#id = id;
    this.#database = database;
    this.#heartbeats = heartbeats;
    this.#stamp = `${id}@0`;
  }

  /** What every write to a capture carries. */
  readonly recorder = (): string => this.#stamp;

  /** Brings the stamp up to date; needed once before the first write. */
  async refresh(): Promise<void> {
    const { rows } = await this.#database.query<{ stamp: string }>(`SELECT ${STAMP} AS stamp`, [this.#id]);
    this.#stamp = rows[0]!.stamp;
  }

  /**
   * Takes over a capture that nobody holds, or whose claim is still the `abandoned` one. `absent`: there is no row yet,
   * beginning it claims it. Nobody waits for a row that is being written, which may take minutes: see renew().
   */
  async take(key: CaptureKey, abandoned?: string): Promise<ClaimOutcome> {
    const { rows } = await this.#database.query<{ recorder: string }>(
      `WITH free AS (
         SELECT evaluation_uid, attempt FROM crucible.captures
         WHERE evaluation_uid = $2 AND attempt = $3 AND state = 'following'
           AND (split_part(recorder, '@', 1) = $1 OR recorder = $4
                OR coalesce(substring(recorder FROM '@([0-9]{1,12})$')::bigint, 0) = 0)
         FOR NO KEY UPDATE SKIP LOCKED
       )
       UPDATE crucible.captures AS c SET recorder = ${STAMP} FROM free
       WHERE c.evaluation_uid = free.evaluation_uid AND c.attempt = free.attempt RETURNING recorder`,
      [this.#id, key.evaluationUid, key.attempt, abandoned ?? null],
    );
    if (rows[0] !== undefined) {
      this.#stamp = rows[0].recorder;
      return 'ours';
    }
    const found = await this.#database.query<{ state: string; recorder: string }>(
      'SELECT state, recorder FROM crucible.captures WHERE evaluation_uid = $1 AND attempt = $2',
      [key.evaluationUid, key.attempt],
    );
    if (found.rows[0] === undefined) {
      await this.refresh();
      return 'absent';
    }
    const { state, recorder } = found.rows[0];
    return state === 'captured' ? 'captured' : { heldBy: recorder };
  }

  /**
   * Begins the capture of an attempt that has none, and claims it: what take(), refresh() and CaptureRepository.begin() do
   * in nine statements, in one. False: nothing was done, and they say why. Throws as begin() when it is another pod's.
   */
  async begin({ evaluationUid, attempt, podUid }: CaptureKey & { podUid: string }): Promise<boolean> {
    const { rows } = await this.#database.query<{ recorder: string }>(
      `WITH begun AS (
         INSERT INTO crucible.captures (evaluation_uid, attempt, pod_uid, recorder)
         SELECT evaluation_uid, number, $4::uuid, ${STAMP} FROM crucible.attempts WHERE evaluation_uid = $2 AND number = $3
         ON CONFLICT (evaluation_uid, attempt) DO NOTHING RETURNING evaluation_uid, attempt, recorder
       ), ledgers AS (
         INSERT INTO crucible.streams (evaluation_uid, attempt, stream) SELECT evaluation_uid, attempt, unnest($5::text[]) FROM begun
       )
       SELECT recorder FROM begun`,
      [this.#id, evaluationUid, attempt, podUid, STREAM_NAMES],
    );
    if (rows[0] === undefined) return false;
    this.#stamp = rows[0].recorder;
    return true;
  }

  /**
   * Renews the claims and returns those of `keys` that are not ours any more. It does not wait for rows that are locked:
   * a capture is finished in a transaction that asks the file store for every artifact, and if that is slow, one row would
   * keep all claims from being renewed. The locked claim is ours still, nobody else can take it meanwhile, and who writes to
   * it next writes the new stamp.
   */
  async renew(keys: readonly CaptureKey[]): Promise<CaptureKey[]> {
    if (keys.length === 0) return [];
    const { rows } = await this.#heartbeats.query<{ evaluation_uid: string; attempt: number; stamp: string }>(
      `WITH ours AS (
         SELECT c.evaluation_uid, c.attempt
         FROM crucible.captures c JOIN unnest($2::uuid[], $3::int[]) AS mine(evaluation_uid, attempt) USING (evaluation_uid, attempt)
         WHERE c.state = 'following' AND split_part(c.recorder, '@', 1) = $1
       ), free AS (
         SELECT c.evaluation_uid, c.attempt FROM crucible.captures c JOIN ours USING (evaluation_uid, attempt)
         WHERE c.state = 'following' AND split_part(c.recorder, '@', 1) = $1
         FOR NO KEY UPDATE OF c SKIP LOCKED
       ), renewed AS (
         UPDATE crucible.captures AS c SET recorder = ${STAMP} FROM free
         WHERE c.evaluation_uid = free.evaluation_uid AND c.attempt = free.attempt
       )
       SELECT evaluation_uid, attempt, ${STAMP} AS stamp FROM ours`,
      [this.#id, keys.map((key) => key.evaluationUid), keys.map((key) => key.attempt)],
    );
    this.#stamp = rows[0]?.stamp ?? this.#stamp;
    const ours = new Set(rows.map((row) => `${row.evaluation_uid}/${row.attempt}`));
    return keys.filter((key) => !ours.has(`${key.evaluationUid}/${key.attempt}`));
  }

  /** Lets another recorder take over at once. */
  async release(keys: readonly CaptureKey[]): Promise<void> {
    if (keys.length === 0) return;
    await this.#heartbeats.query(
      `UPDATE crucible.captures AS c SET recorder = $1 || '@0'
       FROM unnest($2::uuid[], $3::int[]) AS mine(evaluation_uid, attempt)
       WHERE c.evaluation_uid = mine.evaluation_uid AND c.attempt = mine.attempt
         AND c.state = 'following' AND split_part(c.recorder, '@', 1) = $1`,
      [this.#id, keys.map((key) => key.evaluationUid), keys.map((key) => key.attempt)],
    );
  }

  /** The stored chunks of a capture, without their bytes. */
  async chunks(key: CaptureKey): Promise<StoredChunk[]> {
    const { rows } = await this.#database.query<{
      stream: StoredChunk['stream'];
      first_seq: string;
      last_seq: string;
      bytes: number;
      sha256: string;
    }>(
      `SELECT stream, first_seq::text, last_seq::text, octet_length(data) AS bytes, encode(sha256(data), 'hex') AS sha256
       FROM crucible.output_chunks WHERE evaluation_uid = $1 AND attempt = $2 ORDER BY stream, first_seq`,
      [key.evaluationUid, key.attempt],
    );
    return rows.map((row) => ({ ...row, firstSeq: Number(row.first_seq), lastSeq: Number(row.last_seq) }));
  }
}

const STAMP = `$1::text || '@' || floor(extract(epoch FROM clock_timestamp()))::bigint`;
