/** Thrown for a line that is longer than allowed. */
export class LineTooLongError extends Error {}

const LF = 10;

/**
 * Cuts a byte stream into lines, wherever its chunks end: within a line, or within a UTF-8 character, which is why it
 * works on bytes and leaves decoding to whole lines.
 */
export class LineSplitter {
  readonly #maxBytes: number;
  #parts: Uint8Array[] = [];
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of a line that has not ended yet. */
  get pendingBytes(): number {
    return this.#length;
  }

  *push(chunk: Uint8Array): Generator<Buffer> {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(LF, start);
      this.#append(chunk.subarray(start, end < 0 ? chunk.length : end));
      if (end < 0) return;
      start = end + 1;
      const line = this.#parts.length === 1 ? Buffer.from(this.#parts[0]!) : Buffer.concat(this.#parts, this.#length);
      this.#parts = [];
      this.#length = 0;
      yield line;
    }
  }

  #append(part: Uint8Array): void {
    this.#length += part.length;
    if (this.#length > this.#maxBytes) throw new LineTooLongError(`line longer than ${this.#maxBytes} bytes`);
    if (part.length > 0 || this.#parts.length === 0) this.#parts.push(part);
  }
}
