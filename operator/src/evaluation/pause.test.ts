import { expect, it } from 'vitest';
import { pauseOf } from './pause.ts';

const switchOf = (data?: Record<string, string>) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: {}, ...(data && { data }) });

it.each<[string, Record<string, string> | undefined, string | undefined]>([
  ['without data', undefined, undefined],
  ['off', { paused: 'false', reason: 'old' }, undefined],
  ['empty', { paused: '' }, undefined],
  ['on', { paused: 'true' }, 'Crucible is paused'],
  ['on, with a reason in lines', { paused: 'true', reason: ' new\n nodes ' }, 'Crucible is paused: new nodes'],
])('the pause switch %s', (_, data, said) => expect(pauseOf(switchOf(data), 'Crucible')).toBe(said));

it('a pause switch that is unclear pauses, and says what is wrong with it', () => {
  expect(pauseOf(switchOf({ paused: 'True' }), 'Crucible')).toMatch(/data.paused is neither "true" nor "false"/);
  expect(pauseOf(undefined, 'Crucible')).toBeUndefined();
  expect(pauseOf(switchOf({ paused: 'true', reason: 'x'.repeat(9000) }), 'Crucible')?.length).toBe(512);
});
