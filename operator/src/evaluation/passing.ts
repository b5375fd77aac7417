import type { EvaluationStatus, Phase } from '@crucible/crds';

/** For how long a state must last before the status tells of it. */
export const PASSING_SECONDS = 2;
const PASSING: ReadonlySet<Phase> = new Set(['Starting', 'Running', 'Capturing']);

/**
 * A status that is about to be another one is not worth its write: of all that a run asks of the API server the writes of
 * its status cost most, and whoever watches reads each of them. So the status of a run under way may be two seconds old;
 * what it waits for and how it ended is said at once. In memory only: after a restart they begin anew.
 */
export class PassingStates {
  readonly #since = new Map<string, number>();

  /** Seconds until this is to be said; 0: now. To be asked whenever the status says something else. */
  holdSeconds(key: string, { phase }: EvaluationStatus, now: number): number {
    if (phase === undefined || !PASSING.has(phase)) return 0;
    const since = this.#since.get(key) ?? now;
    this.#since.set(key, since);
    return Math.max(0, PASSING_SECONDS - (now - since) / 1000);
  }

  /** The status says what there is to say. */
  said(key: string): void {
    this.#since.delete(key);
  }
}
