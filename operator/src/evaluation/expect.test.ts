import { describe, expect, it } from 'vitest';
import type { Expectation } from '@crucible/crds';
import { scoreEnd, scoreOutput } from './expect.ts';

const judge = (expected: Expectation, stdout: string | undefined, exitCode: number | undefined) =>
  scoreEnd(expected, exitCode, stdout !== undefined) ?? scoreOutput(expected.stdout!, Buffer.from(stdout!));

describe('score', () => {
  it.each<[string, Expectation, string | undefined, number | undefined, string]>([
    ['exit 0 by default', {}, '', 0, 'AsExpected'],
    ['another exit code', {}, '', 1, 'ExitCode'],
    ['the expected exit code', { exitCode: 3 }, '', 3, 'AsExpected'],
    ['no exit code', { exitCode: 3 }, '', undefined, 'NoExitCode'],
    ['equals, apart from white space at the end', { stdout: { equals: 'hi' } }, 'hi \n', 0, 'AsExpected'],
    ['equals, but not at the start', { stdout: { equals: 'hi' } }, ' hi', 0, 'StdoutEquals'],
    ['contains', { stdout: { contains: 'b' } }, 'abc', 0, 'AsExpected'],
    ['does not contain', { stdout: { contains: 'x' } }, 'abc', 0, 'StdoutContains'],
    ['matches anywhere', { stdout: { matches: '^score: [0-9.]+$|b+' } }, 'abbc', 0, 'AsExpected'],
    ['does not match', { stdout: { matches: '^b' } }, 'abc', 0, 'StdoutMatches'],
    ['no RE2', { stdout: { matches: '(?=a)' } }, 'abc', 0, 'StdoutMatches'],
    ['output not whole', { stdout: { contains: 'b' } }, undefined, 0, 'OutputIncomplete'],
    [
      'json in the last line that is a document',
      { stdout: { json: { path: 'a.b[1]', equals: '3' } } },
      '{"a":1}\n{"a":{"b":[1,3]}}\ndone\n',
      0,
      'AsExpected',
    ],
    ['json on several lines', { stdout: { json: { path: 'a', equals: '1' } } }, '{\n "a": 1\n}\n', 0, 'AsExpected'],
    [
      'json compared as a document',
      { stdout: { json: { path: 'a', equals: '{"y":2,"x":1}' } } },
      '{"a":{"x":1,"y":2}}',
      0,
      'AsExpected',
    ],
    ['json compared as a string', { stdout: { json: { path: 'a', equals: 'ok' } } }, '{"a":"ok"}', 0, 'AsExpected'],
    ['json: a number is no string', { stdout: { json: { path: 'a', equals: '"3"' } } }, '{"a":3}', 0, 'StdoutJson'],
    ['json in range', { stdout: { json: { path: '$.score', min: 0.5, max: 1 } } }, '{"score":0.7}', 0, 'AsExpected'],
    ['json below', { stdout: { json: { path: 'score', min: 0.5 } } }, '{"score":0.4}', 0, 'StdoutJson'],
    ['json above', { stdout: { json: { path: 'score', max: 0.5 } } }, '{"score":0.6}', 0, 'StdoutJson'],
    ['json missing', { stdout: { json: { path: 'score', min: 0 } } }, '{}', 0, 'StdoutJson'],
    ['json of a prototype', { stdout: { json: { path: '__proto__', equals: '{}' } } }, '{}', 0, 'StdoutJson'],
    ['no json', { stdout: { json: { path: 'a', min: 0 } } }, 'nothing', 0, 'StdoutJson'],
    ['json on the first line', { stdout: { json: { path: '$', min: 1 } } }, '\n1\n\nno\n', 0, 'AsExpected'],
    [
      'json that is too large, after one that is not',
      { stdout: { json: { path: '[0]', equals: '1' } } },
      `[1]\n[${'2,'.repeat(600_000)}2]\n`,
      0,
      'AsExpected',
    ],
    ['a bare number', { stdout: { json: { path: '$', min: 0.9 } } }, 'text\n0.93\n', 0, 'AsExpected'],
  ])('%s', (_, expected, stdout, exitCode, reason) => {
    const actual = judge(expected, stdout, exitCode);
    expect(actual.reason).toBe(reason);
    expect(actual.passed).toBe(reason === 'AsExpected');
  });

  it('takes linear time on a pattern that makes backtracking engines explode', () => {
    const started = performance.now();
    expect(judge({ stdout: { matches: '^(a+)+$' } }, `${'a'.repeat(50_000)}!`, 0).passed).toBe(false);
    // Exponential would be longer than the age of the universe; generous for a busy machine.
    expect(performance.now() - started).toBeLessThan(5000);
  });
});
