import { createHash, type Hash } from 'node:crypto';
import type { CaptureRepository, SeqRange, StreamName } from '@crucible/storage';
import { ChunkBuilder, frameCharge, MAX_CHUNK_BYTES, MAX_MISSING_RANGES, ownFrame } from './batch.ts';
import { contentLength, LF, type Frame } from './frames.ts';
import type { StoredChunk } from './ledger.ts';
import type { LogPass } from './pass.ts';
import { SeqRanges } from './ranges.ts';
import type { Sequencer } from './sequencer.ts';
import type { SpoolKey } from './spool.ts';
import { MAX_STORED_BYTES, type CaptureWriter } from './writer.ts';

const MAX_CONTRADICTIONS = 1000;
/**
 * Filled into holes: as much as a launcher sends, charges included, in so many pieces. Each piece moves the bytes behind
 * it: a forged log must not make that a thousand times a thousand.
 */
const MAX_FILLED_CHARGE = MAX_STORED_BYTES;
const MAX_FILLED_RANGES = 100;
const NEWLINE = Buffer.of(LF);

/** The capture changed under the final read: begin it again from the new position. */
export class CaptureMoved extends Error {}

/** Compares a stream's stored chunks with the frames of a log, by hash: no stored byte has to be fetched. */
class ChunkComparer {
  readonly #chunks: readonly StoredChunk[];
  readonly #different: StoredChunk[] = [];
  readonly #stream: StreamName;
  #at = 0;
  #hash: Hash = createHash('sha256');

  constructor(stream: StreamName, chunks: readonly StoredChunk[]) {
    this.#stream = stream;
    this.#chunks = chunks.filter((chunk) => chunk.stream === stream).sort((a, b) => a.firstSeq - b.firstSeq);
  }

  /** Frames must come in ascending order. */
  observe(frame: Frame): void {
    const { seq } = frame;
    while (this.#at < this.#chunks.length && this.#chunks[this.#at]!.lastSeq < seq) this.#close();
    const chunk = this.#chunks[this.#at];
    if (chunk !== undefined && chunk.firstSeq <= seq) {
      this.#hash.update(frame.text);
      if (frame.newline) this.#hash.update(NEWLINE);
    } else if (contentLength(frame) > 0 && this.#different.length < MAX_CONTRADICTIONS) {
      // Stored as a frame of another kind, for it is not missing and not here.
      this.#different.push({ stream: this.#stream, firstSeq: seq, lastSeq: seq, bytes: 0, sha256: '' });
    }
  }

  /** Chunks that the log contradicts. Those that it holds only in part, or not at all any more, prove nothing. */
  finish(read: Sequencer): StoredChunk[] {
    while (this.#at < this.#chunks.length) this.#close();
    return this.#different.filter(
      ({ firstSeq, lastSeq }) => read.lastSeq >= lastSeq && !read.gaps.intersects(firstSeq, lastSeq),
    );
  }

  #close(): void {
    const chunk = this.#chunks[this.#at]!;
    if (this.#hash.digest('hex') !== chunk.sha256) this.#different.push(chunk);
    this.#hash = createHash('sha256');
    this.#at += 1;
  }
}

export interface FinalReadOptions {
  readonly key: SpoolKey;
  readonly recorder: () => string;
  readonly pass: LogPass;
  readonly writer: CaptureWriter;
  readonly chunks: readonly StoredChunk[];
  readonly captures: Pick<CaptureRepository, 'reconcile'>;
}

/**
 * The last reading of a log, when nothing is added to it any more: what lies behind the stored position is appended,
 * what is missing before it is filled in, what is stored is compared. Stored bytes are never overwritten.
 */
export class FinalRead {
  readonly #options: FinalReadOptions;
  readonly #storedSeq: number;
  readonly #missing: SeqRanges;
  readonly #comparers: Record<StreamName, ChunkComparer>;
  #found: Frame[] = [];
  #foundCharge = 0;
  #filledCharge = 0;
  #filledRanges = 0;
  #lastFound = 0;

  constructor(options: FinalReadOptions) {
    this.#options = options;
    const { lastSeq, missing } = options.writer.position;
    this.#storedSeq = lastSeq;
    this.#missing = new SeqRanges(missing, MAX_MISSING_RANGES + 1);
    this.#comparers = {
      stdout: new ChunkComparer('stdout', options.chunks),
      stderr: new ChunkComparer('stderr', options.chunks),
    };
  }

  take(frame: Frame): void {
    const { pass, writer } = this.#options;
    if (frame.seq > this.#storedSeq) {
      writer.offer(frame);
    } else if (this.#missing.has(frame.seq)) {
      if (this.#roomFor(frame) && this.#missing.remove(frame.seq)) {
        this.#filledRanges += frame.seq === this.#lastFound + 1 ? 0 : 1;
        this.#lastFound = frame.seq;
        this.#found.push(ownFrame(frame));
        this.#foundCharge += frameCharge(frame);
        this.#filledCharge += frameCharge(frame);
      }
    } else if (isOutput(frame) && frame.seq === pass.sequence.lastSeq) {
      // A late frame (not the newest number) stays out: hashes are of ascending frames.
      this.#comparers[frame.kind].observe(frame);
    }
  }

  async relieve(): Promise<void> {
    const { writer } = this.#options;
    await writer.relieve();
    if (this.#foundCharge >= MAX_CHUNK_BYTES) await this.#fill();
  }

  /** After the last byte. Returns the stored chunks that the log contradicts. */
  async finish(): Promise<StoredChunk[]> {
    await this.#fill();
    await this.#options.writer.settle();
    const { sequence } = this.#options.pass;
    return [...this.#comparers.stdout.finish(sequence), ...this.#comparers.stderr.finish(sequence)];
  }

  #roomFor(frame: Frame): boolean {
    if (this.#filledCharge + frameCharge(frame) > MAX_FILLED_CHARGE) return false;
    if (this.#filledRanges >= MAX_FILLED_RANGES && frame.seq !== this.#lastFound + 1) return false;
    const { stdout, stderr } = this.#options.writer.position.streams;
    return stdout.bytes + stderr.bytes + this.#foundCharge + frame.text.length < MAX_STORED_BYTES;
  }

  async #fill(): Promise<void> {
    if (this.#found.length === 0) return;
    const frames = this.#found.sort((a, b) => a.seq - b.seq);
    this.#found = [];
    this.#foundCharge = 0;
    const ranges: { from: number; to: number }[] = [];
    const chunks = new ChunkBuilder();
    for (const frame of frames) {
      const last = ranges.at(-1);
      if (last !== undefined && last.to + 1 === frame.seq) last.to = frame.seq;
      else {
        chunks.cut();
        ranges.push({ from: frame.seq, to: frame.seq });
      }
      if (isOutput(frame)) chunks.add(frame.kind, frame);
    }
    await this.#reconcile(ranges, chunks);
  }

  async #reconcile(found: readonly SeqRange[], chunks: ChunkBuilder): Promise<void> {
    const { captures, key, recorder, writer } = this.#options;
    // One flush at a time: the writer's own appends move the same position.
    await writer.settle();
    const { outcome, position } = await captures.reconcile({
      ...key,
      recorder: recorder(),
      found,
      chunks: chunks.finish(),
    });
    writer.position = position;
    if (outcome !== 'appended') throw new CaptureMoved('the capture changed during its final read');
  }
}

function isOutput(frame: Frame): frame is Frame & { kind: StreamName } {
  return frame.kind === 'stdout' || frame.kind === 'stderr';
}
