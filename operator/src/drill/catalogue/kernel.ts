import type { Attack, Check, DrillFacts } from '../attack.ts';
import { isGvisor } from '../attack.ts';

export const kernel: Attack = {
  id: 'kernel',
  rule: 30,
  title: 'the RuntimeClass is the one that was asked for',
  tries: 'Reads which kernel the code runs on.',
  why: 'A handler that is missing or misnamed can fall back to the ordinary runtime without a word.',
  proves: 'Under gVisor the kernel is gVisor’s; under a virtual machine it is not the node’s.',
  quick: true,
  method: {
    kind: 'inside',
    checks: ['kernel'],
    source: String.raw`
@attack('kernel')
def kernel():
    # Which one it should be is not known in here.
    return [check('kernel', True, platform.release() + ' | ' + open('/proc/version').read().strip())]
`,
  },
};

/** Handlers that run on the node's own kernel. */
const SHARES_KERNEL = /^(runc|crun|youki|nvidia|io\.containerd\.runc)/i;

/** The operator knows what the probe cannot: which class was asked for, and the kernels of the nodes. */
export function judgeKernel(checks: readonly Check[], facts: Pick<DrillFacts, 'handler' | 'kernels'>): Check[] {
  return checks.map((seen) => {
    if (seen.check !== 'kernel' || seen.blocked === null) return seen;
    const release = seen.detail.split(' | ')[0] ?? '';
    if (isGvisor(facts.handler)) return { ...seen, blocked: /gvisor/i.test(seen.detail) };
    const nodes = facts.kernels.includes(release);
    if (facts.handler !== undefined && /kata|qemu|firecracker|cloud-hypervisor/i.test(facts.handler))
      return { ...seen, blocked: !nodes };
    if (facts.handler === undefined || SHARES_KERNEL.test(facts.handler)) return { ...seen, blocked: nodes || facts.kernels.length === 0 ? true : null };
    return { ...seen, blocked: null, detail: `which kernel the handler "${facts.handler}" should show is not known here` };
  });
}

export const missingClass: Attack = {
  id: 'missing-class',
  rule: 30,
  title: 'a RuntimeClass that does not exist refuses the run',
  tries: 'An evaluation with a class that nobody has.',
  why: 'Falling back to a weaker sandbox in silence is the worst answer.',
  proves: 'It is refused, and nothing is started.',
  quick: false,
  method: {
    kind: 'facts',
    judge: ({ missingClass: seen }) => [
      seen === undefined
        ? { check: 'refused', blocked: null, detail: 'the operator did not answer in time' }
        : {
            check: 'refused',
            blocked: seen.reason === 'RuntimeClassNotFound' && seen.attempts === 0,
            detail: `${seen.reason}, ${seen.attempts} attempts`,
          },
    ],
  },
};
