import type { Attack, RunEnd } from '../attack.ts';

const TIMEOUT_SECONDS = 8;
/** Of the contract: gone by timeout + grace + 5 s. */
const GRACE_SECONDS = 5;

export const deadline: Attack = {
  id: 'deadline',
  rule: 28,
  title: 'the deadline is hard',
  tries: 'Ignores every signal, detaches twice, starts itself anew, and waits for ever.',
  why: 'What does not end holds the node, and can wait for a better moment.',
  proves: 'All of it is gone in time, and what it printed before is kept.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      timeoutSeconds: TIMEOUT_SECONDS,
      code: String.raw`
import os, signal, time
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
print('before the deadline', flush=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            if os.fork() == 0: time.sleep(600)
            time.sleep(1)
    os._exit(0)
while True: time.sleep(60)
`,
    },
    judge: (end: RunEnd) => {
      const most = TIMEOUT_SECONDS + GRACE_SECONDS + 5;
      return [
        {
          check: 'ended',
          // Whole seconds on both ends.
          blocked: end.seconds === undefined ? null : end.seconds <= most + 1,
          detail: `after ${end.seconds} s, at most ${most}`,
        },
        { check: 'verdict', blocked: end.verdict === 'TimedOut', detail: end.verdict },
        {
          check: 'output',
          // Nothing at all: on a busy node it may not have come to print.
          blocked: end.stdout === '' ? null : end.stdout.includes('before the deadline'),
          detail: 'what was printed before',
        },
      ];
    },
  },
};
