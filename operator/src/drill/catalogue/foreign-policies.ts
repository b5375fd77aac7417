import type { Attack } from '../attack.ts';

export const foreignPolicies: Attack = {
  id: 'foreign-policies',
  rule: 31,
  title: 'no other NetworkPolicy reopens the network',
  tries: 'Looks at every NetworkPolicy of every evaluation namespace.',
  why: 'Policies add up: one that allows something undoes the default-deny for what it selects.',
  proves: 'The default-deny policy is there as it should be, and no other allows anything.',
  quick: true,
  method: {
    kind: 'facts',
    judge: ({ policies }) =>
      policies.length === 0
        ? [{ check: 'policies', blocked: true, detail: 'crucible-default-deny alone, in every evaluation namespace' }]
        : policies.map((problem) => ({ check: 'policies', blocked: false, detail: problem })),
  },
};
