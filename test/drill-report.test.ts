import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { judge, readOpenRules, table } from '../deploy/local/drill.ts';

const rule = (number: number, outcome: 'held' | 'broken' | 'open', evidence = 'seen') => ({ rule: number, outcome, evidence, title: `rule ${number}` });
const report = (runtimeClassName: string, ...rules: ReturnType<typeof rule>[]) => ({ runtimeClassName, drillId: 'x', held: 0, broken: 0, open: 0, rules });
const listed = [{ runtimeClass: 'gvisor', rules: [22], reason: 'known' }];

describe('judge', () => {
  it('accepts what holds, and what is open and listed for that class', () => {
    expect(judge([], listed)).toEqual(['nothing was drilled']);
    expect(judge([report('', rule(1, 'held')), report('gvisor', rule(22, 'open'))], listed)).toEqual([]);
    expect(judge([report('kata', rule(22, 'open'))], [{ runtimeClass: '*', rules: [22], reason: '' }])).toEqual([]);
  });

  it('names what is broken, listed or not, and what is open without being listed', () => {
    expect(judge([report('gvisor', rule(22, 'broken'))], listed)).toEqual(['rule 22 is broken under gvisor: seen']);
    expect(judge([report('', rule(22, 'open'))], listed)[0]).toContain('rule 22 could not be shown, and is not named');
    expect(judge([report('gvisor', rule(21, 'open'))], listed)).toHaveLength(1);
  });
});

it('prints rule by rule and class by class, and ends with the sum', () => {
  const text = table([report('', rule(15, 'held'), rule(1, 'held')), report('gvisor', rule(1, 'broken', 'x'.repeat(500)), rule(15, 'open'))]);
  const lines = text.split('\n');
  expect(lines.at(-1)).toBe('2 held, 1 broken, 1 open');
  expect(lines.map((line) => line.slice(0, 4).trim())).toEqual(['RULE', '1', '', '15', '', '', '2 he']);
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(200);
});

it('reads the list of a platform; one without a list has none', () => {
  const path = join(mkdtempSync(join(tmpdir(), 'drill-')), 'open.yaml');
  writeFileSync(path, 'mine: [{runtimeClass: "", rules: [1], reason: x}]\n');
  expect(readOpenRules(path, 'mine')).toHaveLength(1);
  expect(readOpenRules(path, 'other')).toEqual([]);
  for (const platform of ['native', 'kind', 'existing'])
    expect(readOpenRules(resolve(import.meta.dirname, '../deploy/local/drill-open.yaml'), platform).every(({ reason }) => reason !== '')).toBe(true);
});
