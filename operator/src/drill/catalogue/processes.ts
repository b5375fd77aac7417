import type { Attack } from '../attack.ts';

export const processes: Attack = {
  id: 'processes',
  rule: 14,
  title: 'only its own processes are there',
  tries: 'Lists /proc for processes that are neither the launcher nor its own.',
  why: 'A shared process tree shows arguments and environments, and lets signals through.',
  proves: 'Nothing of the node or of another pod can be seen.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['others'],
    source: String.raw`
@attack('processes')
def processes():
    def parent(pid):
        try:
            return int(open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[1])
        except (OSError, ValueError, IndexError):
            return None
    own, me = {1, os.getpid(), os.getppid()}, os.getpid()
    pids = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
    others = [pid for pid in pids if pid not in own and parent(pid) not in (me, None)]
    return [check('others', not others, '%d others of %d' % (len(others), len(pids)))]
`,
  },
};
