import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { skip } from '../../../test/skip.ts';
import { buildCli } from '../build.ts';

// The plugin as it is packed, in the shells that it has scripts for. CI's machines have bash; the others run where they are.

let folder: string;
let path: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'crucible-shells-'));
  mkdirSync(join(folder, 'bin'));
  await buildCli(join(folder, 'bin', 'kubectl-crucible'));
  // Without a name that ends in .js or .mjs Node looks at what is inside, or at this.
  writeFileSync(join(folder, 'bin', 'package.json'), '{"type":"module"}');
  path = [join(folder, 'bin'), dirname(process.execPath), process.env['PATH'] ?? ''].join(':');
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const has = (shell: string): boolean => spawnSync(shell, ['--version']).status === 0;
const script = (shell: string): string => execFileSync('kubectl-crucible', ['completion', shell], { env: { PATH: path, HOME: folder }, encoding: 'utf8' });

/** What a shell offers, told by its own means after it has read the script. */
const SHELLS: [shell: string, args: string[], ask: string][] = [
  ['bash', ['--norc', '-c'], 'COMP_WORDS=(kubectl-crucible artifacts d); COMP_CWORD=2; _kubectl_crucible; printf "%s\\n" "${COMPREPLY[@]}"'],
  ['zsh', ['-f', '-c'], 'words=(kubectl-crucible artifacts d); CURRENT=3; _kubectl_crucible'],
  ['fish', ['--no-config', '-c'], 'complete -C "kubectl-crucible artifacts d"'],
];
/** What zsh's own completion system would have defined. */
const BEFORE: Record<string, string> = { zsh: 'compdef() { : }; _files() { print files }; _describe() { print -l -- ${(P)2} };' };

for (const [shell, args, ask] of SHELLS)
  test(`${shell} completes with the script for it`, (context) => {
    if (!has(shell)) return skip(context, `${shell} is not installed here`);
    const text = `${BEFORE[shell] ?? ''}\n${script(shell)}\n${ask}`;
    const found = execFileSync(shell, [...args, text], { env: { PATH: path, HOME: folder, TERM: 'dumb' }, encoding: 'utf8' });
    expect(found.split('\n').map((line) => /^\w+/.exec(line)?.[0]).filter((word) => word !== undefined)).toEqual(['download']);
  });

test('the scripts for shells that are not here are about the program by its name, and ask it', () => {
  for (const shell of ['bash', 'zsh', 'fish']) expect(script(shell)).toMatch(/kubectl-crucible __complete /);
});

test('the licences of all that is in the package are in it, in their own words', () => {
  const { files } = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8')) as { files: string[] };
  expect(files).toContain('dist/LICENSES.txt');
  const texts = readFileSync(join(folder, 'bin', 'LICENSES.txt'), 'utf8');
  for (const name of ['commander', 'yaml', 'openapi-fetch'])
    expect(texts).toContain(readFileSync(join(import.meta.dirname, '../../../node_modules', name, 'LICENSE'), 'utf8').trim());
  expect(texts).toContain('Apache License');
});
