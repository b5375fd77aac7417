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
