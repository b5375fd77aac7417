import type { Frame, FrameKind } from './frames.ts';

/** Twice the longest line, so that little of one is left empty. */
const SLAB_BYTES = 32 * 1024;
/** Slabs that nobody uses and that are kept for the next: 8 MiB. */
const MAX_SPARE = 256;

/** Of all captures. A new one for each piece of a log would have V8 collect all the time, and leave holes in the heap. */
const spare: Buffer[] = [];

const KINDS: readonly FrameKind[] = ['stdout', 'stderr', 'artifact', 'receipt', 'summary'];
/** Before each text: number, kind with newline, length. Objects instead, one for each line, would grow old in V8's heap. */
const HEAD_BYTES = 16;
const [KIND_AT, LENGTH_AT] = [8, 12];

interface Slab {
  readonly bytes: Buffer;
  used: number;
}

/** Frames that wait to be stored, copied into few large buffers that are used again. */
export class PendingFrames implements Iterable<Frame> {
  readonly #slabs: Slab[] = [];
  #size = 0;
  #textBytes = 0;

  get size(): number {
    return this.#size;
  }

  /** Of all texts. */
  get textBytes(): number {
    return this.#textBytes;
  }

  add({ seq, kind, newline, text }: Frame): void {
    const slab = this.#room(HEAD_BYTES + text.length);
    const { bytes, used } = slab;
    bytes.writeDoubleLE(seq, used);
    bytes.writeUInt32LE(KINDS.indexOf(kind) * 2 + (newline ? 1 : 0), used + KIND_AT);
    bytes.writeUInt32LE(text.length, used + LENGTH_AT);
    text.copy(bytes, used + HEAD_BYTES);
    slab.used += HEAD_BYTES + text.length;
    this.#size += 1;
    this.#textBytes += text.length;
  }

  /** Texts are views: none may be used any more after release(). */
  *[Symbol.iterator](): Generator<Frame, void, undefined> {
    for (const { bytes, used } of this.#slabs) {
      for (let at = 0; at < used;) {
        const code = bytes.readUInt32LE(at + KIND_AT);
        const start = at + HEAD_BYTES;
        const end = start + bytes.readUInt32LE(at + LENGTH_AT);
        yield { seq: bytes.readDoubleLE(at), kind: KINDS[code >> 1]!, newline: code % 2 === 1, text: bytes.subarray(start, end) };
        at = end;
      }
    }
  }

  /** They are stored, or given up. */
  release(): void {
    for (const { bytes } of this.#slabs.splice(0)) {
      if (bytes.length === SLAB_BYTES && spare.length < MAX_SPARE) spare.push(bytes);
    }
    this.#size = 0;
    this.#textBytes = 0;
  }

  #room(bytes: number): Slab {
    const last = this.#slabs.at(-1);
    if (last !== undefined && last.used + bytes <= last.bytes.length) return last;
    const own = bytes > SLAB_BYTES ? undefined : spare.pop();
    const slab = { bytes: own ?? Buffer.allocUnsafeSlow(Math.max(bytes, SLAB_BYTES)), used: 0 };
    this.#slabs.push(slab);
    return slab;
  }
}
