import type { Database, Queryable, Transaction } from './database.ts';
import { admitArtifacts } from './artifact-rules.ts';
import type { ArtifactRules } from './artifact-rules.ts';
import { joined } from './bytes.ts';
import { close, closeAtOnce, closeStreams } from './capture-close.ts';
import { readCapture } from './capture-record.ts';
import { checkAppend, checkFinish, checkReconcile } from './capture-rules.ts';
import { ConflictError, IntegrityError, NotFoundError, isForeignPod } from './errors.ts';
import { MISSING_RANGES, readSlice } from './output.ts';
import { STREAM_NAMES } from './types.ts';
import type {
  AppendChunks, AppendOutcome, ArtifactInput, BeginCapture, BeginOutcome, CaptureKey, CapturePosition, CaptureRecord,
  FinishCapture, FinishCaptureOutcome, FollowingCapture, OutputChunk, OutputSlice, Reconcile, SeqRange, StreamName,
} from './types.ts';

const KEY = 'evaluation_uid = $1 AND attempt = $2';
const NIL_UID = '00000000-0000-0000-0000-000000000000';
const MAX_PAGE = 1000;
/** Rows in one INSERT: bounds parameters and the size of a message (64 × 64 KiB). */
const INSERT_ROWS = 64;

interface CaptureRow {
  podUid: string;
  state: 'following' | 'captured';
  lastSeq: number;
  missing: SeqRange[];
}

/**
 * What came out of the sandbox. Written by the recorder alone. Any number of recorders may write the same capture: every
 * write is a compare-and-set on what it continues, so nothing is stored twice, and the one that comes second is told where
 * to continue. All methods are idempotent in that sense and may be repeated after UnavailableError.
 */
