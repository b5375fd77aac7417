import { createHash } from 'node:crypto';

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
  inUse: ReadonlySet<number>,
): number {
  const size = range.last - range.first + 1;
  const start = createHash('sha256').update(`${attempt.uid}/${attempt.number}`).digest().readUInt32BE(0) % size;
  for (let step = 0; step < Math.min(size, inUse.size + 1); step += 1) {
    const candidate = range.first + ((start + step) % size);
    if (!inUse.has(candidate)) return candidate;
  }
  return range.first + start;
}
