import { expect, test } from 'vitest';
import type { Namespace } from '../evaluation/objects.ts';
import { groundOf } from './ground.ts';

const enabled = { 'crucible.dev/evaluations': 'enabled' };
const namespaces: Record<string, Namespace['metadata']> = {
  going: { name: 'going', labels: enabled, deletionTimestamp: '2026-01-01T00:00:00Z' },
  disabled: { name: 'disabled' },
  there: { name: 'there', labels: enabled },
  other: { name: 'other', labels: enabled },
};
const ground = (...names: string[]): string =>
  groundOf(names, (name) => namespaces[name] && { apiVersion: 'v1', kind: 'Namespace', metadata: namespaces[name] });

test('canaries run in the first evaluation namespace that they can run in', () => {
  expect(ground('there', 'other')).toBe('there');
  expect(ground('gone', 'going', 'disabled', 'there', 'other')).toBe('there');
});

test('where they can run in none, the first one is tried: it may come', () => {
  expect(ground('gone', 'going')).toBe('gone');
  expect(ground()).toBe('');
});
