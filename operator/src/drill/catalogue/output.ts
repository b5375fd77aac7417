import type { Attack, RunEnd } from '../attack.ts';

const MI = 1024 * 1024;

export const flood: Attack = {
  id: 'flood',
  rule: 24,
  title: 'a flood of output is bounded',
  tries: 'Prints 64 MiB as fast as it can.',
  why: 'Logs fill the node’s disk and the memory of whoever reads them.',
  proves: 'What is kept is capped, the status says that something was cut off, and the verdict is still right.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      timeoutSeconds: 60,
      code: String.raw`
import sys
line = 'x' * 1023 + '\n'
for _ in range(64): sys.stdout.write(line * 1024)
`,
    },
    judge: (end: RunEnd) => [
      { check: 'kept', blocked: end.storedBytes <= MI, detail: `${end.storedBytes} bytes kept` },
      { check: 'truncated', blocked: end.truncated, detail: String(end.truncated) },
      { check: 'verdict', blocked: end.verdict === 'Succeeded', detail: end.verdict },
    ],
  },
};

const FORGERY = String.raw`
import json, os, sys
frames = [
    '1 s|{"exitCode":0,"verdict":"Succeeded"}', '2 s|{"version":1,"exitCode":0}', '1 r|{"uid":0}', '3 a|{"path":"../../forged","index":0,"data":"Zm9yZ2Vk"}',
    '99999999 o|forged', '\x1b]0;forged\x07\x1b[2J', '<script>alert(1)</script>', 'x' * 16383,
]
for frame in frames: print(frame, flush=True)
# Past the launcher, if its descriptors can be opened.
for descriptor in (1, 2):
    try:
        with open('/proc/1/fd/%d' % descriptor, 'w') as stream:
            stream.write('1 s|{"exitCode":0}\n')
            print('LAUNCHER OPENED', flush=True)
    except OSError: pass
sys.exit(7)
`;

export const frames: Attack = {
  id: 'frames',
  rule: 25,
  title: 'forged frames are harmless',
  tries:
    'Prints what looks like the launcher’s own frames, terminal codes and HTML, tries the launcher’s descriptors, and exits with 7.',
  why: 'Whoever can forge a verdict needs no other escape.',
  proves: 'All of it is stored as text, and the verdict is the kubelet’s.',
  quick: false,
  method: {
    kind: 'alone',
    spec: { code: FORGERY },
    judge: (end: RunEnd) => [
      {
        check: 'verdict',
        blocked: end.verdict === 'NonZeroExit' && end.exitCode === 7,
        detail: `${end.verdict}, exit code ${end.exitCode}`,
      },
      {
        check: 'text',
        blocked: end.stdout.includes('1 s|{"exitCode":0,"verdict":"Succeeded"}') && end.stdout.includes('\x1b[2J'),
        detail: 'stored as it was printed',
      },
      { check: 'launcher', blocked: !end.stdout.includes('LAUNCHER OPENED'), detail: 'its descriptors' },
      { check: 'artifacts', blocked: end.artifacts.length === 0, detail: `${end.artifacts.length} artifacts` },
    ],
  },
};

export const terminationMessage: Attack = {
  id: 'termination-message',
  rule: 26,
  title: 'the termination message is bounded and not trusted',
  tries: 'Writes a false success into /dev/termination-log, then 64 MiB, and to replace it by a link.',
  why: 'The kubelet reads that file as root, from the node’s disk.',
  proves: 'It is no larger than the file-size limit, it stays where it is, and the verdict does not come from it.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      code: String.raw`
import errno, os, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, written, answer = '/dev/termination-log', 0, 'absent'
try:
    with open(path, 'wb', buffering=0) as file:
        file.write(b'{"verdict":"Succeeded","exitCode":0}')
        answer = 'not full'
        while written < 64 << 20: written += file.write(b'x' * (1 << 20))
except OSError as error: answer = errno.errorcode.get(error.errno, str(error))
print('wrote %d MiB: %s' % (written >> 20, answer), flush=True)
try:
    os.unlink(path); os.symlink('/etc/passwd', path)
    print('REPLACED', flush=True)
except OSError as error: print('replace: ' + errno.errorcode.get(error.errno, str(error)), flush=True)
sys.exit(5)
`,
    },
    judge: (end: RunEnd) => {
      const wrote = /wrote (\d+) MiB: (\w+)/.exec(end.stdout);
      return [
        {
          check: 'verdict',
          blocked: end.verdict === 'NonZeroExit' && end.exitCode === 5,
          detail: `${end.verdict}, exit code ${end.exitCode}`,
        },
        {
          check: 'size',
          blocked: wrote === null ? null : Number(wrote[1]) <= 16,
          detail: wrote?.[0] ?? 'nothing reported',
        },
        { check: 'replaced', blocked: !end.stdout.includes('REPLACED'), detail: 'a link in its place' },
      ];
    },
  },
};
