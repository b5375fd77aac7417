import { parseSecurityDrill } from '@crucible/crds';
import { expect, it } from 'vitest';
import { cut } from './attack.ts';
import { CATALOGUE } from './catalogue/index.ts';
import { classesOf, report } from './security-drills.ts';

const raw = { metadata: { name: 'd', generation: 1 } };
type Outcome = 'held' | 'broken' | 'open';
const findings = (outcome: Outcome) =>
  CATALOGUE.map(({ id, rule }) => ({ attack: id, rule, outcome, evidence: cut('x'.repeat(999)) }));
const result = (outcome: Outcome, runtimeClass?: string) => ({
  id: '0b5f7a4e-5d0c-4a5e-9a43-0c3b2f1e8a11',
  runtimeClass,
  findings: findings(outcome),
  startedAt: new Date(0),
  finishedAt: new Date(1),
});

it('a full report of nine classes fits its schema and etcd', () => {
  const results = Array.from({ length: 9 }, (_, index) => result('broken', 'c'.repeat(60) + index));
  const status = report(results, CATALOGUE, raw, 0, 60_000);
  const object = {
    apiVersion: 'crucible.dev/v1alpha1',
    kind: 'SecurityDrill',
    metadata: { name: 'd' },
    spec: {},
    status,
  };
  expect(parseSecurityDrill(object).status?.classes).toHaveLength(9);
  expect(JSON.stringify(status).length).toBeLessThan(256 * 1024);
});

it('is Held or Broken at its end, for pipelines and for kstatus', () => {
  const holds = (status: ReturnType<typeof report>) =>
    status.conditions?.filter(({ status: value }) => value === 'True').map(({ type }) => type);
  const good = report([result('held')], CATALOGUE, raw, 0, 60_000);
  expect(good).toMatchObject({ phase: 'Held', broken: 0, open: 0, held: 31 });
  expect(holds(good)).toEqual(['Finished', 'Held', 'Ready']);
  const bad = report([result('held'), result('broken', 'gvisor')], CATALOGUE, raw, 0, 60_000);
  expect(bad.phase).toBe('Broken');
  expect(holds(bad)).toEqual(['Finished', 'Stalled']);
  expect(bad.conditions?.[0]?.message).toContain('rule 1 (gvisor)');
  expect(holds(report([], CATALOGUE, raw, 0, undefined))).toEqual(['Reconciling']);
  const judge = { required: () => new Set([15]), left: [] };
  const unshown = report([result('open', 'nowhere')], CATALOGUE, raw, 0, 60_000, judge);
  expect(unshown).toMatchObject({ phase: 'Failed', held: 0, broken: 0 });
  expect(holds(unshown)).toEqual(['Finished', 'Stalled']);
  expect(unshown.conditions?.[0]).toMatchObject({ reason: 'Incomplete', message: expect.stringMatching(/: rule 15 \(nowhere\)$/) as string });
  expect(report([result('open')], CATALOGUE, raw, 0, 60_000, { ...judge, required: () => new Set([99]) }).phase).toBe('Held');
  const nothing = report([], CATALOGUE, raw, 0, 60_000, judge);
  expect([nothing.phase, nothing.conditions?.[0]?.message]).toEqual(['Failed', expect.stringContaining('no RuntimeClass was drilled')]);
  const partly = report([result('held')], CATALOGUE, raw, 0, 60_000, { ...judge, left: ['tenth'] });
  expect([partly.phase, partly.conditions?.[0]?.message]).toEqual(['Failed', expect.stringContaining('tenth was not drilled')]);
});

it('drills what is asked for', () => {
  const known = [undefined, 'gvisor', 'kata'];
  expect(classesOf({ kind: 'Full' }, known)).toEqual(known);
  expect(classesOf({ kind: 'Full', defaultRuntime: true }, known)).toEqual([undefined]);
  // Though the configured default is another one.
  expect(classesOf({ kind: 'Full', defaultRuntime: true }, ['gvisor'])).toEqual([undefined]);
  expect(classesOf({ kind: 'Full', defaultRuntime: false }, known)).toEqual(['gvisor', 'kata']);
  expect(classesOf({ kind: 'Full', runtimeClassNames: ['kata'] }, known)).toEqual(['kata']);
  expect(classesOf({ kind: 'Full', runtimeClassNames: ['kata'], defaultRuntime: true }, known)).toEqual([
    undefined,
    'kata',
  ]);
});
