// Kubernetes quantities, in the two shapes our resources use. The patterns bound every value to 10^15, so that
// sums stay exact in JavaScript numbers and in the API server's int64.

/** "500m", "0.5", "2" or 2. */
export const CPU_PATTERN =
  '^([1-9][0-9]{0,6}m|[1-9][0-9]{0,3}(\\.[0-9]{1,3})?|0\\.([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9]))$';
/** "64Mi", "1G", "4096" or 4096: whole numbers only. */
export const BYTES_PATTERN = '^([1-9][0-9]{0,14}|[1-9][0-9]{0,5}(k|Ki|M|Mi|G|Gi))$';

export type Quantity = string | number;

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  Ki: 2 ** 10,
  M: 1e6,
  Mi: 2 ** 20,
  G: 1e9,
  Gi: 2 ** 30,
};

/** Bytes of a quantity such as "1Mi", "500k" or 4096. Throws a message that says what is accepted. */
export function parseBytes(quantity: Quantity): number {
  const text = String(quantity);
  if (!new RegExp(BYTES_PATTERN).test(text)) {
    throw new Error(`"${text}" is not a size: write a whole number with k, Ki, M, Mi, G or Gi, for example 64Mi`);
  }
  const digits = /^[0-9]+/.exec(text)?.[0] ?? '';
  return Number(digits) * (UNITS[text.slice(digits.length)] ?? Number.NaN);
}

/** Thousandths of a CPU: "500m" and "0.5" are 500, "2" and 2 are 2000. Throws a message that says what is accepted. */
export function parseCpu(quantity: Quantity): number {
  const text = String(quantity);
  if (!new RegExp(CPU_PATTERN).test(text)) {
    throw new Error(`"${text}" is not an amount of CPU: write cores or thousandths of one, for example 1 or 500m`);
  }
  // Rounded because 1.001 * 1000 is 1000.9999999999999; the pattern allows three decimals at most.
  return text.endsWith('m') ? Number(text.slice(0, -1)) : Math.round(Number(text) * 1000);
}

/** What BYTES_PATTERN allows before a unit. */
const MAX_WITH_UNIT = 999_999;

/** The shortest exact form that our resources accept: 67108864 → "64Mi". */
export function formatBytes(bytes: number): string {
  for (const unit of ['Gi', 'Mi', 'Ki'] as const) {
    const size = UNITS[unit] ?? 1;
    if (bytes >= size && bytes % size === 0 && bytes / size <= MAX_WITH_UNIT) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}

/** 500 → "500m", 2000 → "2". */
export function formatCpu(milli: number): string {
  return milli % 1000 === 0 ? String(milli / 1000) : `${milli}m`;
}

/** Whole seconds for people, as kubectl prints ages: 5 → "5s", 83 → "1m23s", 7260 → "2h1m". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole}s`;
  const [big, small, units] = whole < 3600 ? [whole / 60, whole % 60, 'ms'] : [whole / 3600, (whole % 3600) / 60, 'hm'];
  const rest = Math.floor(small);
  return `${Math.floor(big)}${units[0]}${rest > 0 ? `${rest}${units[1]}` : ''}`;
}
