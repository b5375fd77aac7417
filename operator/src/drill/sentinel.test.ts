import { expect, it } from 'vitest';
import type { Target } from './canary.ts';
import { newestAnswer, sameTargets } from './sentinel.ts';

const line = (beat: number, ...answered: string[]) => JSON.stringify({ beat, answered });

it('hears the newest answer, once', () => {
  const text = [line(0), line(3, 'tcp a:1'), line(12), line(13, 'tcp b:1'), ''].join('\n');
  expect(newestAnswer(text, -1)).toEqual({ beat: 13, answered: ['tcp b:1'] });
  expect(newestAnswer(text, 12)?.beat).toBe(13);
  expect(newestAnswer(text, 13)).toBeUndefined();
});

it('takes nothing else for one', () => {
  for (const text of [
    '',
    'x',
    line(5),
    '{"beat":-1,"answered":["a"]}',
    '{"beat":1,"answered":"a"}',
    line(1, 'x'.repeat(200)),
    '[1]',
  ])
    expect(newestAnswer(text, -1)).toBeUndefined();
});

it('another one is kept when something else answers the control, not when less does', () => {
  const at = (name: string, group = 'egress'): Target => ({ name, group, protocol: 'tcp', address: '10.0.0.1', port: 1 });
  expect(sameTargets([at('a'), at('b')], [at('a')])).toBe(true);
  expect(sameTargets([at('a')], [at('a'), at('m', 'metadata')])).toBe(true);
  expect(sameTargets([at('a')], [at('a'), at('c')])).toBe(false);
});
