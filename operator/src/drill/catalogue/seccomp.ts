import type { Attack } from '../attack.ts';

export const seccomp: Attack = {
  id: 'seccomp',
  rule: 4,
  title: 'a seccomp filter is on',
  tries: 'Asks the kernel for the filter mode, then a new user namespace and a mount, each in a child of its own.',
  why: 'User namespaces and mounts are how most kernel exploits begin.',
  proves: 'The launcher’s filter is installed and applied, also where the container runtime has none.',
  quick: true,
  method: {
    kind: 'inside',
    checks: ['mode', 'unshare', 'mount'],
    source: String.raw`
@attack('seccomp')
def seccomp():
    numbers = {'x86_64': (272, 165), 'aarch64': (97, 40)}[platform.machine()]
    new_user = 0x10000000
    def mount():
        # Nothing to mount at nowhere: past the filter it fails for its arguments, and changes nothing.
        return list(refused(numbers[1], 0, 0, 0, 0, 0))
    return [
        check('mode', status().get('Seccomp') == '2', status().get('Seccomp')),
        check('unshare', *in_child(lambda: list(refused(numbers[0], new_user)))),
        check('mount', *in_child(mount)),
    ]
`,
  },
};
