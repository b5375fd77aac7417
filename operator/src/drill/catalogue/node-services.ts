import type { Attack } from '../attack.ts';

export const nodeServices: Attack = {
  id: 'node-services',
  rule: 19,
  title: 'the node’s own services are out of reach',
  tries: 'TCP to kubelet, etcd and what else answers the control pod on the node’s address.',
  why: 'Many network plugins let a pod talk to its own node whatever the policies say.',
  proves: 'This one does not.',
  quick: true,
  method: { kind: 'reach', group: 'node' },
};
