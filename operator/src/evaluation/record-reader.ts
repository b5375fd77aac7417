import { CAPTURE_FINALIZER } from '@crucible/crds';
import { isUnavailable } from '@crucible/storage';
import type { AttemptRepository, RecordedRun } from '@crucible/storage';
import type { KubeObject } from '../kube/index.ts';
import { hasFinalizer, isDeleting } from './objects.ts';
import type { RawEvaluation } from './snapshot.ts';
import { ageSeconds } from './start.ts';

/** A record that has answered so recently is taken to be there. */
const ANSWERS_MS = 1000;
/** Older ones may be those of an operator that was stopped as it began. */
const NEW_SECONDS = 5;

/** What the record has of one evaluation, or that it cannot be asked. */
export class RecordReader {
  readonly #attempts: Pick<AttemptRepository, 'withEvaluation'>;
  readonly #now: () => number;
  #unavailableSince: number | undefined;
  #answeredAt = Number.NEGATIVE_INFINITY;
  /** What was taken for new, until it is asked about. */
  readonly #assumed = new Set<string>();
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
   * Whether it can be taken for unknown to the record, unasked: where many begin at once each statement makes the others wait. Once
   * for each; whoever is told so has to find that nothing is there as he writes (createFirst), or ask. Not of what is to end: it is
   * ended as the record has it. `home`: its namespace.
   */
  isNew({ metadata, status, spec }: RawEvaluation, home: KubeObject | undefined): boolean {
    const { uid = '', generation, creationTimestamp } = metadata;
    const untouched = generation === 1 && status === undefined && !hasFinalizer({ metadata }, CAPTURE_FINALIZER) && !isDeleting({ metadata });
    const young = ageSeconds(creationTimestamp, this.#now()) < NEW_SECONDS;
    const answers = this.#unavailableSince === undefined && this.#now() - this.#answeredAt < ANSWERS_MS;
    const wantsEnd = (spec as { cancel?: unknown } | undefined)?.cancel === true || home === undefined || isDeleting(home);
    if (!untouched || !young || !answers || wantsEnd || this.#assumed.has(uid)) return false;
    this.#assumed.add(uid);
    return true;
  }

  /**
   * Once it is known to be away one asks, and the others are told at once: a server that does not answer at all takes seconds each
   * time, and what runs is to be ended on time all the same.
   */
  async read(uid: string): Promise<RecordedRun | 'unavailable'> {
    this.#assumed.delete(uid);
    const away = this.#unavailableSince !== undefined;
    if (away && this.#asking) return 'unavailable';
    if (away) this.#asking = true;
    try {
      const record = await this.#attempts.withEvaluation(uid);
      this.#unavailableSince = undefined;
      this.#answeredAt = this.#now();
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
