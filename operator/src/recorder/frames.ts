// The launcher's output protocol, as read from a pod's log. Every byte of it is controlled by the code under
// evaluation (it can, at worst, replace the launcher), so decoding never throws, never trusts a length or a number,
// and holds at most one line. What is not a frame is counted as evidence and otherwise ignored.

export type FrameKind = 'stdout' | 'stderr' | 'artifact' | 'receipt' | 'summary';

export interface Frame {
  readonly seq: number;
  readonly kind: FrameKind;
  /** Raw bytes without the line feed. A view into the decoder's input: copy it to keep it longer than the call. */
  readonly text: Buffer;
  /** Whether the program itself wrote a newline here: `|` and `!` yes, `+` and `?` no. */
  readonly newline: boolean;
}

export interface DecoderLimits {
  /** Longest line in bytes without its line feed. The launcher keeps every frame under 16 KiB. */
  readonly maxLineBytes: number;
  /** Highest believable sequence number. */
  readonly maxSeq: number;
}

/**
 * The launcher emits at most 8 MiB with 64 bytes charged per line, that is 131,072 lines. A higher number is forged:
 * believing it would turn every real frame after it into a "duplicate".
 */
export const DECODER_LIMITS: DecoderLimits = { maxLineBytes: 16 * 1024 + 256, maxSeq: 200_000 };

export interface DecoderStats {
  bytes: number;
  frames: number;
  /** Lines that are not frames, and their bytes. */
  foreignLines: number;
  foreignBytes: number;
  /** Lines over the cap. Their frame, if it was one, shows as a gap in the sequence. */
  oversizedLines: number;
  oversizedBytes: number;
  /** Bytes after the last line feed when the stream ended: a frame cut in half. */
  unterminatedBytes: number;
}

export const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const PIPE = 0x7c;
const PLUS = 0x2b;
// Like | and +, and the text ends with a guard that is not the program's: it keeps a carriage return away from the end
// of the line, where containerd's log writer drops it.
const GUARDED_PIPE = 0x21;
const GUARDED_PLUS = 0x3f;
const GUARD = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const FOREIGN_SAMPLE = 160;
const MAX_SEQ_DIGITS = 15; // stays a safe integer

const KINDS: ReadonlyMap<number, FrameKind> = new Map(
  [
    ['o', 'stdout'],
    ['e', 'stderr'],
    ['a', 'artifact'],
    ['r', 'receipt'],
    ['s', 'summary'],
  ].map(([letter, kind]) => [letter!.charCodeAt(0), kind as FrameKind]),
);

const LETTERS: Record<FrameKind, string> = { stdout: 'o', stderr: 'e', artifact: 'a', receipt: 'r', summary: 's' };

export class FrameDecoder {
  readonly stats: DecoderStats = {
    bytes: 0,
    frames: 0,
    foreignLines: 0,
    foreignBytes: 0,
    oversizedLines: 0,
    oversizedBytes: 0,
    unterminatedBytes: 0,
  };
  readonly #limits: DecoderLimits;
  #firstForeign: string | undefined;
  // Of a line that is split across chunks: at most one is ever held, and nothing between two. Never of Node's pool, of
  // which a line that is waited for would keep 64 KiB.
  #carry: Buffer | undefined;
  #carried = 0;
  // Bytes of the current over-long line seen so far; 0 when not skipping one.
  #skipped = 0;

  constructor(limits: DecoderLimits = DECODER_LIMITS) {
    this.#limits = limits;
  }

  /** The beginning of the first thing that is no frame: the kubelet reports its own errors in the stream. Never log it. */
  get firstForeign(): string | undefined {
    return this.#firstForeign;
  }

