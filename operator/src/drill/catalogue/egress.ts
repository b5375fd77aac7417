import type { Attack } from '../attack.ts';

export const egress: Attack = {
  id: 'egress',
  rule: 15,
  title: 'no egress: TCP, UDP, IPv6',
  tries: 'TCP and UDP, at every address it has, to a listener that the control pod is answered by at that moment.',
  why: 'Results, prompts and credentials leave by the network, and orders come in by it.',
  proves: 'The network plugin enforces the default-deny policy for this sandbox, on this cluster, now.',
  quick: true,
  method: { kind: 'reach', group: 'egress' },
};

export const otherProtocols: Attack = {
  id: 'other-protocols',
  rule: 15,
  title: 'no egress: ICMP, multicast',
  tries: 'A ping socket, and a datagram to every host on the link (mDNS); reads which IPv6 addresses there are.',
  why: 'Policies are written for TCP and UDP, and some plugins enforce nothing else.',
  proves: 'ICMP cannot be sent at all, and nobody answers a multicast.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['icmp', 'multicast', 'ipv6'],
    source: String.raw`
@attack('other-protocols')
def other_protocols():
    def icmp():
        for family, protocol in ((socket.AF_INET, 1), (socket.AF_INET6, 58)):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
                try:
                    socket.socket(family, kind, protocol).close()
                    return False, 'a socket for it is allowed'
                except OSError as error:
                    answer = why(error)
        return True, answer
    def multicast():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
            connection.settimeout(2)
            try:
                connection.sendto(query(), ('224.0.0.251', 5353))
                return False, 'answered by %s' % (connection.recvfrom(512)[1],)
            except OSError as error:
                return True, why(error)
    # That a sandbox has such an address says nothing; that none of them could be tried must be said.
    def ipv6():
        try:
            lines = [line.split() for line in open('/proc/net/if_inet6')]
        except OSError:
            lines = []
        # By the address itself: gVisor calls every scope global.
        own = [line[0] for line in lines if line[5] != 'lo' and not line[0].startswith(('fe8', 'fe9', 'fea', 'feb'))]
        tried = [target for target in TARGETS if target['group'] == 'egress' and ':' in target['address']]
        if own and not tried: return None, 'the sandbox has a global IPv6 address, and no control answered on IPv6'
        return True, 'tried' if tried else 'no global address'
    return [check('icmp', *icmp()), check('multicast', *multicast()), check('ipv6', *ipv6())]
`,
  },
};
