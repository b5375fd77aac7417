import type { PassRate } from '@crucible/crds';

/** The 97.5 % point of the normal distribution: 95 % lie between it and its negative. */
const Z = 1.959963984540054;

/**
 * A share with its 95 % Wilson score interval, which stays within 0 and 1 and is honest for few runs and for shares near
 * the ends, where the usual interval has no width. To four decimals, so that the same runs always read the same. Pure.
 */
export function passRate(passed: number, runs: number): PassRate {
  if (runs === 0) return { passed, runs };
  const share = passed / runs;
  const z2 = Z * Z;
  const center = (share + z2 / (2 * runs)) / (1 + z2 / runs);
  const half = (Z / (1 + z2 / runs)) * Math.sqrt((share * (1 - share)) / runs + z2 / (4 * runs * runs));
  return {
    passed,
    runs,
    rate: round(share),
    low: passed === 0 ? 0 : round(Math.max(0, center - half)),
    high: passed === runs ? 1 : round(Math.min(1, center + half)),
  };
}

/** For kubectl's table, for example 88% (53–98%). */
export function formatPassRate({ rate, low, high }: PassRate): string | undefined {
  if (rate === undefined || low === undefined || high === undefined) return undefined;
  const percent = (share: number): string => (share * 100).toFixed(0);
  return `${percent(rate)}% (${percent(low)}–${percent(high)}%)`;
}

const round = (share: number): number => Math.round(share * 10_000) / 10_000;
