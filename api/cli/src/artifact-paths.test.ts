import { join, relative, resolve, sep } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { localPaths, segmentsOf } from './artifact-paths.ts';

const piece = fc.constantFrom(
  '..',
  '.',
  '',
  '/',
  '//',
  '\\',
  'a',
  'A',
  'é',
  'e\u0301',
  '\0',
  '\x1b[2J',
  'con',
  'NUL.txt',
  '~',
  '-rf',
  '%2e%2e',
  ':',
  'x'.repeat(300),
  '日',
  ' ',
  'ﬁ',
  '\ud800',
);
const hostilePath = fc.oneof(
  fc.array(piece, { maxLength: 40 }).map((parts) => parts.join('/')),
  fc.array(piece).map((parts) => parts.join('')),
  fc.string({ unit: 'binary' }),
);

test('whatever they are called, they stay below the folder, are apart, and are names everywhere', () => {
  fc.assert(
    fc.property(fc.array(hostilePath, { maxLength: 20 }), (paths) => {
      const planned = localPaths(paths.map((path, index) => ({ path, index })));
      const root = resolve('/somewhere/chosen');
      const keys = planned.map(({ segments }) => segments.join('/').normalize('NFKC').toLowerCase());
      expect(new Set(keys).size).toBe(paths.length);
      for (const [index, { segments }] of planned.entries()) {
        const inside = relative(root, join(root, ...segments));
        expect(inside).toBe(segments.join(sep));
        expect(keys.some((other, at) => at !== index && other.startsWith(`${keys[index]}/`))).toBe(false);
        for (const segment of segments) {
          expect(segment).toMatch(/^[^./~ -][^/\\:*?"<>|\u0000-\u001f\u007f-\u009f]*$/);
          expect(segment).not.toMatch(/[. ]$|^(con|nul)(\.|$)/i);
          expect(Buffer.byteLength(segment)).toBeLessThanOrEqual(255 - 18);
        }
      }
    }),
    { numRuns: 500 },
  );
});

test('ordinary paths are kept, others can be read', () => {
  expect(['out/a b.txt', 'result_1.json', 'plots/é-日.png'].map((path) => segmentsOf(path).join('/'))).toEqual([
    'out/a b.txt',
    'result_1.json',
    'plots/é-日.png',
  ]);
  expect(
    ['../../etc/passwd', '/etc/passwd', '.', '..', '', 'a\nb', '.ssh/id', 'c:\\x', 'aux.txt'].map((path) =>
      segmentsOf(path).join('/'),
    ),
  ).toEqual([
    '%2E%2E/%2E%2E/etc/passwd',
    'etc/passwd',
    '%2E',
    '%2E%2E',
    '%2F',
    'a%0Ab',
    '%2Essh/id',
    'c%3A%5Cx',
    '%61ux.txt',
  ]);
});
