import { describe, expect, it } from 'vitest';
import { resumedAt } from './kueue.ts';
import type { Job } from './objects.ts';

const created = '2026-01-01T00:00:00Z';
const resumed = '2026-01-01T01:00:00Z';
const job = (...conditions: object[]): Job =>
  ({ metadata: { creationTimestamp: created }, spec: { suspend: false }, status: { conditions } }) as unknown as Job;

describe('a Job may have pods', () => {
  it('from its creation, when it was never suspended', () => {
    expect(resumedAt(job())).toBe(created);
  });
  it('from the moment at which the Job controller saw it resumed', () => {
    const other = { type: 'Complete', status: 'False', lastTransitionTime: created };
    expect(resumedAt(job(other, { type: 'Suspended', status: 'False', lastTransitionTime: resumed }))).toBe(resumed);
  });
  it('not yet, between the word of Kueue and that moment, however old it is', () => {
    expect(resumedAt(job({ type: 'Suspended', status: 'True', lastTransitionTime: created }))).toBeUndefined();
  });
});
