import type { Logger } from 'pino';
import { FairFifo } from '../controller/fair-fifo.ts';
import type { Score, StdoutExpectation } from './expect.ts';
import { ScoreThread, TOO_SLOW } from './score-thread.ts';
import type { Snapshot } from './snapshot.ts';

export interface Scoring {
  readonly uid: string;
  readonly attempt: number;
  readonly expected: StdoutExpectation;
}

export interface ScoresOptions {
  readonly thread: Pick<ScoreThread, 'score' | 'end'>;
  /** Whole stdout of an attempt; asked for when its turn has come, so that one is in memory at a time. */
  readonly read: (uid: string, attempt: number) => Promise<Uint8Array>;
  /** A score is known: decide again. */
  readonly wake: (key: string) => void;
  readonly logger: Logger;
}

interface Entry extends Scoring {
  readonly abort: AbortController;
  score?: Score;
}

/**
 * Scores on the side: a reconcile asks, goes on with other keys, and is woken. One at a time, the namespaces in turn, so
 * that many slow patterns delay those of their own namespace.
 */
export class Scores {
  readonly #options: ScoresOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue = new FairFifo((key) => key.slice(0, key.indexOf('/')));
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: ScoresOptions) {
    this.#options = options;
  }

  /** What is known of the Evaluation that has this name now. */
  of(key: string, uid: string): Snapshot['scored'] {
    const entry = this.#entries.get(key);
    return entry?.score === undefined || entry.uid !== uid ? undefined : { attempt: entry.attempt, score: entry.score };
  }

  /** Asking again changes nothing. */
  want(key: string, scoring: Scoring): void {
    const entry = this.#entries.get(key);
    if (this.#closed || (entry?.uid === scoring.uid && entry.attempt === scoring.attempt)) return;
    this.forget(key);
    this.#entries.set(key, { ...scoring, abort: new AbortController() });
    this.#queue.push(key);
    this.#running ??= this.#run();
  }

  /** It is in the record, or nobody waits for it any more. */
  forget(key: string): void {
    this.#entries.get(key)?.abort.abort();
    this.#entries.delete(key);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const key of this.#entries.keys()) this.forget(key);
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      const key = this.#queue.shift() ?? '';
      const entry = this.#entries.get(key);
      if (entry !== undefined && entry.score === undefined) await this.#score(key, entry);
      if (this.#queue.length === 0) await this.#options.thread.end();
    }
    this.#running = undefined;
  }

  async #score(key: string, entry: Entry): Promise<void> {
    const { thread, read, wake, logger } = this.#options;
    const { uid, attempt, expected, abort } = entry;
    try {
      const stdout = await read(uid, attempt);
      entry.score = await thread.score({ expected, stdout }, abort.signal);
      if (entry.score === TOO_SLOW) logger.warn({ evaluation: key, attempt }, 'scoring was given up');
      wake(key);
    } catch (error) {
      if (abort.signal.aborted) return;
      logger.warn({ err: error, evaluation: key, attempt }, 'cannot be scored yet');
      this.forget(key);
    }
  }
}
