import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseLabelSelector } from './label-selector.ts';

test.each([
  ['', []],
  ['team=a', [{ key: 'team', operator: 'in', values: ['a'] }]],
  ['crucible.dev/suite==s-1 , x!=', [{ key: 'crucible.dev/suite', operator: 'in', values: ['s-1'] }, { key: 'x', operator: 'notIn', values: [''] }]],
  ['env in (a, b,a),tier notin (c)', [{ key: 'env', operator: 'in', values: ['a', 'b'] }, { key: 'tier', operator: 'notIn', values: ['c'] }]],
  ['x, !y', [{ key: 'x', operator: 'exists', values: [] }, { key: 'y', operator: 'absent', values: [] }]],
])('%j', (text, requirements) => expect(parseLabelSelector(text)).toEqual(requirements));

test.each(['=a', 'a=b c', 'a in', 'a in (b', 'a=b,', "a='b'", 'a in ((b))', '/a=b', 'a=b;c', `a=${'x'.repeat(64)}`])('refuses %j, saying where', (text) => {
  expect(() => parseLabelSelector(text)).toThrow(/^the label selector cannot be read at "/);
});

test('refuses more than it would look for', () => {
  expect(() => parseLabelSelector(Array.from({ length: 21 }, (_, n) => `l${n}=a`).join(','))).toThrow(/at most 20/);
});

test('whatever comes, it is read or refused, at once', () => {
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom(...'ab=!,() -./in'), maxLength: 300 }), (text) => {
    const begun = performance.now();
    try {
      parseLabelSelector(text);
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
    }
    expect(performance.now() - begun).toBeLessThan(1_000);
  }));
});
