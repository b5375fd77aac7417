import { evaluationStatusSchema } from '@crucible/crds';
import { expect, it } from 'vitest';
import { readEvaluation } from './gather.ts';
import type { RawEvaluation } from './snapshot.ts';
import { rawEvaluation } from './testing/builders.ts';

it('a status that a newer operator wrote, of a phase that is not known yet, leaves the spec as it is', () => {
  const status = { phase: 'Hibernating' } as unknown as NonNullable<RawEvaluation['status']>;
  expect(evaluationStatusSchema.safeParse(status).success).toBe(false);
  const { evaluation, invalid } = readEvaluation({ ...rawEvaluation({ priority: 7 }), status });
  expect([evaluation?.spec.priority, invalid]).toEqual([7, undefined]);
});

it('a spec that cannot be read says where', () => {
  const { evaluation, invalid } = readEvaluation({ ...rawEvaluation(), spec: { runtime: 7 } });
  expect(evaluation).toBeUndefined();
  expect(invalid).toMatch(/spec\.runtime/);
});
