import type { Attack } from '../attack.ts';

export const readOnlyRoot: Attack = {
  id: 'read-only-root',
  rule: 7,
  title: 'the root filesystem is read-only',
  tries: 'To create a file in /, /usr, /etc and beside the launcher; reads the mount’s own flag.',
  why: 'A writable root is a place to stay and the node’s disk to fill.',
  proves: 'Nothing of the image can be changed.',
  quick: true,
  method: {
    kind: 'inside',
    checks: ['/', '/usr', '/etc', '/crucible/bin', 'mount'],
    source: String.raw`
@attack('read-only-root')
def read_only_root():
    results = []
    for folder in ('/', '/usr', '/etc', '/crucible/bin'):
        path = os.path.join(folder, '.crucible-drill')
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.unlink(path)
            results.append(check(folder, False, 'created a file'))
        except OSError as error:
            results.append(check(folder, True, why(error)))
    # Permissions refuse a user before the mount does, so its flag is looked at as well.
    read_only = bool(os.statvfs('/').f_flag & os.ST_RDONLY)
    options = [line.split()[3].split(',') for line in open('/proc/mounts') if line.split()[1] == '/']
    return results + [check('mount', read_only or 'ro' in options[-1], options[-1][0])]
`,
  },
};
