import type { Attack, RunEnd } from '../attack.ts';
import { reported } from '../report.ts';

export const mounts: Attack = {
  id: 'mounts',
  rule: 8,
  title: 'every writable mount is a size-capped tmpfs',
  tries: 'To fill each writable mount that /proc/mounts names, up to 96 MiB.',
  why: 'A mount without a cap is the node’s disk, or memory nobody counts.',
  proves: 'Each ends in ENOSPC, or the file-size limit.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      memory: '192Mi',
      disk: '16Mi',
      timeoutSeconds: 60,
      code: String.raw`
import errno, json, os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
results, seen = [], set()
for line in open('/proc/mounts'):
    kind, place = line.split()[2], line.split()[1]
    if place in seen or kind in ('proc', 'sysfs', 'cgroup', 'cgroup2', 'devpts', 'mqueue') or not os.path.isdir(place) or not os.access(place, os.W_OK): continue
    seen.add(place)
    written, names, answer = 0, [], None
    try:
        while answer is None and written < 96 << 20:
            names.append(os.path.join(place, '.crucible-drill-%d' % len(names)))
            with open(names[-1], 'wb', buffering=0) as file:
                while written < 96 << 20 and file.tell() < 8 << 20:
                    written += file.write(b'\0' * (1 << 20))
    except OSError as error:
        answer = errno.errorcode.get(error.errno, str(error))
    for name in names:
        try: os.unlink(name)
        except OSError: pass
    if answer in ('EROFS', 'EACCES', 'EPERM') and written == 0: continue
    results.append({'check': place, 'blocked': answer == 'ENOSPC', 'detail': '%s %s after %d MiB' % (kind, answer or 'not full', written >> 20)})
print(json.dumps({'attack': 'mounts', 'checks': results}))
`,
    },
    judge: (end: RunEnd) => reported(end.stdout, 'mounts'),
  },
};

export const disk: Attack = {
  id: 'disk',
  rule: 23,
  title: 'the disk limit holds',
  tries: 'To write without end into the working folder.',
  why: 'A full disk evicts the neighbours.',
  proves: 'Writing stops at the cap, and the run itself goes on.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      disk: '16Mi',
      code: String.raw`
import errno, json, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
written, answer, number = 0, None, 0
while answer is None and written < 64 << 20:
    number += 1
    try:
        with open('/work/fill-%d' % number, 'wb', buffering=0) as file:
            for _ in range(4): written += file.write(b'x' * (1 << 20))
    except OSError as error:
        answer = errno.errorcode.get(error.errno, str(error))
blocked = answer == 'ENOSPC' and written <= 17 << 20
print(json.dumps({'attack': 'disk', 'checks': [{'check': 'cap', 'blocked': blocked, 'detail': '%s after %d MiB of 16' % (answer, written >> 20)}]}))
`,
    },
    judge: (end: RunEnd) => reported(end.stdout, 'disk'),
  },
};
