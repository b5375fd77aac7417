import type { Frame, FrameKind } from './frames.ts';

/** Twice the longest line, so that little of one is left empty. */
const SLAB_BYTES = 32 * 1024;
/** Slabs that nobody uses and that are kept for the next: 8 MiB. */
const MAX_SPARE = 256;

/** Of all captures. A new one for each piece of a log would have V8 collect all the time, and leave holes in the heap. */
const spare: Buffer[] = [];

interface Entry {
  readonly seq: number;
  readonly kind: FrameKind;
  readonly newline: boolean;
  readonly slab: number;
  readonly start: number;
  readonly end: number;
}

/** Frames that wait to be stored: their text is copied, back to back, into few large buffers that are used again. */
export class PendingFrames implements Iterable<Frame> {
  readonly #entries: Entry[] = [];
  readonly #slabs: Buffer[] = [];
  #used = 0;
  #textBytes = 0;

  get size(): number {
    return this.#entries.length;
  }

  /** Of all texts. */
  get textBytes(): number {
    return this.#textBytes;
  }

  add({ seq, kind, newline, text }: Frame): void {
    const slab = this.#room(text.length);
    text.copy(slab, this.#used);
    const start = this.#used;
    this.#used += text.length;
    this.#textBytes += text.length;
    this.#entries.push({ seq, kind, newline, slab: this.#slabs.length - 1, start, end: this.#used });
  }

  /** Texts are views: none may be used any more after release(). */
  *[Symbol.iterator](): Generator<Frame, void, undefined> {
    for (const { seq, kind, newline, slab, start, end } of this.#entries)
      yield { seq, kind, newline, text: this.#slabs[slab]!.subarray(start, end) };
  }

  /** They are stored, or given up. */
  release(): void {
    for (const slab of this.#slabs.splice(0)) {
      if (slab.length === SLAB_BYTES && spare.length < MAX_SPARE) spare.push(slab);
    }
    this.#entries.length = 0;
    this.#used = 0;
    this.#textBytes = 0;
  }

  #room(bytes: number): Buffer {
    const last = this.#slabs.at(-1);
    if (last !== undefined && this.#used + bytes <= last.length) return last;
    const slab = bytes > SLAB_BYTES ? Buffer.allocUnsafeSlow(bytes) : (spare.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES));
    this.#slabs.push(slab);
    this.#used = 0;
    return slab;
  }
}
