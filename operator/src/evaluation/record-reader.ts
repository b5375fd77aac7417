import { isUnavailable } from '@crucible/storage';
import type { AttemptRepository, RecordedRun } from '@crucible/storage';

/** What the record has of one evaluation, or that it cannot be asked. */
export class RecordReader {
  readonly #attempts: Pick<AttemptRepository, 'withEvaluation'>;
  readonly #now: () => number;
  #unavailableSince: number | undefined;
  /** Somebody finds out whether it is back. */
  #asking = false;

  constructor(attempts: Pick<AttemptRepository, 'withEvaluation'>, now: () => number) {
    this.#attempts = attempts;
    this.#now = now;
  }

  /** In milliseconds; undefined while it answers. */
  get unavailableSince(): number | undefined {
    return this.#unavailableSince;
  }

  /**
   * Once it is known to be away one asks, and the others are told at once: a server that does not answer at all takes seconds each
   * time, and what runs is to be ended on time all the same.
   */
  async read(uid: string): Promise<RecordedRun | 'unavailable'> {
    const away = this.#unavailableSince !== undefined;
    if (away && this.#asking) return 'unavailable';
    if (away) this.#asking = true;
    try {
      const record = await this.#attempts.withEvaluation(uid);
      this.#unavailableSince = undefined;
      return record;
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      this.#unavailableSince ??= this.#now();
      return 'unavailable';
    } finally {
      if (away) this.#asking = false;
    }
  }
}
