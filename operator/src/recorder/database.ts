import { isUnavailable, type Database } from '@crucible/storage';
import { backoffMs, sleep, type Clock } from '../kube/index.ts';

const PROBE_BASE_MS = 250;
const PROBE_MAX_MS = 5_000;

/**
 * Whether Postgres answers. One probe for all captures: a thousand readers that each try for themselves would be the
 * first thing a recovering server meets.
 */
export class DatabaseHealth {
  readonly #database: Pick<Database, 'query'>;
  readonly #clock: Clock;
  readonly #random: () => number;
  #recovery: Promise<void> | undefined;
  #outages = 0;
  readonly #stopped = new AbortController();

  constructor(database: Pick<Database, 'query'>, clock: Clock, random: () => number = Math.random) {
    this.#database = database;
    this.#clock = clock;
    this.#random = random;
  }

  get available(): boolean {
    return this.#recovery === undefined;
  }

  /** How often it has been away: not only a connection that broke. */
  get outages(): number {
    return this.#outages;
  }

  /** Someone met an UnavailableError. */
  reportDown(): void {
    this.#recovery ??= this.#probe().finally(() => {
      this.#recovery = undefined;
    });
  }

  /** Resolves when Postgres answers again, or the signal aborts: the caller checks the signal. */
  async whenAvailable(signal: AbortSignal): Promise<void> {
    if (this.#recovery === undefined || signal.aborted) return;
    let stop = (): void => {};
    const aborted = new Promise<void>((resolve) => {
      stop = resolve;
      signal.addEventListener('abort', stop, { once: true });
    });
    await Promise.race([this.#recovery, aborted]);
    signal.removeEventListener('abort', stop);
  }

  /** Repeats the work until Postgres serves it. Only for work that may run twice. */
  async persist<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    for (;;) {
      await this.whenAvailable(signal);
      signal.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        if (!isUnavailable(error)) throw error;
        this.reportDown();
      }
    }
  }

  stop(): void {
    this.#stopped.abort();
  }

  async #probe(): Promise<void> {
    for (let attempt = 0; !this.#stopped.signal.aborted; attempt += 1) {
      await sleep(this.#clock, backoffMs(attempt, PROBE_BASE_MS, PROBE_MAX_MS, this.#random), this.#stopped.signal);
      try {
        await this.#database.query('SELECT 1');
        return;
      } catch (error) {
        // Anything but "away" is an answer.
        if (!isUnavailable(error)) return;
        if (attempt === 0) this.#outages += 1;
      }
    }
  }
}
