import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NAMESPACE, ok, uniqueName, type Result } from './cluster.ts';

// The plugin as people get it: packed and installed by npm, found by kubectl on the PATH, with runs in real sandboxes.

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'crucible-cli-e2e-'));
const env: Record<string, string | undefined> = { ...process.env };

const run = (file: string, args: string[], cwd = root): Promise<Result> =>
  new Promise((resolve) => {
    const child = execFile(
      file,
      args,
      { cwd, env, maxBuffer: 16 * 1024 * 1024, timeout: 170_000 },
      (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 1, stdout, stderr });
      },
    );
    child.stdin?.end();
  });
const must = async (file: string, ...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await run(file, args);
  if (code !== 0) throw new Error(`${file} ${args[0]}: ${stderr}`);
  return stdout;
};
const crucible = (...args: string[]): Promise<Result> => run('kubectl', ['crucible', ...args, '-n', NAMESPACE], folder);
const program = (name: string, code: string): string => {
  writeFileSync(join(folder, `${name}.py`), code);
  return join(folder, `${name}.py`);
};

beforeAll(async () => {
  const packed =
    (await must('npm', 'pack', '--silent', '-w', 'kubectl-crucible', '--pack-destination', folder))
      .trim()
      .split('\n')
      .at(-1) ?? '';
  await must(
    'npm',
    'install',
    '--silent',
    '--global',
    '--offline',
    '--no-audit',
    '--no-fund',
    '--prefix',
    join(folder, 'npm'),
    join(folder, packed),
  );
  env['PATH'] = `${join(folder, 'npm', 'bin')}:${process.env['PATH']}`;
  env['CRUCIBLE_SERVER'] = (await must('make', '-s', 'url')).trim();
  env['CRUCIBLE_CA_FILE'] = join(root, '.crucible', 'ca.crt');
  env['CRUCIBLE_TOKEN_FILE'] = join(folder, 'token');
  env['CRUCIBLE_PUBLIC_KEY_FILE'] = join(folder, 'public.pem');
  writeFileSync(join(folder, 'token'), await ok(['create', 'token', 'researcher', '-n', NAMESPACE, '--duration=10m']), {
    mode: 0o600,
  });
  writeFileSync(join(folder, 'public.pem'), await must('make', '-s', 'public-key'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('what npm installs is one file that needs nothing else, and the licences of what is in it', () => {
  const installed = join(folder, 'npm', 'lib', 'node_modules', 'kubectl-crucible');
  expect(
    readdirSync(installed, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => name)
      .sort(),
  ).toEqual(['LICENSES.txt', 'kubectl-crucible.js', 'package.json']);
});

test('run ends with the verdict’s exit code; output, artifacts and evidence are fetched and checked', async () => {
  const [good, bad, slow] = [uniqueName('cli'), uniqueName('cli'), uniqueName('cli')];
  const [succeeded, failed, followed] = await Promise.all([
    crucible(
      'run',
      program(
        'good',
        'import sys\nopen("out.txt", "w").write("42")\nprint("hello from the plugin")\nprint("to stderr", file=sys.stderr)',
      ),
      '--name',
      good,
      '--artifact',
      '*.txt',
    ),
    crucible('run', program('bad', 'print("before")\nraise SystemExit(7)'), '--name', bad, '-o', 'json'),
    crucible(
      'run',
      program('slow', 'import time\nfor n in range(3):\n  print("line", n, flush=True)\n  time.sleep(1)'),
      '--name',
      slow,
      '--detach',
      '-o',
      'json',
    ).then(async (detached) => {
      expect(detached, detached.stderr).toMatchObject({ code: 0, stderr: '' });
      // By its UID: it has one from the moment it is submitted, before the operator has seen it.
      return await crucible('logs', '-f', (JSON.parse(detached.stdout) as { id: string }).id);
    }),
  ]);
  expect(succeeded, succeeded.stderr).toMatchObject({
    code: 0,
    stdout: 'hello from the plugin\n',
    stderr: expect.stringContaining('to stderr\n') as string,
  });
  expect(succeeded.stderr).toMatch(/submitted\n(.*\n)*(starting|running)\n(.*\n)*Succeeded: /);
  expect(failed.code).toBe(10);
  expect(JSON.parse(failed.stdout)).toMatchObject({
    name: bad,
    verdict: { class: 'NonZeroExit', attributableTo: 'Code' },
    attempts: [{ exitCode: 7 }],
  });
  expect(followed, followed.stderr).toMatchObject({ code: 0, stdout: 'line 0\nline 1\nline 2\n', stderr: '' });

  expect(await crucible('artifacts', 'download', good, '-d', join(folder, 'artifacts'))).toMatchObject({
    code: 0,
    stderr: '',
  });
  expect(readFileSync(join(folder, 'artifacts', 'out.txt'), 'utf8')).toBe('42');
  const bundle = await crucible('bundle', good, '--file', join(folder, 'run.tar'));
  expect(bundle, bundle.stderr).toMatchObject({
    code: 0,
    stdout: expect.stringContaining(`verified, evaluation ${NAMESPACE}/${good}`) as string,
  });
  expect((await crucible('describe', bad)).stdout).toMatch(/Verdict: +NonZeroExit: .*\nBy: +Code\n(.*\n)*  Container: Error, exit code 7\n/);
  console.log(
    [succeeded.stderr, `exit code ${succeeded.code}`, `NonZeroExit: exit code ${failed.code}`, bundle.stdout].join(
      '\n',
    ),
  );
});
