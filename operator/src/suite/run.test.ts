import { parseEvaluation } from '@crucible/crds';
import { describe, expect, test } from 'vitest';
import { aSuite } from '../../../crds/src/testing/builders.ts';
import { buildRun, placesOf, runName } from './run.ts';
import { SUITE_UID } from './testing/builders.ts';

describe('a run’s name', () => {
  test('is the same every time, differs by suite uid, cell and sample, and is a DNS label however long the suite’s is', () => {
    const suite = { name: `${'x'.repeat(49)}-${'y'.repeat(13)}`, uid: SUITE_UID };
    const names = [
      runName(suite, { cell: 1, sample: 1 }), runName(suite, { cell: 1, sample: 2 }), runName(suite, { cell: 11, sample: 1 }),
      runName(suite, { cell: 1, sample: 11 }), runName({ ...suite, uid: 'other' }, { cell: 1, sample: 1 }), runName(suite, { cell: 1000, sample: 1000 }),
    ];
    expect(new Set(names).size).toBe(6);
    for (const name of names) expect(name).toMatch(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
    expect(runName(suite, { cell: 1, sample: 1 })).toBe(names[0]);
  });
});

test('places go cell by cell', () => {
  expect(placesOf(2, 2)).toEqual([{ cell: 1, sample: 1 }, { cell: 1, sample: 2 }, { cell: 2, sample: 1 }, { cell: 2, sample: 2 }]);
});

test('a value is data: it reaches the environment and arguments, and never the code, stdin or image', () => {
  const evil = '"); import os #$(B)`';
  const spec = { runtime: 'python', code: 'print("$(A)")', stdin: '$(A)', args: ['-x', '$(A)', '$(C)'], files: [{ path: 'f', content: '$(A)' }] };
  const run = buildRun(aSuite({ template: { spec } }, { uid: SUITE_UID }), { cell: 3, sample: 2 }, [['A', evil], ['B', 'b']]);
  expect(run.spec).toEqual({ ...spec, args: ['-x', evil, '$(C)'], env: [{ name: 'A', value: evil }, { name: 'B', value: 'b' }] });
  expect(run.metadata.labels).toEqual({
    'crucible.dev/suite': 'sums', 'crucible.dev/suite-uid': SUITE_UID, 'crucible.dev/suite-cell': '3', 'crucible.dev/suite-sample': '2',
  });
  expect(parseEvaluation(run).spec.args).toEqual(['-x', evil, '$(C)']);
});
