import { SeqRanges, type SeqRange } from './ranges.ts';

/** `new` is the only answer after which a frame is used; the others are counted. */
export type Arrival = 'new' | 'duplicate' | 'late';

/**
 * Decides which frames are new, from the numbers alone. A log is always read from its start (pods/log knows no
 * offsets, and sinceTime only seconds), so most of what a resumed reader sees is duplicate by design. The first bytes
 * seen for a number win; a number that comes after a higher one (`late`) is left to the final read.
 */
export class Sequencer {
  #lastSeq: number;
  readonly gaps: SeqRanges;
  duplicates = 0;
  late = 0;

  constructor(lastSeq = 0, gaps: Iterable<SeqRange> = []) {
    this.#lastSeq = lastSeq;
    this.gaps = new SeqRanges(gaps);
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  accept(seq: number): Arrival {
    if (seq <= this.#lastSeq) {
      if (this.gaps.has(seq)) {
        this.late += 1;
        return 'late';
      }
      this.duplicates += 1;
      return 'duplicate';
    }
    if (seq > this.#lastSeq + 1) this.gaps.append(this.#lastSeq + 1, seq - 1);
    this.#lastSeq = seq;
    return 'new';
  }
}
