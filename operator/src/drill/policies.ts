import type { KubeObject } from '../kube/index.ts';

// Rule 31. Policies add up: whatever one of them allows is allowed, so the default-deny holds only while it is there as
// the chart made it and no other allows anything. Pure.

export const DEFAULT_DENY = 'crucible-default-deny';

export interface NetworkPolicy extends KubeObject {
  spec?: {
    podSelector?: { matchLabels?: Record<string, string>; matchExpressions?: readonly unknown[] };
    policyTypes?: readonly string[];
    ingress?: readonly unknown[];
    egress?: readonly unknown[];
  };
}

export interface PolicyProblem {
  readonly reason: 'DefaultDenyMissing' | 'ForeignNetworkPolicy';
  readonly message: string;
  /** Of the policies that allow something. */
  readonly names: readonly string[];
}

/** What is wrong in one evaluation namespace, or undefined. */
export function policyProblem(policies: readonly NetworkPolicy[], namespace: string): PolicyProblem | undefined {
  const here = policies.filter(({ metadata }) => metadata.namespace === namespace);
  const names = here
    .filter(allowsSomething)
    .map(({ metadata }) => metadata.name ?? '')
    .sort();
  if (names.length > 0) {
    const listed = names.slice(0, 3).join(', ') + (names.length > 3 ? ` and ${names.length - 3} more` : '');
    return {
      reason: 'ForeignNetworkPolicy',
      message: `NetworkPolicy ${listed} in namespace ${namespace} allows traffic of sandboxes; nothing is admitted there until it is deleted.`,
      names,
    };
  }
  if (here.some((policy) => policy.metadata.name === DEFAULT_DENY && deniesAll(policy))) return undefined;
  return {
    reason: 'DefaultDenyMissing',
    message: `NetworkPolicy ${DEFAULT_DENY} of namespace ${namespace} is missing or does not deny everything; nothing is admitted there until the release is upgraded again.`,
    names: [],
  };
}

/** A policy without rules only denies, whatever it selects; one with an empty rule allows everything. */
function allowsSomething({ spec }: NetworkPolicy): boolean {
  return (spec?.ingress?.length ?? 0) > 0 || (spec?.egress?.length ?? 0) > 0;
}

function deniesAll({ spec, metadata }: NetworkPolicy): boolean {
  const selector = spec?.podSelector;
  const every =
    Object.keys(selector?.matchLabels ?? {}).length === 0 && (selector?.matchExpressions?.length ?? 0) === 0;
  const types = spec?.policyTypes ?? [];
  return every && types.includes('Ingress') && types.includes('Egress') && metadata.deletionTimestamp === undefined;
}
