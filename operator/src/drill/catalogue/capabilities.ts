import type { Attack } from '../attack.ts';

export const capabilities: Attack = {
  id: 'capabilities',
  rule: 3,
  title: 'every capability set is empty',
  tries: 'Reads the five capability sets of the process from the kernel.',
  why: 'One capability (SYS_ADMIN, NET_RAW, DAC_OVERRIDE …) is enough for many known escapes.',
  proves: 'The code has none and can get none.',
  quick: true,
  method: {
    kind: 'inside',
    checks: ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'],
    source: String.raw`
@attack('capabilities')
def capabilities():
    seen = status()
    return [check(name, int(seen[name], 16) == 0, seen[name]) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')]
`,
  },
};
