import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { expandArgument, expandMatrix } from './matrix.ts';
import type { MatrixInput } from './matrix.ts';

const expand = (matrix?: MatrixInput): Record<string, string>[] => expandMatrix(matrix).map((cell) => Object.fromEntries(cell));

describe('a matrix', () => {
  test.each<[string, MatrixInput | undefined, Record<string, string>[]]>([
    ['that is not there is one cell', undefined, [{}]],
    ['without anything is one cell', {}, [{}]],
    [
      'has every combination, the first parameter varying slowest',
      { parameters: [{ name: 'A', values: ['1', '2'] }, { name: 'B', values: ['x', 'y'] }] },
      [{ A: '1', B: 'x' }, { A: '1', B: 'y' }, { A: '2', B: 'x' }, { A: '2', B: 'y' }],
    ],
    [
      'loses what has all values of an exclude',
      { parameters: [{ name: 'A', values: ['1', '2'] }, { name: 'B', values: ['x', 'y'] }], exclude: [{ A: '1' }, { A: '2', B: 'x' }] },
      [{ A: '2', B: 'y' }],
    ],
    ['of includes alone has these', { include: [{ A: '1' }, { B: '2' }] }, [{ A: '1' }, { B: '2' }]],
    ['can be empty', { parameters: [{ name: 'A', values: ['1'] }], exclude: [{ A: '1' }] }, []],
    ['has a cell once', { include: [{ A: '1' }, { A: '1' }] }, [{ A: '1' }]],
    [
      // The example of GitHub's own documentation ("expanding or adding matrix configurations").
      'includes as GitHub Actions does',
      {
        parameters: [{ name: 'fruit', values: ['apple', 'pear'] }, { name: 'animal', values: ['cat', 'dog'] }],
        include: [
          { color: 'green' }, { color: 'pink', animal: 'cat' }, { fruit: 'apple', shape: 'circle' }, { fruit: 'banana' },
          { fruit: 'banana', animal: 'cat' },
        ],
      },
      [
        { fruit: 'apple', animal: 'cat', color: 'pink', shape: 'circle' },
        { fruit: 'apple', animal: 'dog', color: 'green', shape: 'circle' },
        { fruit: 'pear', animal: 'cat', color: 'pink' },
        { fruit: 'pear', animal: 'dog', color: 'green' },
        { fruit: 'banana' },
        { fruit: 'banana', animal: 'cat' },
      ],
    ],
  ])('%s', (_, matrix, cells) => expect(expand(matrix)).toEqual(cells));

  const value = fc.constantFrom('1', '2', '3');
  const matrices = fc.record({
    parameters: fc.uniqueArray(
      fc.record({ name: fc.constantFrom('A', 'B', 'C'), values: fc.uniqueArray(value, { minLength: 1 }) }),
      { selector: ({ name }) => name },
    ),
    exclude: fc.array(fc.dictionary(fc.constantFrom('A', 'B', 'C'), value, { minKeys: 1 }), { maxLength: 3 }),
    include: fc.array(fc.dictionary(fc.constantFrom('A', 'B', 'X', 'Y'), value, { minKeys: 1 }), { maxLength: 4 }),
  });

  test('never has a cell twice, never more than combinations and includes, and is the same every time', () => {
    fc.assert(
      fc.property(matrices, (matrix) => {
        const cells = expandMatrix(matrix);
        const texts = cells.map((cell) => JSON.stringify([...cell].sort()));
        expect(new Set(texts).size).toBe(cells.length);
        const product = matrix.parameters.reduce((most, { values }) => most * values.length, 1);
        expect(cells.length).toBeLessThanOrEqual(product + matrix.include.length);
        expect(expandMatrix(structuredClone(matrix))).toEqual(cells);
      }),
    );
  });

  test('without include has exactly the combinations that no exclude has all values of', () => {
    fc.assert(
      fc.property(matrices, ({ parameters, exclude }) => {
        const cells = expand({ parameters, exclude });
        const all = expand({ parameters });
        const left = all.filter((cell) => !exclude.some((entry) => Object.entries(entry).every(([k, v]) => cell[k] === v)));
        expect(cells).toEqual(parameters.length === 0 ? [{}] : left);
      }),
    );
  });

  test('keeps every declared value through includes, and every include is in some cell unless a later one changed it', () => {
    fc.assert(
      fc.property(matrices, ({ parameters, exclude, include }) => {
        const before = expand({ parameters, exclude });
        const after = expand({ parameters, exclude, include });
        const names = parameters.map(({ name }) => name);
        const declared = (cell: Record<string, string>): string => JSON.stringify(names.map((name) => cell[name]));
        if (parameters.length > 0) expect(after.slice(0, before.length).map(declared)).toEqual(before.map(declared));
        const last = include.at(-1);
        if (last !== undefined)
          expect(after.some((cell) => Object.entries(last).every(([k, v]) => cell[k] === v))).toBe(true);
      }),
    );
  });
});

test.each([
  ['--seed=$(SEED)', '--seed=7'],
  ['$(SEED)$(SEED)', '77'],
  ['$$(SEED)', '$(SEED)'],
  ['$(OTHER) $(date) $SEED $', '$(OTHER) $(date) $SEED $'],
  ['$(QUOTE)', '$& "; rm -rf / $(SEED)'],
])('%s becomes %s', (argument, expected) => {
  const cell = [['SEED', '7'], ['QUOTE', '$& "; rm -rf / $(SEED)']] as const;
  expect(expandArgument(argument, cell)).toBe(expected);
});
