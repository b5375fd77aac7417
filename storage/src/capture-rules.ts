// What a batch must be for its bytes to end up in the right place. A violation is a bug of the caller: RangeError.
import { STREAM_NAMES } from './types.ts';
import type { AppendChunks, FinishCapture, OutputChunk, Reconcile, SeqRange } from './types.ts';

export const MAX_CHUNK_BYTES = 65_536;

export function checkAppend({ afterSeq, lastSeq, missing = [], chunks }: AppendChunks): void {
  require(Number.isSafeInteger(afterSeq) && afterSeq >= 0 && lastSeq >= afterSeq, 'lastSeq is before afterSeq');
  for (const range of missing) {
    require(range.from > afterSeq && range.to >= range.from && range.to <= lastSeq, 'a missing range is outside of the batch');
  }
  checkChunks(chunks);
  for (const chunk of chunks) {
    require(chunk.firstSeq > afterSeq && chunk.lastSeq <= lastSeq, 'a chunk is outside of the batch');
    require(!missing.some((range) => overlap(range, chunk)), 'a chunk reaches across missing frames');
  }
}

export function checkReconcile({ found, chunks }: Reconcile): void {
  require(found.length > 0, 'nothing was found');
  for (const { from, to } of found) require(from >= 1 && to >= from, 'a found range is empty');
  checkChunks(chunks);
  for (const { firstSeq, lastSeq } of chunks) {
    require(found.some(({ from, to }) => from <= firstSeq && lastSeq <= to), 'a chunk is outside of the found ranges');
  }
}

export function checkFinish({ complete, reason, streams, artifactsComplete }: FinishCapture): void {
  require(complete === (reason === null), 'exactly an incomplete capture has a reason');
  const whole = STREAM_NAMES.every((name) => streams[name].complete) && artifactsComplete;
  require(!complete || whole, 'a capture is complete only when both streams and the artifacts are');
}

function checkChunks(chunks: readonly OutputChunk[]): void {
  for (const stream of STREAM_NAMES) {
    let previous = 0;
    for (const { firstSeq, lastSeq, data, lines } of chunks.filter((chunk) => chunk.stream === stream)) {
      require(firstSeq > previous && lastSeq >= firstSeq, 'chunks are not in order');
      require(data.length >= 1 && data.length <= MAX_CHUNK_BYTES, `a chunk has 1 to ${MAX_CHUNK_BYTES} bytes`);
      require(Number.isSafeInteger(lines) && lines >= 0, 'lines are counted from 0');
      previous = lastSeq;
    }
  }
}

function overlap(range: SeqRange, chunk: OutputChunk): boolean {
  return range.from <= chunk.lastSeq && chunk.firstSeq <= range.to;
}

function require(condition: boolean, message: string): void {
  if (!condition) throw new RangeError(`bad capture batch: ${message}`);
}
