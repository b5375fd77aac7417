import type { Attack } from '../attack.ts';

export const sockets: Attack = {
  id: 'sockets',
  rule: 6,
  title: 'raw, packet, crypto and VM sockets are refused',
  tries:
    'socket() alone for AF_PACKET, AF_ALG, AF_VSOCK, raw ICMP, netlink beyond routes. Nothing is sent or connected.',
  why: 'They reach past the pod’s network policy (packet, VM) or into little-tested kernel code (crypto).',
  proves: 'The calls themselves are refused.',
  quick: false,
  method: {
    kind: 'inside',
    checks: ['packet', 'alg', 'vsock', 'raw', 'netlink'],
    source: String.raw`
@attack('sockets')
def sockets():
    kinds = {
        'packet': (17, socket.SOCK_DGRAM, 0), 'alg': (38, socket.SOCK_SEQPACKET, 0), 'vsock': (40, socket.SOCK_STREAM, 0),
        'raw': (socket.AF_INET, socket.SOCK_RAW, 1), 'netlink': (16, socket.SOCK_RAW, 12),
    }
    results = []
    for name, kind in kinds.items():
        try:
            socket.socket(*kind).close()
            results.append(check(name, False, 'allowed'))
        except OSError as error:
            results.append(check(name, True, why(error)))
    return results
`,
  },
};
