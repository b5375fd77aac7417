import { readOutputRange, type Database, type RunKey, type StreamName } from '@crucible/storage';

const PIECE_BYTES = 256 * 1024;

/** The bytes first … last of a stream, read as they are taken. Throws when they are not there any more. */
export async function* streamOutput(
  database: Database,
  key: RunKey,
  stream: StreamName,
  scope: readonly string[],
  { first, last }: { first: number; last: number },
): AsyncGenerator<Buffer> {
  for (let at = first; at <= last; ) {
    const range = await readOutputRange(database, key, stream, scope, { offset: at, length: Math.min(PIECE_BYTES, last - at + 1) });
    if (range === undefined || range.data.length === 0) throw new Error('the output was deleted while it was read');
    yield range.data;
    at += range.data.length;
  }
}
