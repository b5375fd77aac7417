import { createHash } from 'node:crypto';
import type { ObjectCache } from '../kube/index.ts';
import { trueCondition } from './objects.ts';
import type { Job } from './objects.ts';

/**
 * Inclusive. Process limits (RLIMIT_NPROC) count per uid on a node: two sandboxes that share one would share their
 * limit.
 */
export interface UidRange {
  readonly first: number;
  readonly last: number;
}

/**
 * The uid for one attempt: a place in the range by hash of the attempt, then upwards to the next one that no running
 * sandbox has. When the range is used up (more sandboxes than uids) the hashed one is shared: slower is worse than
 * sharing a process limit, and the sandboxes still have separate pid namespaces.
 */
export function allocateUid(
  range: UidRange,
  attempt: { uid: string; number: number },
  inUse: Pick<ReadonlySet<number>, 'has' | 'size'>,
): number {
  const size = range.last - range.first + 1;
  const start = createHash('sha256').update(`${attempt.uid}/${attempt.number}`).digest().readUInt32BE(0) % size;
  for (let step = 0; step < Math.min(size, inUse.size + 1); step += 1) {
    const candidate = range.first + ((start + step) % size);
    if (!inUse.has(candidate)) return candidate;
  }
  return range.first + start;
}

/** The uids of the sandboxes that run: kept, because counting them for each start would be one more read of all Jobs. */
export class UidsInUse {
  readonly #counts = new Map<number, number>();

  constructor(jobs: Pick<ObjectCache<Job>, 'onChange' | 'list'>) {
    jobs.onChange((_, current, previous) => {
      this.#count(previous, -1);
      this.#count(current, 1);
    });
    for (const job of jobs.list()) this.#count(job, 1);
  }

  get size(): number {
    return this.#counts.size;
  }

  has(uid: number): boolean {
    return this.#counts.has(uid);
  }

  #count(job: Job | undefined, by: 1 | -1): void {
    const uid = job?.spec?.template?.spec?.securityContext?.runAsUser;
    const { conditions } = job?.status ?? {};
    if (uid === undefined || trueCondition(conditions, 'Complete') !== undefined || trueCondition(conditions, 'Failed') !== undefined) return;
    const count = (this.#counts.get(uid) ?? 0) + by;
    if (count > 0) this.#counts.set(uid, count);
    else this.#counts.delete(uid);
  }
}
