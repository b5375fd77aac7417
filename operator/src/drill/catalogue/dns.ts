import type { Attack } from '../attack.ts';

export const dns: Attack = {
  id: 'dns',
  rule: 16,
  title: 'the cluster’s DNS does not answer',
  tries: 'A query, by UDP and TCP, to the name server that the control pod is answered by.',
  why: 'DNS carries data out through resolvers that everybody forgets to close.',
  proves: 'No query from the sandbox reaches it.',
  quick: true,
  method: { kind: 'reach', group: 'dns' },
};

export const resolver: Attack = {
  id: 'resolver',
  rule: 16,
  title: 'names are not resolved',
  tries: 'To look up a name of the cluster and one that nobody has, with the system’s own resolver.',
  why: 'What resolv.conf names may be reachable although nothing else is.',
  proves: 'A look-up fails without a name server having been asked.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['cluster', 'unique', 'servers'],
    source: String.raw`
@attack('resolver')
def resolver():
    def look(name):
        try:
            return False, socket.getaddrinfo(name, 80)[0][4][0]
        except OSError as error:
            return True, error
    servers = [line.split()[1] for line in open('/etc/resolv.conf') if line.startswith('nameserver')]
    return [
        check('cluster', *look('kubernetes.default.svc.cluster.local')),
        check('unique', *look('%x.crucible-drill.invalid' % time.time_ns())),
        check('servers', all(server.startswith('127.') for server in servers), servers or 'none'),
    ]
`,
  },
};
