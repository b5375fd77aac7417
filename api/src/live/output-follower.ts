import { readOutputRange, readStream } from '@crucible/storage';
import type { Database, OutputRange, RunKey, StreamInfo, StreamName } from '@crucible/storage';
import { TtlCache } from '../auth/ttl-cache.ts';

const PIECE_BYTES = 64 * 1024;
const MIN_WAIT_MILLISECONDS = 250;
const MAX_WAIT_MILLISECONDS = 2_000;
const LOOK_SECONDS = 0.2;
const MAX_LOOKS = 10_000;

export interface FollowOutput {
  readonly scope: readonly string[];
  /** True when the run is over: a capture that has not begun will not come. */
  readonly ended: () => Promise<boolean>;
  readonly signal: AbortSignal;
}

/**
 * Reads streams while they grow. Bytes come from the record, where the recorder writes them as they flow; of many who read
 * the same stream one looks for all.
 */
export class OutputFollowers {
  readonly #database: Database;
  readonly #looks: TtlCache<StreamInfo | undefined>;

  constructor(database: Database, now: () => number) {
    this.#database = database;
    this.#looks = new TtlCache(MAX_LOOKS, now);
  }

  /** Pieces from an offset on, until the stream is captured and read to its end, or the signal aborts. */
  async *read(key: RunKey, stream: StreamName, offset: number, options: FollowOutput): AsyncGenerator<OutputRange> {
    let at = offset;
    let wait = MIN_WAIT_MILLISECONDS;
    while (!options.signal.aborted) {
      // First, so that what was written between the two looks is not taken for nothing.
      const over = await options.ended();
      const info = await this.#look(key, stream, options.scope);
      const range = info !== undefined && info.bytes > at ? await this.#piece(key, stream, options.scope, at) : undefined;
      if (range !== undefined && range.data.length > 0) {
        yield range;
        at = range.offset + range.data.length;
        wait = MIN_WAIT_MILLISECONDS;
      } else if (info?.state === 'captured' || (info === undefined && over)) return;
      else {
        await pause(wait, options.signal);
        wait = Math.min(wait * 2, MAX_WAIT_MILLISECONDS);
      }
    }
  }

  #look(key: RunKey, stream: StreamName, scope: readonly string[]): Promise<StreamInfo | undefined> {
    const name = `${key.uid}/${key.attempt ?? ''}/${stream}`;
    return this.#looks.get(name, () => readStream(this.#database, key, stream, scope), () => LOOK_SECONDS);
  }

  #piece(key: RunKey, stream: StreamName, scope: readonly string[], offset: number): Promise<OutputRange | undefined> {
    return readOutputRange(this.#database, key, stream, scope, { offset, length: PIECE_BYTES });
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done);
  });
}
