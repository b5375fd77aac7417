import type { Attack } from '../attack.ts';

export const devices: Attack = {
  id: 'devices',
  rule: 13,
  title: 'no device beyond the default ones',
  tries: 'To make a device file, and to open virtual machines, memory and every block device that is there.',
  why: 'A disk or /dev/mem is the node itself.',
  proves: 'None can be made or opened.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['mknod', 'kvm', 'mem', 'kmsg', 'disks'],
    source: String.raw`
@attack('devices')
def devices():
    def make():
        path = '/tmp/.crucible-drill-device'
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
            os.unlink(path)
            return [False, 'made /dev/null anew']
        except OSError as error:
            return [True, why(error)]
    def opens(path):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            return True
        except OSError:
            return False
    results = [check('mknod', *make())]
    for name in ('kvm', 'mem', 'kmsg'):
        results.append(check(name, not opens('/dev/' + name), 'opened' if opens('/dev/' + name) else 'cannot be opened'))
    disks = [path for path in walk('/dev') if os.path.lexists(path) and stat.S_ISBLK(os.lstat(path).st_mode)]
    opened = [path for path in disks if opens(path)]
    return results + [check('disks', not opened, opened[:3] or '%d block devices, none opens' % len(disks))]
`,
  },
};
