import type { Attack } from '../attack.ts';

export const syscalls: Attack = {
  id: 'syscalls',
  rule: 5,
  title: 'system calls that sandboxes leak through are refused',
  tries:
    'io_uring, bpf, perf_event_open, userfaultfd, keyctl, kexec_load, open_by_handle_at, raw and with arguments that do nothing.',
  why: 'These have been the kernel’s most productive sources of escapes.',
  proves: 'Each answers EPERM or ENOSYS, so the filter stands before the kernel’s code.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['io_uring_setup', 'bpf', 'perf_event_open', 'userfaultfd', 'keyctl', 'kexec_load', 'open_by_handle_at'],
    source: String.raw`
@attack('syscalls')
def syscalls():
    x86 = platform.machine() == 'x86_64'
    calls = {
        'io_uring_setup': (425, 425, (0, 0)),
        'bpf': (321, 280, (-1, 0, 0)),
        'perf_event_open': (298, 241, (0, 0, -1, -1, 0)),
        'userfaultfd': (323, 282, (-1,)),
        'keyctl': (250, 219, (-1, 0, 0, 0, 0)),
        'kexec_load': (246, 104, (0, 0, 0, -1)),
        'open_by_handle_at': (304, 265, (-1, 0, 0)),
    }
    return [check(name, *refused(numbers[0] if x86 else numbers[1], *numbers[2])) for name, numbers in calls.items()]
`,
  },
};