  /** Frames completed by this chunk. Consume the generator before pushing the next chunk or reusing its memory. */
  *push(input: Uint8Array): Generator<Frame, void, undefined> {
    const chunk = Buffer.from(input.buffer, input.byteOffset, input.byteLength);
    this.stats.bytes += chunk.length;
    let start = 0;
    while (start < chunk.length) {
      const end = chunk.indexOf(LF, start);
      if (end === -1) {
        this.#hold(chunk, start, chunk.length);
        return;
      }
      const line = this.#complete(chunk, start, end);
      start = end + 1;
      if (line === undefined) continue;
      const frame = parseFrame(line, this.#limits.maxSeq);
      if (frame === undefined) {
        this.#firstForeign ??= line.toString('latin1', 0, FOREIGN_SAMPLE);
        this.stats.foreignLines += 1;
        this.stats.foreignBytes += line.length + 1;
      } else {
        this.stats.frames += 1;
        yield frame;
      }
    }
  }

  /** The stream is over. A line without its line feed is not a frame: its end, and so its text, is unknown. */
  end(): void {
    if (this.#carried > 0)
      this.#firstForeign ??= this.#carry!.toString('latin1', 0, Math.min(this.#carried, FOREIGN_SAMPLE));
    this.stats.unterminatedBytes += this.#carried + this.#skipped;
    this.#drop();
    this.#skipped = 0;
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    const length = end - start;
    if (this.#skipped > 0 || this.#carried + length > this.#limits.maxLineBytes) {
      this.#skipped += this.#carried + length;
      this.#drop();
      return;
    }
    chunk.copy(this.#room(this.#carried + length), this.#carried, start, end);
    this.#carried += length;
  }

  #room(bytes: number): Buffer {
    const old = this.#carry;
    if (old !== undefined && bytes <= old.length) return old;
    this.#carry = Buffer.allocUnsafeSlow(Math.min(Math.max(bytes, 2 * (old?.length ?? 0)), this.#limits.maxLineBytes));
    old?.copy(this.#carry, 0, 0, this.#carried);
    return this.#carry;
  }

  #drop(): void {
    this.#carry = undefined;
    this.#carried = 0;
  }

  #complete(chunk: Buffer, start: number, end: number): Buffer | undefined {
    const length = this.#carried + (end - start);
    if (this.#skipped > 0 || length > this.#limits.maxLineBytes) {
      this.stats.oversizedLines += 1;
      this.stats.oversizedBytes += this.#skipped + length + 1;
      this.#drop();
      this.#skipped = 0;
      return undefined;
    }
    if (this.#carried === 0) return chunk.subarray(start, end);
    this.#hold(chunk, start, end);
    const line = this.#carry!.subarray(0, this.#carried);
    this.#drop();
    return line;
  }
}

/** One line without its line feed, or undefined when it is not a frame. */
export function parseFrame(line: Buffer, maxSeq: number = DECODER_LIMITS.maxSeq): Frame | undefined {
  let seq = 0;
  let at = 0;
  for (; at < line.length && at <= MAX_SEQ_DIGITS; at += 1) {
    const digit = line[at]!;
    if (digit < ZERO || digit > NINE) break;
    seq = seq * 10 + (digit - ZERO);
  }
  if (at === 0 || at > MAX_SEQ_DIGITS || line[0] === ZERO || seq > maxSeq) return undefined;
  if (line[at] !== SPACE) return undefined;
  const kind = KINDS.get(line[at + 1] ?? 0);
  const mark = line[at + 2];
  if (kind === undefined) return undefined;
  // Only program output can lack its newline or end with a carriage return.
  if (mark !== PIPE && kind !== 'stdout' && kind !== 'stderr') return undefined;
  const text = line.subarray(at + 3);
  switch (mark) {
    case PIPE:
    case PLUS:
      if (text.at(-1) === CR) return undefined; // the launcher would have guarded it
      return { seq, kind, text, newline: mark === PIPE };
    case GUARDED_PIPE:
    case GUARDED_PLUS:
      if (text.at(-1) !== GUARD) return undefined;
      return { seq, kind, text: text.subarray(0, -1), newline: mark === GUARDED_PIPE };
    default:
      return undefined;
  }
}

/** The exact line of a frame, line feed included: what the launcher wrote, and what the spool keeps. */
export function encodeFrame(frame: Frame): Buffer {
  const guarded = frame.text.at(-1) === CR;
  const mark = guarded ? (frame.newline ? '!' : '?') : frame.newline ? '|' : '+';
  const head = Buffer.from(`${frame.seq} ${LETTERS[frame.kind]}${mark}`, 'latin1');
  return Buffer.concat([head, frame.text, Buffer.from(guarded ? [GUARD, LF] : [LF])]);
}

/** Bytes the frame adds to its stream. */
export function contentLength(frame: Frame): number {
  return frame.text.length + (frame.newline ? 1 : 0);
}
