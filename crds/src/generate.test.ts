import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { generatedFiles, staleFiles } from './generate.ts';

test('what is committed is what is generated', async () => {
  expect(await staleFiles(generatedFiles())).toEqual([]);
});

test('a stale file and a missing one are named', async () => {
  const [path = '', text = ''] = [...generatedFiles()][0] ?? [];
  const files = new Map([
    [path, `${text}\n`],
    [`${path}.missing`, text],
  ]);
  expect(await staleFiles(files)).toEqual([
    'charts/crucible/crds/evaluations.crucible.dev.yaml',
    'charts/crucible/crds/evaluations.crucible.dev.yaml.missing',
  ]);
});

test('generating is deterministic, marked, and reads the same in YAML 1.1 and 1.2', async () => {
  for (const [path, text] of generatedFiles()) {
    expect(generatedFiles().get(path)).toBe(text);
    expect(await readFile(path, 'utf8')).toMatch(/^# Generated .* Do not edit/);
    expect(parse(text, { version: '1.1' })).toEqual(parse(text, { version: '1.2' }));
  }
});
