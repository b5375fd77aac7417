import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { OutputWatch, connectRedis, followOutput, isUnavailable } from '@crucible/storage';
import type { Database } from '@crucible/storage';

/** Somebody who watches a run while it is harmed, as the API does for its readers. */
export class LiveReaders {
  readonly #database: Database;
  readonly #watch: OutputWatch;
  readonly #redis: ReturnType<typeof connectRedis> | undefined;
  readonly #stop = new AbortController();
  readonly #readers = new Map<string, { done: Promise<void>; breach: string | undefined; ended: boolean }>();

  constructor(database: Database, redisUrl: string | undefined) {
    this.#database = database;
    this.#redis = redisUrl === undefined ? undefined : connectRedis({ url: redisUrl });
    this.#watch = new OutputWatch({ database, redis: this.#redis });
  }

  /** Follows the first attempt's stdout of whatever evaluation there is by now. */
  follow(uids: readonly string[]): void {
    for (const uid of uids) {
      if (this.#readers.has(uid)) continue;
      const reader = { done: Promise.resolve(), breach: undefined as string | undefined, ended: false };
      this.#readers.set(uid, reader);
      reader.done = this.#read(uid).then((breach) => {
        reader.breach = breach;
        reader.ended = true;
      });
    }
  }

  /** Of those whose run is over; who has not seen its end by then never will. */
  async breaches(milliseconds: number): Promise<string[]> {
    await Promise.race([Promise.all([...this.#readers.values()].map(({ done }) => done)), pause(milliseconds)]);
    return [...this.#readers].flatMap(([uid, { ended, breach }]) =>
      ended ? (breach === undefined ? [] : [`(b) a live reader of ${uid}: ${breach}`]) : [`(b) a live reader of ${uid} never saw the end`],
    );
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all([...this.#readers.values()].map(({ done }) => done));
    await this.#watch.stop();
    this.#redis?.disconnect();
  }

  async #read(evaluationUid: string): Promise<string | undefined> {
    const pieces: Buffer[] = [];
    for (let offset = 0; !this.#stop.signal.aborted; ) {
      try {
        const options = { evaluationUid, attempt: 1, stream: 'stdout' as const, offset, signal: this.#stop.signal };
        for await (const part of followOutput({ database: this.#database, watch: this.#watch }, options)) {
          if (part.type === 'end') return compare(Buffer.concat(pieces), part);
          if (part.type === 'data') pieces.push(part.data);
          else pieces.splice(0, pieces.length, Buffer.concat(pieces).subarray(0, part.offset));
          offset = pieces.reduce((sum, { length }) => sum + length, 0);
        }
      } catch (error) {
        if (!isUnavailable(error)) return String(error);
        await pause(100);
      }
    }
    return undefined;
  }
}

function compare(seen: Buffer, { bytes, sha256 }: { bytes: number; sha256: string }): string | undefined {
  // Never captured: there is nothing to be compared with.
  if (sha256 === '') return undefined;
  const hash = createHash('sha256').update(seen).digest('hex');
  return seen.length === bytes && hash === sha256 ? undefined : `has ${seen.length} bytes, ${hash}; the ledger says ${bytes}, ${sha256}`;
}
