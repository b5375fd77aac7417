import { expect, it } from 'vitest';
import { parseReport, reported } from './report.ts';

const line = (attack: string, checks: unknown) => JSON.stringify({ attack, checks });
const check = { check: 'uid', blocked: true, detail: '100000' };

it('reads what a canary prints, and nothing else', () => {
  const text = [
    'hello',
    '{',
    'null',
    '[]',
    line('a', [check]),
    line('b', [{ ...check, blocked: 'yes' }]),
    line('c', 'x'),
    line('d', [{ ...check, detail: 'x'.repeat(300) }]),
    line('x'.repeat(65), [check]),
    line('reach:peer', [{ ...check, blocked: null }]),
    line('__proto__', [check]),
  ].join('\n');
  const report = parseReport(text);
  expect([...report.keys()]).toEqual(['a', 'reach:peer', '__proto__']);
  expect(reported(text, 'a')).toEqual([check]);
  expect(reported(text, 'toString')).toEqual([]);
});

it('a second report of an attack adds to the first: it cannot replace a breach', () => {
  const text = [line('a', [{ ...check, blocked: false }]), line('a', [check])].join('\n');
  expect(reported(text, 'a').map(({ blocked }) => blocked)).toEqual([false, true]);
});

it('is bounded', () => {
  expect(parseReport(`${'x'.repeat(300 * 1024)}\n${line('late', [check])}`).size).toBe(0);
  expect(parseReport(`${'\n'.repeat(500)}${line('late', [check])}`).size).toBe(0);
});
