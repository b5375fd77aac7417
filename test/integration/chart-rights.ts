const OPERATOR = 'crucible-system/crucible-operator';
const RECORDER = 'crucible-system/crucible-recorder';
const RESEARCHER = 'evals/researcher';

/** Account, verb, group, resource, namespace ("" is the whole cluster), and whether the chart allows it. */
export const RIGHTS: [string, string, string, string, string, boolean][] = [
  [OPERATOR, 'create', 'batch', 'jobs', 'evals', true],
  [OPERATOR, 'create', 'batch', 'jobs', 'default', false],
  [OPERATOR, 'patch', '', 'pods', 'evals', true],
  [OPERATOR, 'delete', '', 'pods', 'evals', false],
  [OPERATOR, 'create', '', 'pods', 'evals', false],
  [OPERATOR, 'get', '', 'pods/log', 'evals', false],
  [OPERATOR, 'create', '', 'pods/exec', 'evals', false],
  [OPERATOR, 'get', '', 'secrets', 'evals', false],
  [OPERATOR, 'get', '', 'secrets', 'crucible-system', false],
  [OPERATOR, 'create', '', 'configmaps', 'evals', true],
  [OPERATOR, 'create', '', 'configmaps', 'crucible-system', false],
  [OPERATOR, 'watch', '', 'configmaps', 'crucible-system', false],
  [OPERATOR, 'watch', 'kueue.x-k8s.io', 'workloads', 'evals', false],
  [OPERATOR, 'patch', 'crucible.dev', 'evaluations/status', 'default', true],
  [OPERATOR, 'watch', 'node.k8s.io', 'runtimeclasses', '', true],
  [OPERATOR, 'create', 'coordination.k8s.io', 'leases', 'crucible-system', true],
  [OPERATOR, 'update', 'coordination.k8s.io', 'leases', 'crucible-system', false],
  [OPERATOR, 'update', 'coordination.k8s.io', 'leases', 'kube-system', false],
  [RECORDER, 'get', '', 'pods/log', 'evals', true],
  [RECORDER, 'get', '', 'pods/log', 'default', false],
  [RECORDER, 'watch', '', 'pods', 'evals', true],
  [RECORDER, 'patch', '', 'pods', 'evals', false],
  [RECORDER, 'get', 'crucible.dev', 'evaluations', 'evals', false],
  [RESEARCHER, 'create', 'crucible.dev', 'evaluations', 'evals', true],
  [RESEARCHER, 'create', 'crucible.dev', 'evaluations', 'default', false],
  [RESEARCHER, 'patch', 'crucible.dev', 'evaluations/status', 'evals', false],
  [RESEARCHER, 'list', 'crucible.dev', 'evaluationruntimes', '', true],
  [RESEARCHER, 'get', '', 'pods/log', 'evals', false],
];
