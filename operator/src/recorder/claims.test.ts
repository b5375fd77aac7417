import { expect, it } from 'vitest';
import { ClaimWatch, LEASE_MS } from './claims.ts';

const PAUSE_MS = 5_000;

/** How many looks at one stamp it takes until it may be replaced. */
function looks(watch: ClaimWatch, stamp: string, outages: number): number {
  for (let count = 0; count < 100; count += 1) {
    if (watch.abandoned(outages) === stamp) return count;
    watch.saw(stamp);
  }
  return Infinity;
}

it('takes a claim for abandoned that has stood still for as long as a lease lasts', () => {
  const watch = new ClaimWatch(PAUSE_MS);
  expect(looks(watch, 'a@1', 0)).toBe(1 + LEASE_MS / PAUSE_MS);
});

it('begins anew with every heartbeat, and with every other owner', () => {
  const watch = new ClaimWatch(PAUSE_MS);
  for (const stamp of ['a@1', 'a@1', 'a@1', 'a@1', 'a@6', 'a@6', 'a@6', 'a@6', 'b@6']) {
    watch.saw(stamp);
    expect(watch.abandoned(0)).toBeUndefined();
  }
  expect(looks(watch, 'b@6', 0)).toBe(LEASE_MS / PAUSE_MS);
});

it('begins anew after an outage: nobody could renew', () => {
  const watch = new ClaimWatch(PAUSE_MS);
  looks(watch, 'a@1', 0);
  expect(watch.abandoned(0)).toBe('a@1');
  expect(watch.abandoned(1)).toBeUndefined();
  expect(looks(watch, 'a@1', 1)).toBe(1 + LEASE_MS / PAUSE_MS);
});
