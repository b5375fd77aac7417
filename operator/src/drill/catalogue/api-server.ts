import type { Attack } from '../attack.ts';

export const apiServer: Attack = {
  id: 'api-server',
  rule: 18,
  title: 'the API server is out of reach',
  tries: 'TCP to its service address, and to its port on the node where the control pod is answered there.',
  why: 'Even without a token, its unauthenticated surface is the cluster’s front door.',
  proves: 'There is no connection, not merely a 401.',
  quick: true,
  method: { kind: 'reach', group: 'apiServer' },
};
