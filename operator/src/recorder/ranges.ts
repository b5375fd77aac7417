/** Inclusive range of sequence numbers. */
export interface SeqRange {
  readonly from: number;
  readonly to: number;
}

/**
 * Missing sequence numbers as sorted, disjoint, inclusive ranges. The number of ranges is capped, because code that
 * forges every second number would otherwise grow the list without end: past the cap the last range absorbs what
 * comes, so the list then names more than is missing, never less.
 */
export class SeqRanges {
  readonly #ranges: { from: number; to: number }[] = [];
  readonly #cap: number;
  #coarse = false;

  constructor(ranges: Iterable<SeqRange> = [], cap = 1000) {
    this.#cap = cap;
    for (const { from, to } of [...ranges].sort((a, b) => a.from - b.from)) this.append(from, to);
  }

  /** True when ranges were merged over the cap. */
  get coarse(): boolean {
    return this.#coarse;
  }

  get size(): number {
    return this.#ranges.length;
  }

  /** How many numbers are in the ranges. */
  get count(): number {
    return this.#ranges.reduce((sum, range) => sum + range.to - range.from + 1, 0);
  }

  /** Adds a range that lies after, overlaps or touches the last one. */
  append(from: number, to: number): void {
    if (to < from) return;
    const last = this.#ranges.at(-1);
    if (last !== undefined && from <= last.to + 1) {
      last.to = Math.max(last.to, to);
    } else if (last !== undefined && this.#ranges.length >= this.#cap) {
      last.to = to;
      this.#coarse = true;
    } else {
      this.#ranges.push({ from, to });
    }
  }

  has(seq: number): boolean {
    const at = this.#find(seq);
    return at >= 0 && this.#ranges[at]!.to >= seq;
  }

  /** Whether any number of from..to is in the ranges. */
  intersects(from: number, to: number): boolean {
    const at = this.#find(to);
    return at >= 0 && this.#ranges[at]!.to >= from;
  }

  /** Removes one number; false when it was not there, or when splitting its range would exceed the cap. */
  remove(seq: number): boolean {
    const at = this.#find(seq);
    const range = this.#ranges[at];
    if (range === undefined || range.to < seq) return false;
    if (range.from === seq && range.to === seq) this.#ranges.splice(at, 1);
    else if (range.from === seq) range.from = seq + 1;
    else if (range.to === seq) range.to = seq - 1;
    else {
      if (this.#ranges.length >= this.#cap) return false;
      this.#ranges.splice(at, 1, { from: range.from, to: seq - 1 }, { from: seq + 1, to: range.to });
    }
    return true;
  }

  toJSON(): SeqRange[] {
    return this.#ranges.map(({ from, to }) => ({ from, to }));
  }

  /** Index of the last range that starts at or before seq; -1 when none does. */
  #find(seq: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.from <= seq) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
