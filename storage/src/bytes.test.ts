import { expect, test } from 'vitest';
import { joined } from './bytes.ts';

const all = Buffer.from('abcdefgh');

test('what is side by side already is not copied', () => {
  const whole = joined([all.subarray(1, 3), all.subarray(3, 4), all.subarray(4, 8)]);
  expect(whole.toString()).toBe('bcdefgh');
  expect([whole.buffer, whole.byteOffset]).toEqual([all.buffer, all.byteOffset + 1]);
});

test.each([
  ['nothing', [], ''],
  ['a gap', [all.subarray(0, 2), all.subarray(3, 4)], 'abd'],
  ['an overlap', [all.subarray(0, 3), all.subarray(2, 4)], 'abccd'],
  ['another order', [all.subarray(4, 8), all.subarray(0, 4)], 'efghabcd'],
  ['another buffer at the same offset', [Buffer.from(new Uint8Array([97, 98]).buffer, 0, 1), Buffer.from(new Uint8Array([99, 100]).buffer, 1, 1)], 'ad'],
])('%s: copied', (_, parts, expected) => {
  expect(joined(parts).toString()).toBe(expected);
});
