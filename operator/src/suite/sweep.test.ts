import { pino } from 'pino';
import { expect, test } from 'vitest';
import { KubeError } from '../kube/index.ts';
import { SuiteSweep } from './sweep.ts';
import type { SuiteSweepDependencies } from './sweep.ts';

const row = (name: string) => ({ uid: `uid-${name}`, namespace: 'evals', name, createdAt: new Date(0), spec: {}, labels: {} });

test('a suite that cannot be ended keeps no other from it', async () => {
  const ended: string[] = [];
  const sweep = new SuiteSweep({
    suites: { get: () => undefined },
    record: { listUnfinished: async (after?: string) => (after === undefined ? [row('stuck'), row('gone')] : []) },
    client: {
      get: async () => {
        throw new KubeError({ code: 404, reason: 'NotFound', message: 'none' });
      },
    },
    gatherer: {
      gather: async (key: string) => {
        ended.push(key);
        throw new Error('cannot be gathered');
      },
    },
    logger: pino({ level: 'silent' }),
    now: () => 0,
  } as unknown as SuiteSweepDependencies);
  await sweep.sweep(new AbortController().signal);
  expect(ended).toEqual(['evals/stuck', 'evals/gone']);
});