export class CaptureRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Starts following a pod, or says where to go on. Call it again after every restart. */
  async begin(input: BeginCapture): Promise<BeginOutcome> {
    try {
      return await this.#db.transaction((tx) => begin(tx, input));
    } catch (error) {
      if (isForeignPod(error)) return { outcome: 'foreignPod' };
      throw error;
    }
  }

  /**
   * Stores frames afterSeq + 1 … lastSeq in one statement, if lastSeq is still afterSeq. Throws RangeError for a batch
   * that contradicts itself, NotFoundError without begin, ConflictError for another pod.
   */
  async append(input: AppendChunks): Promise<AppendOutcome> {
    checkAppend(input);
    const { rows } = await this.#db.query<AppendedRow>(APPEND, appendValues(input));
    const [first] = rows;
    if (first === undefined) return await this.#db.transaction((tx) => lost(tx, input));
    return { outcome: 'appended', position: positionOf(first, rows) };
  }

  /**
   * Fills holes: what the final full read contains although it was declared missing. Bytes after a hole move; none
   * change. `stale`: somebody else has filled one of them. Throws as append().
   */
  async reconcile(input: Reconcile): Promise<AppendOutcome> {
    checkReconcile(input);
    return await this.#db.transaction(async (tx) => {
      const { rowCount } = await tx.query(
        `UPDATE crucible.captures SET recorder = $3, missing = missing - $4::int8multirange
         WHERE ${KEY} AND pod_uid = $5 AND state = 'following' AND missing @> $4::int8multirange`,
        [input.evaluationUid, input.attempt, input.recorder, multirange(input.found), input.podUid],
      );
      if (rowCount === 0) return await lost(tx, input);
      for (const chunk of input.chunks) await fill(tx, input, chunk);
      return { outcome: 'appended', position: await position(tx, input) };
    });
  }

  /**
   * Writes the ledger, artifacts, summary and receipt, and closes the capture for ever; tells listeners of
   * `crucible_captured`. The ledger is checked against the stored bytes: IntegrityError when it would lie. Content of
   * artifacts must be in the file store before: `files` is asked, MissingContentError when it is not. What exceeds
   * `maxNamespaceBytes` is recorded as refused.
   */
  async finish(input: FinishCapture, rules: ArtifactRules = {}): Promise<FinishCaptureOutcome> {
    checkFinish(input);
    if (await closeAtOnce(this.#db, input)) return { outcome: 'captured', position: closedPosition({ lastSeq: input.lastSeq, missing: [] }, input) };
    return await this.#db.transaction(async (tx) => {
      const row = await lockCapture(tx, input);
      if (row.state === 'captured') return { outcome: 'already', position: await position(tx, input) };
      if (row.lastSeq !== input.lastSeq) return { outcome: 'stale', position: await position(tx, input) };
      if (input.complete && row.missing.length > 0) throw new IntegrityError('a capture with missing frames is not complete');
      await closeStreams(tx, input);
      const admitted = await admitArtifacts(tx, input, rules);
      await insertArtifacts(tx, input, admitted.artifacts);
      await close(tx, admitted);
      return { outcome: 'captured', position: closedPosition(row, input) };
    });
  }

  /** With ledger and artifact counts; `sha256` of the streams and `complete` are null while following. */
  async get(evaluationUid: string, attempt: number, tx?: Transaction): Promise<CaptureRecord | undefined> {
    return await readCapture(tx ?? this.#db, { evaluationUid, attempt });
  }

  /** By key, ascending; at most 1000. A recorder that starts looks here for pods that went away meanwhile. */
  async listFollowing(options: { after?: CaptureKey; limit?: number } = {}): Promise<FollowingCapture[]> {
    const { rows } = await this.#db.query<FollowingCapture>(
      `SELECT c.evaluation_uid AS "evaluationUid", c.attempt, c.pod_uid AS "podUid", e.namespace, e.name,
              c.last_seq AS "lastSeq", c.started_at AS "startedAt", a.state = 'finalized' AS finalized
       FROM crucible.captures c JOIN crucible.evaluations e ON e.uid = c.evaluation_uid
       JOIN crucible.attempts a ON a.evaluation_uid = c.evaluation_uid AND a.number = c.attempt
       WHERE c.state = 'following' AND (c.evaluation_uid, c.attempt) > ($1, $2)
       ORDER BY c.evaluation_uid, c.attempt LIMIT $3`,
      [options.after?.evaluationUid ?? NIL_UID, options.after?.attempt ?? 0, Math.min(options.limit ?? MAX_PAGE, MAX_PAGE)],
    );
    return rows;
  }

  /** At most 1 MiB a call: go on from offset + data.length. Empty past the end. Throws NotFoundError without a capture. */
  async readOutput(
    evaluationUid: string,
    attempt: number,
    stream: StreamName,
    range: { offset?: number; length?: number } = {},
  ): Promise<OutputSlice> {
    return await readSlice(this.#db, { evaluationUid, attempt }, stream, { from: 'start', offset: range.offset ?? 0 }, range.length);
  }

  /** The last `maxBytes` bytes (at most 1 MiB), cut wherever that falls. Throws NotFoundError without a capture. */
  async readTail(evaluationUid: string, attempt: number, stream: StreamName, maxBytes: number): Promise<OutputSlice> {
    return await readSlice(this.#db, { evaluationUid, attempt }, stream, { from: 'end', offset: maxBytes }, maxBytes);
  }
}

async function begin(tx: Transaction, input: BeginCapture): Promise<BeginOutcome> {
  const { rows } = await tx.query<{ podUid: string | null }>(
    `SELECT pod_uid AS "podUid" FROM crucible.attempts WHERE evaluation_uid = $1 AND number = $2`,
    [input.evaluationUid, input.attempt],
  );
  if (rows[0] === undefined) return { outcome: 'unknownAttempt' };
  const { rowCount } = await tx.query(
    `INSERT INTO crucible.captures (evaluation_uid, attempt, pod_uid, recorder) VALUES ($1, $2, $3, $4)
     ON CONFLICT (evaluation_uid, attempt) DO NOTHING`,
    [input.evaluationUid, input.attempt, input.podUid, input.recorder],
  );
  if (rowCount === 1) {
    await tx.query(
      'INSERT INTO crucible.streams (evaluation_uid, attempt, stream) SELECT $1::uuid, $2::integer, unnest($3::text[])',
      [input.evaluationUid, input.attempt, STREAM_NAMES],
    );
    return { outcome: 'begun', position: await position(tx, input) };
  }
  const capture = await readRow(tx, input);
  if (capture?.podUid !== input.podUid) return { outcome: 'foreignPod' };
  return { outcome: capture.state === 'captured' ? 'captured' : 'resumed', position: await position(tx, input) };
}

async function readRow(db: Queryable, key: CaptureKey, suffix = ''): Promise<CaptureRow | undefined> {
  const { rows } = await db.query<CaptureRow>(
    `SELECT pod_uid AS "podUid", state, last_seq AS "lastSeq", ${MISSING_RANGES} FROM crucible.captures WHERE ${KEY} ${suffix}`,
    [key.evaluationUid, key.attempt],
  );
  return rows[0];
}

async function lockCapture(tx: Transaction, input: CaptureKey & { podUid: string }): Promise<CaptureRow> {
  const row = await readRow(tx, input, 'FOR NO KEY UPDATE');
  if (row === undefined) throw new NotFoundError(`attempt ${input.attempt} of evaluation ${input.evaluationUid} has no capture`);
  if (row.podUid !== input.podUid) throw new ConflictError('the capture belongs to another pod');
  return row;
}

/** Why a compare-and-set found nothing. */
async function lost(tx: Transaction, input: CaptureKey & { podUid: string }): Promise<AppendOutcome> {
  const row = await lockCapture(tx, input);
  return { outcome: row.state === 'captured' ? 'captured' : 'stale', position: await position(tx, input) };
}

async function position(db: Queryable, key: CaptureKey): Promise<CapturePosition> {
  const { rows } = await db.query<AppendedRow>(
    `SELECT last_seq AS "lastSeq", ${MISSING_RANGES}, stream, bytes, lines
     FROM crucible.captures JOIN crucible.streams USING (evaluation_uid, attempt) WHERE ${KEY}`,
    [key.evaluationUid, key.attempt],
  );
  return positionOf(rows[0] ?? { lastSeq: 0, missing: [] }, rows);
}

interface StreamSize {
  stream: StreamName;
  bytes: number;
  lines: number;
}

type AppendedRow = StreamSize & Pick<CaptureRow, 'lastSeq' | 'missing'>;

function positionOf({ lastSeq, missing }: Pick<CaptureRow, 'lastSeq' | 'missing'>, sizes: readonly StreamSize[]): CapturePosition {
  const of = (name: StreamName) => {
    const { bytes, lines } = sizes.find(({ stream }) => stream === name) ?? { bytes: 0, lines: 0 };
    return { bytes, lines };
  };
  return { lastSeq, missing, streams: { stdout: of('stdout'), stderr: of('stderr') } };
}

function closedPosition(at: Pick<CaptureRow, 'lastSeq' | 'missing'>, { streams }: FinishCapture): CapturePosition {
  return positionOf(at, [{ stream: 'stdout', ...streams.stdout }, { stream: 'stderr', ...streams.stderr }]);
}

/**
 * The compare-and-set on the capture, its streams' sizes and its chunks: one statement, because this is done for every
 * batch of output, and each way to the server and back would cost more than the work. The bytes of all chunks are one
 * value, which the driver copies once; of several it makes room again for each. A chunk whose stream has no ledger has no
 * offset, which the table refuses.
 */
const APPEND = `
  WITH moved AS (
    UPDATE crucible.captures SET last_seq = $3, recorder = $4, missing = missing + $5::int8multirange
    WHERE ${KEY} AND pod_uid = $6 AND state = 'following' AND last_seq = $7
    RETURNING evaluation_uid, attempt, last_seq, missing
  ), chunks AS (
    SELECT * FROM unnest($8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::integer[], $13::integer[])
      AS c(stream, first_seq, last_seq, lines, at, bytes)
  ), grown AS (
    UPDATE crucible.streams s SET bytes = s.bytes + n.bytes, lines = s.lines + n.lines
    FROM moved m, (SELECT stream, sum(bytes)::bigint AS bytes, sum(lines)::bigint AS lines FROM chunks GROUP BY stream) n
    WHERE s.evaluation_uid = m.evaluation_uid AND s.attempt = m.attempt AND s.stream = n.stream
    RETURNING s.stream, s.bytes, s.lines, s.bytes - n.bytes AS start
  ), stored AS (
    INSERT INTO crucible.output_chunks (evaluation_uid, attempt, stream, first_seq, last_seq, byte_offset, lines, data)
    SELECT m.evaluation_uid, m.attempt, c.stream, c.first_seq, c.last_seq,
           g.start + sum(c.bytes) OVER (PARTITION BY c.stream ORDER BY c.first_seq) - c.bytes, c.lines,
           substring($14::bytea FROM c.at + 1 FOR c.bytes)
    FROM moved m CROSS JOIN chunks c LEFT JOIN grown g USING (stream)
  )
  SELECT m.last_seq AS "lastSeq", ${MISSING_RANGES}, s.stream, coalesce(g.bytes, s.bytes) AS bytes, coalesce(g.lines, s.lines) AS lines
  FROM moved m JOIN crucible.streams s USING (evaluation_uid, attempt) LEFT JOIN grown g ON g.stream = s.stream`;

function appendValues({ evaluationUid, attempt, lastSeq, recorder, missing, podUid, afterSeq, chunks }: AppendChunks): unknown[] {
  let end = 0;
  const at = chunks.map(({ data }) => (end += data.length) - data.length);
  return [
    evaluationUid, attempt, lastSeq, recorder, multirange(missing ?? []), podUid, afterSeq,
    chunks.map(({ stream }) => stream), chunks.map(({ firstSeq }) => firstSeq), chunks.map(({ lastSeq }) => lastSeq),
    chunks.map(({ lines }) => lines), at, chunks.map(({ data }) => data.length), joined(chunks.map(({ data }) => data)),
  ];
}

/** Returns the offset at which the first of the chunks begins. */
async function grow(tx: Transaction, key: CaptureKey, stream: StreamName, chunks: readonly OutputChunk[]): Promise<number> {
  const bytes = chunks.reduce((sum, { data }) => sum + data.length, 0);
  const lines = chunks.reduce((sum, chunk) => sum + chunk.lines, 0);
  const { rows } = await tx.query<{ bytes: number }>(
    `UPDATE crucible.streams SET bytes = bytes + $4, lines = lines + $5 WHERE ${KEY} AND stream = $3 RETURNING bytes`,
    [key.evaluationUid, key.attempt, stream, bytes, lines],
  );
  if (rows[0] === undefined) throw new NotFoundError(`stream ${stream} has no ledger`);
  return rows[0].bytes - bytes;
}

async function insertChunks(tx: Transaction, key: CaptureKey, chunks: readonly OutputChunk[], start: number): Promise<void> {
  let offset = start;
  const rows = chunks.map(({ stream, firstSeq, lastSeq, lines, data }) => {
    const row = [stream, firstSeq, lastSeq, offset, lines, data];
    offset += data.length;
    return row;
  });
  await insertRows(tx, key, 'crucible.output_chunks', 'stream, first_seq, last_seq, byte_offset, lines, data', rows);
}

async function insertArtifacts(tx: Transaction, key: CaptureKey, artifacts: readonly ArtifactInput[]): Promise<void> {
  const rows = artifacts.map(({ index, path, size, sha256, complete, refused, mode }) => [
    index, path, size, sha256, complete, refused ?? null, mode ?? null,
  ]);
  await insertRows(tx, key, 'crucible.artifacts', 'index, path, size, sha256, complete, refused, mode', rows);
}

async function insertRows(tx: Transaction, key: CaptureKey, table: string, columns: string, rows: readonly unknown[][]): Promise<void> {
  for (let from = 0; from < rows.length; from += INSERT_ROWS) {
    const values: unknown[] = [key.evaluationUid, key.attempt];
    const tuples = rows.slice(from, from + INSERT_ROWS).map((row) => {
      const first = values.push(...row) - row.length + 1;
      return `($1, $2, ${row.map((_, index) => `$${first + index}`).join(', ')})`;
    });
    await tx.query(`INSERT INTO ${table} (evaluation_uid, attempt, ${columns}) VALUES ${tuples.join(', ')}`, values);
  }
}

/** Puts a chunk where its sequence number belongs and moves what comes after it. */
async function fill(tx: Transaction, key: CaptureKey, chunk: OutputChunk): Promise<void> {
  const end = await grow(tx, key, chunk.stream, [chunk]);
  const { rows } = await tx.query<{ offset: number | null }>(
    `SELECT min(byte_offset) AS offset FROM crucible.output_chunks WHERE ${KEY} AND stream = $3 AND first_seq > $4`,
    [key.evaluationUid, key.attempt, chunk.stream, chunk.firstSeq],
  );
  await tx.query(
    `UPDATE crucible.output_chunks SET byte_offset = byte_offset + $5 WHERE ${KEY} AND stream = $3 AND first_seq > $4`,
    [key.evaluationUid, key.attempt, chunk.stream, chunk.firstSeq, chunk.data.length],
  );
  await insertChunks(tx, key, [chunk], rows[0]?.offset ?? end);
}

/** int8multirange text of inclusive ranges. */
function multirange(ranges: readonly SeqRange[]): string {
  return `{${ranges.map(({ from, to }) => `[${from},${to}]`).join(',')}}`;
}
