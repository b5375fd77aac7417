import { describe, expect, it } from 'vitest';
import { allocateUid } from './sandbox-uid.ts';

const range = { first: 100_000, last: 100_009 };

describe('allocateUid', () => {
  it('is deterministic and inside the range', () => {
    const uid = allocateUid(range, { uid: 'a', number: 1 }, new Set());
    expect(uid).toBe(allocateUid(range, { uid: 'a', number: 1 }, new Set()));
    expect(uid).toBeGreaterThanOrEqual(range.first);
    expect(uid).toBeLessThanOrEqual(range.last);
  });

  it('gives every running sandbox its own until the range is used up, then still answers', () => {
    const inUse = new Set<number>();
    for (let i = 0; i < 10; i += 1) inUse.add(allocateUid(range, { uid: `evaluation-${i}`, number: 1 }, inUse));
    expect(inUse.size).toBe(10);
    const shared = allocateUid(range, { uid: 'one-more', number: 1 }, inUse);
    expect(inUse.has(shared)).toBe(true);
  });
});
