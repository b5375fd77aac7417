import type { Attack } from '../attack.ts';

export const identity: Attack = {
  id: 'identity',
  rule: 1,
  title: 'uid and gid are at least 10000, no group of the system',
  tries: 'To be, or to become, a user or group of the node: reads its ids, then setuid(0) and setgid(0).',
  why: 'Root in a container is root on the node for whatever escapes, and group 0 opens files of many images.',
  proves: 'The code runs as a uid and gid of its own and cannot change either.',
  quick: true,
  method: {
    kind: 'inside',
    checks: ['uid', 'gid', 'groups', 'setuid', 'setgid'],
    source: String.raw`
@attack('identity')
def identity():
    def become(change):
        try:
            change(0)
            return [False, 'allowed']
        except OSError as error:
            return [True, why(error)]
    groups = os.getgroups()
    uids, gids = os.getresuid(), os.getresgid()
    return [
        check('uid', min(uids) >= 10000, uids),
        check('gid', min(gids) >= 10000, gids),
        check('groups', all(group >= 10000 for group in groups), groups),
        check('setuid', *in_child(lambda: become(os.setuid))),
        check('setgid', *in_child(lambda: become(os.setgid))),
    ]
`,
  },
};
