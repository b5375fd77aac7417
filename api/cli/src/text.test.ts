import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VisibleStream, duration, safeJson, table, visible, visibleLine } from './text.ts';

const HARMFUL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]/;
/** Text with many characters of the kinds that matter. */
const hostile = fc.string({
  unit: fc.oneof(
    fc.constantFrom('\x1b', '\x9b', '\r', '\n', '\t', '\0', '\x7f', '\u202e', '\u2028', 'é', '日', '👩‍🔬', 'a'),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
  ),
});

test('whatever it is, nothing that a terminal obeys is left of it', () => {
  fc.assert(
    fc.property(hostile, (text) => {
      expect(visible(text)).not.toMatch(HARMFUL);
      expect(visibleLine(text)).not.toMatch(/[\n\t]/);
      expect(visibleLine(text)).not.toMatch(HARMFUL);
      expect(safeJson({ text })).not.toMatch(HARMFUL);
      expect(JSON.parse(safeJson({ text }))).toEqual({ text });
    }),
  );
});

test('what is harmless stays as it is', () => {
  const text = 'Grüße, 日本語, 👩‍🔬\n\tindented\n';
  expect(visible(text)).toBe(text);
  expect(visible('a\r\nb')).toBe('a\nb');
  expect([visible('\x1b[31mred'), visible('\x9b2J'), visible('50%\r'), visible('\x7f'), visible('a\u202eb')]).toEqual([
    '^[[31mred',
    '<U+009B>2J',
    '50%^M',
    '^?',
    'a<U+202E>b',
  ]);
});

test('bytes in any pieces are shown as they are in one', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        hostile.map((text) => Buffer.from(text)),
        fc.uint8Array().map((data) => Buffer.from(data)),
      ),
      fc.array(fc.nat(40)),
      (data, cuts) => {
        const stream = new VisibleStream();
        let shown = '';
        let at = 0;
        for (const cut of cuts) shown += stream.push(data.subarray(at, (at += cut)));
        shown += stream.push(data.subarray(at)) + stream.end();
        expect(shown).toBe(visible(data.toString('utf8')));
      },
    ),
  );
});

test('tables and durations are as kubectl has them', () => {
  expect(
    table([
      ['NAME', 'AGE'],
      ['a\x1bb', '1s'],
      ['long-name', ''],
    ]),
  ).toBe('NAME        AGE\na^[b        1s\nlong-name');
  expect([0, 119, 185, 3700, 90_000, 200_000].map(duration)).toEqual(['0s', '119s', '3m5s', '61m', '25h', '2d']);
});
