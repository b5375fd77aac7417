import type { Attack, Check, RunEnd } from '../attack.ts';
import { reported } from '../report.ts';
import { TARGETS_EXPRESSION } from '../canary.ts';

export const startWindow: Attack = {
  id: 'start-window',
  rule: 21,
  title: 'no window at the start',
  tries: 'Fresh sandboxes connect in a tight loop from their first instruction on, for three seconds.',
  why: 'Many plugins program a policy some time after the pod has started.',
  proves: 'In none of these was there a moment in which a connection was answered.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      copies: 3,
      timeoutSeconds: 30,
      code: String.raw`
import json, socket, time
begun, tries, answer = time.monotonic(), 0, None
targets = [t for t in ${TARGETS_EXPRESSION} if t['protocol'] == 'tcp' and t['group'] == 'egress']
while targets and answer is None and time.monotonic() - begun < 3:
    for target in targets:
        tries += 1
        try:
            with socket.create_connection((target['address'], target['port']), timeout=0.2) as connection:
                connection.sendall(b'GET / HTTP/1.0\r\n\r\n')
                if connection.recv(100): answer = 'answered after %.2f s' % (time.monotonic() - begun)
        except OSError:
            pass
blocked = None if not targets else answer is None
print(json.dumps({'attack': 'start-window', 'checks': [{'check': 'window', 'blocked': blocked, 'detail': answer or '%d tries' % tries}]}))
`,
    },
    judge: (end: RunEnd): Check[] => reported(end.stdout, 'start-window'),
  },
};
