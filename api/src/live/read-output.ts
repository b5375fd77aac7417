import { readSlice, type Database, type StreamName } from '@crucible/storage';
import { Problem } from '../problems.ts';

const PIECE_BYTES = 256 * 1024;

/** Of one attempt, which the caller has been found to be allowed to read. */
export interface OutputKey {
  readonly evaluationUid: string;
  readonly attempt: number;
  readonly stream: StreamName;
}

/** The bytes first … last of a stream, read as they are taken. Throws when they are not there any more. */
export async function* streamOutput(
  database: Database,
  { stream, ...key }: OutputKey,
  { first, last }: { first: number; last: number },
): AsyncGenerator<Buffer> {
  for (let at = first; at <= last; ) {
    const { data } = await readSlice(database, key, stream, { from: 'start', offset: at }, Math.min(PIECE_BYTES, last - at + 1));
    if (data.length === 0) throw outputDeleted();
    yield data;
    at += data.length;
  }
}

export const outputDeleted = (): Problem => new Problem(410, 'retention has deleted the bytes; the ledger in the record says what there was');
