import { MISSING_RANGES, readSlice } from '../output.ts';
import type { Database } from '../database.ts';
import { NotFoundError } from '../errors.ts';
import type { CaptureKey, OutputSlice, SeqRange, StreamName } from '../types.ts';
import type { OutputWatch } from './output-watch.ts';

export type OutputPart =
  /** `offset` of its first byte; the next one begins at offset + data.length. */
  | { type: 'data'; offset: number; data: Buffer }
  /** A hole was filled: what is behind `offset` has moved and comes again. */
  | { type: 'rewind'; offset: number }
  /** Nothing comes any more. `sha256` is empty if it was never captured; `unavailable`: bytes that retention has deleted. */
  | { type: 'end'; bytes: number; sha256: string; complete: boolean; truncated: boolean; unavailable: number };

export interface FollowOutput extends CaptureKey {
  readonly stream: StreamName;
  /** Default 0. Beyond the end: the end. */
  readonly offset?: number;
  /** Bytes of one part at most. */
  readonly pieceBytes?: number;
  readonly signal: AbortSignal;
}

interface State {
  /** Nothing is added any more: captured, given up with its attempt, or the run ended without this attempt. */
  over: boolean;
  missing: SeqRange[];
  complete: boolean;
  truncated: boolean;
  sha256: string | null;
}

/** Looks again after this in any case, though the watch does so too. */
const IDLE_MILLISECONDS = 60_000;

/**
 * One stream of one attempt from an offset on, as it is stored: every byte once, in order, to its end. Read from Postgres
 * alone; Redis only says when. May begin before the capture does. Throws UnavailableError while Postgres is away: go on
 * from the last offset. Ends when the signal aborts.
 */
export async function* followOutput(
  { database, watch }: { database: Database; watch: OutputWatch },
  { evaluationUid, attempt, stream, offset: start = 0, pieceBytes, signal }: FollowOutput,
): AsyncGenerator<OutputPart, void, void> {
  const key = { evaluationUid, attempt };
  const bell = watch.watch(key);
  let offset = start;
  let missing: SeqRange[] = [];
  try {
    while (!signal.aborted) {
      // The state first: whatever is stored when it is captured is all there will be.
      const state = await readState(database, key, stream);
      if (state !== undefined) {
        const moved = await movedFrom(database, key, stream, missing, state.missing);
        missing = state.missing;
        if (moved !== undefined && moved < offset) yield { type: 'rewind', offset: (offset = moved) };
        for (;;) {
          const slice = await slicesFrom(database, key, stream, offset, pieceBytes);
          if (slice.offset < offset) yield { type: 'rewind', offset: slice.offset };
          offset = slice.offset + slice.data.length;
          if (slice.data.length > 0) yield { type: 'data', offset: slice.offset, data: slice.data };
          else if (state.over) return yield endOf(state, slice);
          else break;
          if (signal.aborted) return;
        }
      }
      await bell.wait(IDLE_MILLISECONDS, signal);
    }
  } finally {
    bell.close();
  }
}

const endOf = ({ complete, truncated, sha256 }: State, { totalBytes, offset }: OutputSlice): OutputPart => ({
  type: 'end', bytes: totalBytes, sha256: sha256 ?? '', complete, truncated, unavailable: totalBytes - offset,
});

async function readState(db: Database, key: CaptureKey, stream: StreamName): Promise<State | undefined> {
  const { rows } = await db.query<State>(
    `SELECT CASE WHEN a.number IS NULL THEN e.finished_at IS NOT NULL OR w.withdrawn_at IS NOT NULL
                 ELSE c.state = 'captured' OR a.state = 'finalized' END AS over,
            ${MISSING_RANGES}, coalesce(s.complete, false) AS complete, coalesce(s.truncated, false) AS truncated, s.sha256
     FROM (SELECT $1::uuid AS uid, $2::integer AS number) k
     LEFT JOIN crucible.evaluations e ON e.uid = k.uid
     LEFT JOIN crucible.submissions w ON w.uid = k.uid
     LEFT JOIN crucible.attempts a ON a.evaluation_uid = k.uid AND a.number = k.number
     LEFT JOIN crucible.captures c ON c.evaluation_uid = k.uid AND c.attempt = k.number
     LEFT JOIN crucible.streams s ON s.evaluation_uid = k.uid AND s.attempt = k.number AND s.stream = $3`,
    [key.evaluationUid, key.attempt, stream],
  );
  return rows[0];
}

/** Where the first chunk lies that fills what was missing before. */
async function movedFrom(
  db: Database,
  key: CaptureKey,
  stream: StreamName,
  before: readonly SeqRange[],
  now: readonly SeqRange[],
): Promise<number | undefined> {
  const same = before.every(({ from, to }) => now.some((range) => range.from === from && range.to >= to));
  if (same) return undefined;
  const { rows } = await db.query<{ offset: number | null }>(
    `SELECT min(byte_offset) AS offset FROM crucible.output_chunks o, unnest($4::int8multirange) AS was (range)
     WHERE o.evaluation_uid = $1 AND o.attempt = $2 AND o.stream = $3 AND o.first_seq <@ was.range`,
    [key.evaluationUid, key.attempt, stream, `{${before.map(({ from, to }) => `[${from},${to}]`).join(',')}}`],
  );
  return rows[0]?.offset ?? undefined;
}

async function slicesFrom(db: Database, key: CaptureKey, stream: StreamName, offset: number, bytes?: number): Promise<OutputSlice> {
  return await readSlice(db, key, stream, { from: 'start', offset }, bytes).catch((error: unknown) => {
    // Not begun, or deleted with all records since.
    if (error instanceof NotFoundError) return { offset, data: Buffer.alloc(0), totalBytes: offset };
    throw error;
  });
}
