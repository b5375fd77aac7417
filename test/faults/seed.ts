import { randomInt } from 'node:crypto';

/** Every choice of a run comes from one number: drawn anew each time, or given by CRUCIBLE_SEED to replay a run. */
export function seedOfRun(): number {
  const given = process.env['CRUCIBLE_SEED'];
  if (given === undefined || given === '') return randomInt(1, 2 ** 31);
  const seed = Number(given);
  if (!Number.isInteger(seed) || seed < 0) throw new Error('CRUCIBLE_SEED is not a whole number');
  return seed;
}

/** Deterministic numbers in [0, 1) for a printed seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `count` different numbers of 1…`of`, ascending; all of them when there are not more. */
export function sample(next: () => number, count: number, of: number): number[] {
  const left = Array.from({ length: of }, (_, index) => index + 1);
  const chosen: number[] = [];
  while (chosen.length < count && left.length > 0) chosen.push(left.splice(Math.floor(next() * left.length), 1)[0]!);
  return chosen.sort((a, b) => a - b);
}
