import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatBytes, formatCpu, formatDuration, parseBytes, parseCpu } from './quantity.ts';

describe('sizes', () => {
  test.each([
    ['1Mi', 1_048_576],
    ['4096', 4096],
    [4096, 4096],
    ['1k', 1000],
    ['1Ki', 1024],
    ['3M', 3_000_000],
    ['2G', 2_000_000_000],
    ['999999Gi', 999_999 * 2 ** 30],
    ['999999999999999', 999_999_999_999_999],
  ])('%s is %d bytes', (quantity, bytes) => expect(parseBytes(quantity)).toBe(bytes));

  test.each([
    '',
    '0',
    '-1',
    '1.5Gi',
    '1 Mi',
    '1mi',
    '1MB',
    '1Ti',
    'Mi',
    '1e3',
    '0x10',
    0,
    -5,
    1.5,
    Number.NaN,
    '1000000Gi',
    '1000000000000000',
  ])('%s is refused with what to write', (quantity) =>
    expect(() => parseBytes(quantity)).toThrow('is not a size: write a whole number with k, Ki, M, Mi, G or Gi'),
  );

  test('what is formatted is read back, exactly', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 45 }), (bytes) => {
        expect(parseBytes(formatBytes(bytes))).toBe(bytes);
      }),
    );
    expect(formatBytes(67_108_864)).toBe('64Mi');
    expect(formatBytes(1500)).toBe('1500');
    expect(formatBytes(9_510_426_462_208)).toBe('9510426462208'); // 9287525842Ki has too many digits
  });
});

describe('CPU', () => {
  test.each([
    ['500m', 500],
    ['1m', 1],
    ['0.5', 500],
    ['0.001', 1],
    ['0.29', 290],
    ['1.001', 1001],
    ['2', 2000],
    [2, 2000],
    ['9999', 9_999_000],
  ])('%s is %d thousandths', (quantity, milli) => expect(parseCpu(quantity)).toBe(milli));

  test.each(['', '0', '0m', '0.0', '0.000', '-1', '1.0001', '1u', 'one', '.5', '10000', 0])(
    '%s is refused with what to write',
    (quantity) => expect(() => parseCpu(quantity)).toThrow('is not an amount of CPU: write cores or thousandths'),
  );

  test('what is formatted is read back, exactly', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9_999_000 }), (milli) => {
        expect(parseCpu(formatCpu(milli))).toBe(milli);
      }),
    );
  });
});

test.each([
  [0, '0s'],
  [59.9, '59s'],
  [60, '1m'],
  [83, '1m23s'],
  [3600, '1h'],
  [7265, '2h1m'],
  [86_400, '24h'],
  [-3, '0s'],
])('%d seconds read as %s', (seconds, text) => expect(formatDuration(seconds)).toBe(text));
