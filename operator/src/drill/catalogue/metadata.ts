import type { Attack } from '../attack.ts';

export const metadata: Attack = {
  id: 'metadata',
  rule: 17,
  title: 'cloud metadata addresses are denied',
  tries: 'HTTP to the metadata addresses that the installation names (drill.metadataAddresses).',
  why: 'They hand out the node’s own cloud credentials to whoever asks.',
  proves: 'Nothing answers there. Tried only where it is certain that nothing outside of the cluster is asked.',
  quick: true,
  method: { kind: 'reach', group: 'metadata' },
};
