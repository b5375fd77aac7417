import type { Attack } from '../attack.ts';

export const peer: Attack = {
  id: 'peer',
  rule: 20,
  title: 'another sandbox is out of reach',
  tries: 'TCP to a second sandbox that listens, and that its own connection to the same address is answered by.',
  why: 'Two runs that can talk can cheat, and one that is taken over can attack the others.',
  proves: 'Sandboxes of one namespace do not reach each other.',
  quick: true,
  method: { kind: 'reach', group: 'peer' },
};

export const peerIngress: Attack = {
  id: 'peer-ingress',
  rule: 20,
  title: 'nobody gets into a sandbox',
  tries: 'The control, which no policy holds back and which has just reached its listener, tries a sandbox that listens.',
  why: 'Some plugins enforce one direction only; then whoever runs elsewhere in the cluster gives orders to a sandbox.',
  proves: 'The ingress half of the default-deny policy is enforced too, not only the egress half of whoever asks.',
  quick: true,
  method: { kind: 'ingress' },
};
