import type { Attack, RunEnd } from '../attack.ts';

export const artifacts: Attack = {
  id: 'artifacts',
  rule: 27,
  title: 'hostile artifacts are refused or capped',
  tries:
    'Leaves links to files outside, a FIFO, a socket, a sparse file of a terabyte, names with line breaks, and one plain file.',
  why: 'Whoever collects files for somebody else can be led to read or write the wrong ones.',
  proves: 'Only plain files of the run are kept, their names are data, and the rest is reported as refused.',
  quick: false,
  method: {
    kind: 'alone',
    spec: {
      artifacts: ['out/**'],
      code: String.raw`
import os, socket
os.makedirs('/work/out')
os.chdir('/work/out')
open('plain.txt', 'w').write('kept')
os.symlink('/etc/passwd', 'link')
os.symlink('/crucible/config', 'folder-link')
os.symlink('../../etc', 'up')
try: os.mkfifo('fifo')
except OSError: pass
try: socket.socket(socket.AF_UNIX).bind('socket')
except OSError: pass
try:
    with open('sparse', 'wb') as file: file.truncate(1 << 40)
except OSError: pass
open('line\nbreak\x1b[2J', 'w').write('name')
print('left')
`,
    },
    judge: (end: RunEnd) => {
      const kept = end.artifacts.filter(({ refused }) => refused === null);
      const foreign = kept.filter(({ path }) => /passwd|launcher|^\/|\.\.|link|fifo|socket|^up/.test(path));
      const large = kept.filter(({ size }) => size > 4 * 1024 * 1024);
      return [
        {
          check: 'plain',
          blocked: kept.some(({ path }) => path.endsWith('plain.txt')) ? true : null,
          detail: `${kept.length} kept, ${end.artifacts.length - kept.length} refused`,
        },
        {
          check: 'links',
          blocked: foreign.length === 0,
          detail: foreign.map(({ path }) => path).join(', ') || 'none followed',
        },
        { check: 'size', blocked: large.length === 0, detail: large.map(({ path }) => path).join(', ') || 'capped' },
        { check: 'verdict', blocked: end.verdict === 'Succeeded', detail: end.verdict },
      ];
    },
  },
};
