import { describe, expect, it } from 'vitest';
import { refusedView } from './refused.ts';
import { NOW, attempt, launched, settings, snapshot } from './testing/builders.ts';

const QUOTA = 'jobs.batch "hello" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1, used: 3, limited: 3';
const refusedFor = (age: number) =>
  launched({
    job: undefined,
    attempt: { jobUid: null, createdAt: new Date(NOW - 900_000) },
    launchRefusal: { said: QUOTA, since: NOW - age * 1000 },
  });

describe('refusedView', () => {
  it('queues with the reason, without the numbers that change', () => {
    const view = refusedView(snapshot(), QUOTA, NOW, settings());
    expect(view).toMatchObject({ phase: 'Queued', started: { status: 'False', reason: 'QuotaExceeded' } });
    expect(view?.queue).toEqual({ reason: 'QuotaExceeded', message: view?.started?.message });
    expect(JSON.stringify(view)).not.toContain('used');
    expect(refusedView(refusedFor(200), QUOTA, NOW, settings())?.started).toEqual(view?.started);
  });

  it('says nothing once it has lasted too long: the next decision ends the attempt', () => {
    expect(refusedView(refusedFor(301), QUOTA, NOW, settings())).toBeUndefined();
  });

  it('is patient with the first refusal, however old the attempt is: it may have waited for the drill', () => {
    const attempt = { jobUid: null, createdAt: new Date(NOW - 900_000) };
    expect(refusedView(launched({ job: undefined, attempt }), QUOTA, NOW, settings())?.started?.reason).toBe('QuotaExceeded');
  });

  it('begins anew with the next attempt', () => {
    const last = attempt({ state: 'finalized', createdAt: new Date(NOW - 3600_000) });
    const again = launched({ job: undefined, record: { evaluation: undefined, attempts: [last] } });
    expect(refusedView(again, QUOTA, NOW, settings())?.started?.reason).toBe('QuotaExceeded');
  });
});
