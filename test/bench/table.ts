// One line a number: what was measured, what is asked for, whether it holds.

export interface Measure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What is asked for; none: said for information. */
  readonly atLeast?: number;
  readonly atMost?: number;
}

export const holds = ({ value, atLeast = -Infinity, atMost = Infinity }: Measure): boolean => value >= atLeast && value <= atMost;

export function print(title: string, measures: readonly Measure[]): void {
  console.log(`\n${title}`);
  for (const measure of measures) {
    const { name, value, unit, atLeast, atMost } = measure;
    const asked = atLeast !== undefined ? `at least ${atLeast}` : atMost !== undefined ? `at most ${atMost}` : '';
    const verdict = asked === '' ? '' : holds(measure) ? 'ok' : 'MISSED';
    console.log(`  ${name.padEnd(58)} ${round(value).padStart(10)} ${unit.padEnd(8)} ${asked.padEnd(16)} ${verdict}`);
  }
}

const round = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(Math.abs(value) >= 1 ? 2 : 3));

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The smallest value that `share` of all do not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
