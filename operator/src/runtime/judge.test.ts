import { aRuntime } from '../../../crds/src/testing/builders.ts';
import { expect, test } from 'vitest';
import { buildRuntimeStatus, judgeRuntime } from './judge.ts';
import type { RuntimeFacts } from './judge.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const facts = (spec: object, changes: Partial<RuntimeFacts> = {}): RuntimeFacts => ({
  runtime: aRuntime(spec),
  invalid: undefined,
  runtimeClasses: ['gvisor', 'runc'],
  defaultRuntimeClass: undefined,
  ...changes,
});

test.each<[string, RuntimeFacts, Record<string, [string, string]>]>([
  ['no RuntimeClass anywhere', facts({}), { Ready: ['True', 'Usable'], ImagePinned: ['False', 'ByTag'] }],
  ['a RuntimeClass that exists', facts({ runtimeClassName: 'gvisor' }), { Ready: ['True', 'Usable'], ImagePinned: ['False', 'ByTag'] }],
  ['an image by digest', facts({ image: `a/b:1@${DIGEST}` }), { Ready: ['True', 'Usable'], ImagePinned: ['True', 'ByDigest'] }],
  ['something like a digest', facts({ image: 'a/b@sha256:abc' }), { Ready: ['True', 'Usable'], ImagePinned: ['False', 'ByTag'] }],
  [
    'a RuntimeClass that is missing',
    facts({ runtimeClassName: 'kata' }),
    { Ready: ['False', 'RuntimeClassNotFound'], Stalled: ['True', 'RuntimeClassNotFound'], ImagePinned: ['False', 'ByTag'] },
  ],
  [
    'a default RuntimeClass that is missing',
    facts({}, { defaultRuntimeClass: 'kata' }),
    { Ready: ['False', 'RuntimeClassNotFound'], Stalled: ['True', 'RuntimeClassNotFound'], ImagePinned: ['False', 'ByTag'] },
  ],
  ['a default that it does not use', facts({ runtimeClassName: 'gvisor' }, { defaultRuntimeClass: 'kata' }), { Ready: ['True', 'Usable'], ImagePinned: ['False', 'ByTag'] }],
  [
    'a spec that cannot be read',
    { ...facts({}), runtime: undefined, invalid: 'spec.image: must not be empty' },
    { Ready: ['False', 'InvalidSpec'], Stalled: ['True', 'InvalidSpec'] },
  ],
])('%s', (_, given, expected) => {
  const claims = judgeRuntime(given);
  expect(Object.fromEntries(Object.entries(claims).map(([type, { status, reason }]) => [type, [status, reason]]))).toEqual(expected);
});

test('a refusal says what there is and what to do; a condition keeps its time until its status changes', () => {
  const broken = judgeRuntime(facts({ runtimeClassName: 'kata' }));
  expect(broken['Ready']?.message).toBe(
    'The cluster has no RuntimeClass "kata", which is spec.runtimeClassName (it has: gvisor, runc), so evaluations are refused. Have it installed, or name another one.',
  );
  const first = buildRuntimeStatus(broken, 1, undefined, Date.parse('2026-01-01T00:00:00Z'));
  const same = buildRuntimeStatus(broken, 2, first, Date.parse('2026-01-01T00:01:00Z'));
  const mended = buildRuntimeStatus(judgeRuntime(facts({})), 2, same, Date.parse('2026-01-01T00:02:00Z'));
  const since = (status: typeof first, type: string) => status.conditions?.find((one) => one.type === type)?.lastTransitionTime;
  expect([since(first, 'Ready'), since(same, 'Ready'), since(mended, 'Ready')]).toEqual(['2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', '2026-01-01T00:02:00Z']);
  expect([same.observedGeneration, since(mended, 'Stalled')]).toEqual([2, undefined]);
});
