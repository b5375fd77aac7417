import { describe, expect, it } from 'vitest';
import type { ChangeHandler } from '../kube/index.ts';
import type { Job } from './objects.ts';
import { UidsInUse, allocateUid } from './sandbox-uid.ts';

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

describe('UidsInUse', () => {
  const job = (uid: number, over?: 'Complete' | 'Failed'): Job => ({
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {},
    spec: { template: { spec: { securityContext: { runAsUser: uid } } } },
    status: { conditions: over === undefined ? [] : [{ type: over, status: 'True' }] },
  });

  it('counts what runs, also a uid that two share, and lets go of what has ended or is gone', () => {
    let change: ChangeHandler<Job> = () => undefined;
    const uids = new UidsInUse({ onChange: (handler) => (change = handler), list: () => [job(1), job(2, 'Failed')] });
    expect([1, 2].filter((uid) => uids.has(uid))).toEqual([1]);
    change('a', job(3), undefined);
    change('b', job(3), undefined);
    expect(uids.size).toBe(2);
    change('a', job(3, 'Complete'), job(3));
    change('a', undefined, job(3, 'Complete'));
    expect(uids.has(3)).toBe(true);
    change('b', undefined, job(3));
    expect(uids.has(3)).toBe(false);
    expect(uids.size).toBe(1);
  });
});
