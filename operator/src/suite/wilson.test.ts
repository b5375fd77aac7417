import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatPassRate, passRate } from './wilson.ts';

// Computed with statsmodels' proportion_confint(k, n, method="wilson"), whose values agree with Newcombe (1998), table I.
test.each([
  [81, 263, 0.308, 0.2553, 0.3662],
  [15, 148, 0.1014, 0.0624, 0.1605],
  [0, 20, 0, 0, 0.1611],
  [1, 29, 0.0345, 0.0061, 0.1718],
  [8, 10, 0.8, 0.4902, 0.9433],
  [10, 10, 1, 0.7225, 1],
  [1, 2, 0.5, 0.0945, 0.9055],
])('%i of %i', (passed, runs, rate, low, high) => {
  expect(passRate(passed, runs)).toEqual({ passed, runs, rate, low, high });
});

test('nothing is not a rate', () => {
  expect(passRate(0, 0)).toEqual({ passed: 0, runs: 0 });
  expect(formatPassRate(passRate(0, 0))).toBeUndefined();
});

test('the interval holds the rate, lies within 0 and 1, mirrors, and narrows with more runs', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1000 }), fc.nat(), (runs, seed) => {
      const passed = seed % (runs + 1);
      const { rate = 0, low = 0, high = 0 } = passRate(passed, runs);
      expect(low).toBeLessThanOrEqual(rate);
      expect(high).toBeGreaterThanOrEqual(rate);
      expect(low).toBeGreaterThanOrEqual(0);
      expect(high).toBeLessThanOrEqual(1);
      const mirrored = passRate(runs - passed, runs);
      expect(1 - (mirrored.high ?? 0)).toBeCloseTo(low, 3);
      const more = passRate(passed * 10, runs * 10);
      expect((more.high ?? 0) - (more.low ?? 0)).toBeLessThanOrEqual(high - low);
    }),
  );
});

test('kubectl shows it in percent', () => {
  expect(formatPassRate(passRate(8, 10))).toBe('80% (49–94%)');
});
