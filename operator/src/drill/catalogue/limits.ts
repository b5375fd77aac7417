import type { Attack, RunEnd } from '../attack.ts';
import { reported } from '../report.ts';

export const memory: Attack = {
  id: 'memory',
  rule: 22,
  title: 'the memory limit holds',
  tries: 'To allocate and touch twice the memory it was given.',
  why: 'A node without memory ends other people’s work.',
  proves: 'The run is ended, and its verdict says why.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      memory: '64Mi',
      disk: '1Mi',
      code: String.raw`
print('begun', flush=True)
taken = [bytearray(4 << 20) for _ in range(100)]
print('allocated %d MiB' % (4 * len(taken)), flush=True)
`,
    },
    judge: (end: RunEnd) => [
      {
        check: 'ended',
        blocked: end.stdout.includes('allocated') ? false : end.verdict === 'OutOfMemory' ? true : null,
        detail: `verdict ${end.verdict}`,
      },
    ],
  },
};

export const forks: Attack = {
  id: 'forks',
  rule: 22,
  title: 'the process limit holds',
  tries: 'To start ten times as many processes as a run may have.',
  why: 'A fork bomb takes a node down.',
  proves: 'It fails with EAGAIN in the sandbox that tries, at the run’s own limit and not at the node’s.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      // Under gVisor a process of Python takes several MiB: the limit on processes is to be met before that on memory.
      memory: '1Gi',
      timeoutSeconds: 30,
      code: String.raw`
import errno, json, os, resource, signal, time
children, error = [], None
while len(children) < 1280 and error is None:
    try:
        child = os.fork()
    except OSError as refused:
        error = refused
        break
    if child == 0:
        signal.alarm(20)
        time.sleep(20)
        os._exit(0)
    children.append(child)
count = len(children)
for child in children: os.kill(child, signal.SIGKILL)
# The node's limit for a pod, which is far above, must not be taken for the run's own.
limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
blocked = error is not None and error.errno == errno.EAGAIN and count <= limit <= 1280
detail = '%s after %d processes, limit %d' % (errno.errorcode.get(error.errno) if error else 'no end', count, limit)
print(json.dumps({'attack': 'forks', 'checks': [{'check': 'refused', 'blocked': blocked, 'detail': detail}]}))
`,
    },
    judge: (end: RunEnd) => {
      const checks = reported(end.stdout, 'forks');
      // Ended without an answer: it has hurt itself only, and the limit was not shown either.
      return checks.length > 0 ? checks : [{ check: 'refused', blocked: null, detail: `the probe ended as ${end.verdict} before it said anything; try again when the machine is quieter` }];
    },
  },
};

export const spinners: Attack = {
  id: 'spinners',
  rule: 22,
  title: 'the CPU limit holds',
  tries: 'Four processes that spin for two seconds each.',
  why: 'Whoever takes every core slows down everybody else, and their verdicts.',
  proves: 'Together they got no more processor time than the run’s limit.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      code: String.raw`
import json, os, time
def spin(until):
    turns = 0
    while time.monotonic() < until: turns += 1
    return turns
# Turns of a whole core in a second: the best of some moments too short for the limit to strike. Turns and not the clock of
# processes, because gVisor counts there what a process waits for a core, too.
whole = 0
for _ in range(20):
    begun = time.monotonic()
    turns = spin(begun + 0.01)
    whole = max(whole, turns / (time.monotonic() - begun))
    time.sleep(0.05)
begun, (reads, writes) = time.monotonic(), os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.write(writes, b'%d\n' % spin(begun + 2))
        os._exit(0)
for _ in range(4): os.wait()
seconds = time.monotonic() - begun
os.close(writes)
total = sum(int(line) for line in os.fdopen(reads))
ratio = total / seconds / whole
# Half a core was asked for; the scheduler's periods make it a little more.
print(json.dumps({'attack': 'spinners', 'checks': [{'check': 'cpu', 'blocked': ratio < 0.85, 'detail': '%.2f of a core, limit 0.5' % ratio}]}))
`,
    },
    judge: (end: RunEnd) => reported(end.stdout, 'spinners'),
  },
};
