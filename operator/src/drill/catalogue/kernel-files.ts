import type { Attack } from '../attack.ts';

export const kernelFiles: Attack = {
  id: 'kernel-files',
  rule: 12,
  title: '/proc and /sys are masked and read-only',
  tries:
    'To read kernel memory, keys and timers, and to open for writing what would run a program on the node. Nothing is written.',
  why: 'core_pattern, uevent_helper and release_agent each run a program as root outside of the container.',
  proves: 'None can be read or opened.',
  quick: false,
  method: {
    kind: 'inside',
    checks: [
      'kcore',
      'keys',
      'timer_list',
      'sysrq-trigger',
      'core_pattern',
      'modprobe',
      'uevent_helper',
      'release_agent',
    ],
    source: String.raw`
@attack('kernel-files')
def kernel_files():
    results = []
    for path in ('/proc/kcore', '/proc/keys', '/proc/timer_list'):
        try:
            with open(path, 'rb') as file:
                data = file.read(16)
            results.append(check(os.path.basename(path), not data, 'read %d bytes' % len(data)))
        except OSError as error:
            results.append(check(os.path.basename(path), True, why(error)))
    agents = glob.glob('/sys/fs/cgroup/release_agent') + glob.glob('/sys/fs/cgroup/*/release_agent')
    writes = ['/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/sys/kernel/uevent_helper']
    for path in writes + (agents[:1] or ['/sys/fs/cgroup/release_agent']):
        try:
            os.close(os.open(path, os.O_WRONLY))
            results.append(check(os.path.basename(path), False, 'opened for writing'))
        except OSError as error:
            results.append(check(os.path.basename(path), True, why(error)))
    return results
`,
  },
};
