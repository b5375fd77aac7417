import type { OutputChunk, SeqRange, StreamName } from '@crucible/storage';
import { contentLength, LF, type Frame } from './frames.ts';

/** Storage refuses larger chunks. */
export const MAX_CHUNK_BYTES = 64 * 1024;
/** What a frame costs beside its text: the same charge that the launcher makes, and about what a small Buffer needs. */
export const FRAME_CHARGE = 64;
/** More holes than this are a forged sequence: then what follows a hole is counted as missing instead of stored. */
export const MAX_MISSING_RANGES = 1000;

export interface Batch {
  readonly afterSeq: number;
  readonly lastSeq: number;
  readonly missing: SeqRange[];
  readonly chunks: OutputChunk[];
}

export interface BatchLimits {
  /** Content bytes that may still be stored for this capture. */
  readonly bytesLeft: number;
  /** Ranges that may still be declared missing. */
  readonly rangesLeft: number;
}

/** A copy that outlives the decoder's input. */
export function ownFrame(frame: Frame): Frame {
  return { ...frame, text: Buffer.from(frame.text) };
}

export function frameCharge(frame: Frame): number {
  return frame.text.length + FRAME_CHARGE;
}

/**
 * Turns ascending frames after `afterSeq` into chunks and holes. A chunk never spans a missing number, so that what a
 * final read finds can be put between chunks. What exceeds the limits is declared missing, never silently dropped.
 */
export function buildBatch(frames: Iterable<Frame>, afterSeq: number, limits: BatchLimits): Batch {
  const chunks = new ChunkBuilder();
  const missing: { from: number; to: number }[] = [];
  let { bytesLeft } = limits;
  let lastSeq = afterSeq;
  const lose = (from: number, to: number): void => {
    const last = missing.at(-1);
    if (last !== undefined && last.to + 1 === from) last.to = to;
    else missing.push({ from, to });
    chunks.cut();
  };
  for (const frame of frames) {
    if (frame.seq <= lastSeq) continue;
    if (frame.seq > lastSeq + 1) lose(lastSeq + 1, frame.seq - 1);
    lastSeq = frame.seq;
    const output = frame.kind === 'stdout' || frame.kind === 'stderr';
    const length = output ? contentLength(frame) : 0;
    if (length > bytesLeft || missing.length > limits.rangesLeft) {
      lose(frame.seq, frame.seq);
      continue;
    }
    if (!output) continue;
    bytesLeft -= length;
    chunks.add(frame.kind, frame);
  }
  return { afterSeq, lastSeq, missing, chunks: chunks.finish() };
}

interface OpenChunk {
  readonly stream: StreamName;
  readonly firstSeq: number;
  lastSeq: number;
  readonly parts: Buffer[];
  bytes: number;
  lines: number;
}

const NEWLINE = Buffer.of(LF);

export class ChunkBuilder {
  readonly #done: OpenChunk[] = [];
  #bytes = 0;
  readonly #open = new Map<StreamName, OpenChunk>();

  add(stream: StreamName, frame: Frame): void {
    const length = contentLength(frame);
    if (length === 0) return;
    let chunk = this.#open.get(stream);
    if (chunk !== undefined && chunk.bytes + length > MAX_CHUNK_BYTES) {
      this.#close(chunk);
      chunk = undefined;
    }
    if (chunk === undefined) {
      chunk = { stream, firstSeq: frame.seq, lastSeq: frame.seq, parts: [], bytes: 0, lines: 0 };
      this.#open.set(stream, chunk);
    }
    chunk.lastSeq = frame.seq;
    chunk.parts.push(frame.text);
    if (frame.newline) chunk.parts.push(NEWLINE);
    chunk.bytes += length;
    chunk.lines += frame.newline ? 1 : 0;
  }

  /** Nothing may be added to the chunks so far. */
  cut(): void {
    for (const chunk of this.#open.values()) this.#close(chunk);
  }

  /** Copied, and side by side in one buffer: storage need not put them together once more. */
  finish(): OutputChunk[] {
    this.cut();
    const chunks = this.#done.sort((a, b) => a.firstSeq - b.firstSeq);
    const all = Buffer.allocUnsafeSlow(this.#bytes);
    let at = 0;
    return chunks.map(({ stream, firstSeq, lastSeq, parts, lines }) => {
      const start = at;
      for (const part of parts) at += part.copy(all, at);
      return { stream, firstSeq, lastSeq, data: all.subarray(start, at), lines };
    });
  }

  #close(chunk: OpenChunk): void {
    this.#open.delete(chunk.stream);
    this.#done.push(chunk);
    this.#bytes += chunk.bytes;
  }
}
