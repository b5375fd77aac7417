import type { Attack } from '../attack.ts';

export const noNewPrivileges: Attack = {
  id: 'no-new-privileges',
  rule: 2,
  title: 'no_new_privs is on, and there is no setuid program',
  tries: 'Looks for the kernel’s flag and for programs with a setuid or setgid bit.',
  why: 'A setuid program is the ordinary way from a user to root.',
  proves: 'Nothing that is executed can give the code more rights than it has.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['flag', 'programs'],
    source: String.raw`
@attack('no-new-privileges')
def no_new_privileges():
    found = []
    for path, mode in modes():
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            found.append(path)
    return [
        check('flag', status().get('NoNewPrivs') == '1', status().get('NoNewPrivs')),
        check('programs', not found, found[:3] or 'none'),
    ]
`,
  },
};
