import { describe, expect, it } from 'vitest';
import type { NetworkPolicy } from './policies.ts';
import { policyProblem } from './policies.ts';

const policy = (name: string, spec: NetworkPolicy['spec'], namespace = 'evals'): NetworkPolicy => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name, namespace },
  ...(spec && { spec }),
});
const types = ['Ingress', 'Egress'];
const ours = policy('crucible-default-deny', { podSelector: {}, policyTypes: types });

describe('policyProblem', () => {
  it('finds none where ours is alone, or others only deny', () => {
    const denies = policy('mine', { podSelector: { matchLabels: { a: 'b' } }, policyTypes: ['Egress'], egress: [] });
    expect(policyProblem([ours], 'evals')).toBeUndefined();
    expect(policyProblem([ours, denies, policy('x', { egress: [{}] }, 'other')], 'evals')).toBeUndefined();
  });

  it.each<[string, NetworkPolicy['spec']]>([
    ['all egress', { podSelector: {}, policyTypes: ['Egress'], egress: [{}] }],
    ['egress to one address', { podSelector: {}, egress: [{ to: [{ ipBlock: { cidr: '1.2.3.4/32' } }] }] }],
    ['ingress', { podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }],
    ['sandboxes by label', { podSelector: { matchLabels: { 'crucible.dev/sandbox': 'true' } }, egress: [{}] }],
  ])('names a policy that allows %s', (_what, spec) => {
    const problem = policyProblem([ours, policy('open-sesame', spec)], 'evals');
    expect(problem).toMatchObject({ reason: 'ForeignNetworkPolicy', names: ['open-sesame'] });
    expect(problem?.message).toContain('open-sesame');
  });

  it.each<[string, NetworkPolicy[]]>([
    ['absent', []],
    ['in another namespace', [policy('crucible-default-deny', { podSelector: {}, policyTypes: types }, 'other')]],
    ['one direction only', [policy('crucible-default-deny', { podSelector: {}, policyTypes: ['Ingress'] })]],
    [
      'of some pods only',
      [policy('crucible-default-deny', { podSelector: { matchLabels: { a: 'b' } }, policyTypes: types })],
    ],
    [
      'by expression',
      [policy('crucible-default-deny', { podSelector: { matchExpressions: [{}] }, policyTypes: types })],
    ],
    ['empty', [policy('crucible-default-deny', undefined)]],
    ['being deleted', [{ ...ours, metadata: { ...ours.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } }]],
  ])('misses the default-deny policy when it is %s', (_what, policies) => {
    expect(policyProblem(policies, 'evals')?.reason).toBe('DefaultDenyMissing');
  });

  it('takes ours with a rule in it for a foreign one', () => {
    const opened = policy('crucible-default-deny', { podSelector: {}, policyTypes: types, egress: [{}] });
    expect(policyProblem([opened], 'evals')?.reason).toBe('ForeignNetworkPolicy');
  });
});
