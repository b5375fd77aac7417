import type { Attack } from '../attack.ts';

export const environment: Attack = {
  id: 'environment',
  rule: 10,
  title: 'the environment is clean',
  tries: 'Reads its own environment and that of PID 1.',
  why: 'Service links map the cluster, and secrets are often passed in variables.',
  proves: 'Only names that the sandbox is known to have are there.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['names', 'launcher'],
    source: String.raw`
@attack('environment')
def environment():
    known = {'PATH', 'HOME', 'TMPDIR', 'LANG', 'LC_CTYPE'}
    beyond = sorted(name for name in os.environ if name not in known)
    results = [check('names', not beyond, beyond[:5] or sorted(os.environ))]
    try:
        text = open('/proc/1/environ', 'rb').read().decode(errors='replace')
        names = sorted(entry.split('=')[0] for entry in text.split('\0') if entry)
        told = [name for name in names if name not in known | {'HOSTNAME'} and not name.startswith('KUBERNETES_')]
        results.append(check('launcher', not told, told[:5] or 'nothing beyond the known'))
    except OSError as error:
        results.append(check('launcher', True, why(error)))
    return results
`,
  },
};
