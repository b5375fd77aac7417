import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PHASES, VERDICT_CLASSES, evaluationSpecSchema } from '@crucible/crds';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Tools } from './command.ts';
import { downloadArtifacts } from './commands/artifacts.ts';
import { contained } from './commands/describe.ts';
import { complete } from './complete.ts';
import { ProblemError, type StartupAwareClient } from '@crucible/client';
import { exitCodeOfError, sentenceOf } from './errors.ts';
import { EXIT, VERDICT_EXIT, exitCodeOf } from './exit-codes.ts';
import { findId } from './find.ts';
import { buildProgram } from './program.ts';
import { serverUrl } from './session.ts';
import { buildSubmission, type SubmissionOptions } from './submission.ts';
import { counted } from './text.ts';
import { PHASE_RANKS, watch, type Watcher } from './watch.ts';

let folder: string;
const file = (name: string, content: string | Buffer): string => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'crucible-cli-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('every verdict has an exit code of its own, and so has everything else that can be the end', () => {
  expect(Object.keys(VERDICT_EXIT).sort()).toEqual([...VERDICT_CLASSES].sort());
  expect(Object.keys(PHASE_RANKS)).toEqual([...PHASES]);
  const codes = [...Object.values(VERDICT_EXIT), ...Object.values(EXIT).slice(1)];
  expect(new Set(codes).size).toBe(codes.length);
  expect(exitCodeOf({ verdict: { class: 'Succeeded' }, passed: null })).toBe(0);
  expect(exitCodeOf({ verdict: { class: 'Succeeded' }, passed: false })).toBe(3);
  expect(exitCodeOf({ verdict: { class: 'TimedOut' }, passed: false })).toBe(12);
  expect(exitCodeOf({ verdict: { class: 'OfTheFuture' }, passed: true })).toBe(59);
  expect(exitCodeOf({ verdict: null, passed: null })).toBe(59);
});

const place = { namespace: 'evals', explicit: false };
const build = (path: string, options: SubmissionOptions = {}, args: string[] = [], where = place) =>
  buildSubmission(path, args, options, where);

test('a file of code becomes a submission that the resource’s own schema takes', () => {
  const data = file('data.csv', 'a,b\n');
  const submission = build(
    file('My Test_1.py', 'print(1)'),
    {
      label: ['team=a', 'x='],
      env: ['SEED=1=2'],
      file: [data, `${data}=in/data.csv`],
      stdin: data,
      timeout: 5,
      cpu: '500m',
      memory: '64Mi',
      artifact: ['out/**'],
      priority: 0,
      retry: 2,
      runtimeClass: 'gvisor',
      queue: 'q',
    },
    ['--verbose', 'x'],
  );
  expect(submission).toEqual({
    metadata: { namespace: 'evals', generateName: 'my-test-1-', labels: { team: 'a', x: '' } },
    spec: {
      runtime: 'python',
      code: 'print(1)',
      args: ['--verbose', 'x'],
      env: [{ name: 'SEED', value: '1=2' }],
      files: [
        { path: 'data.csv', content: 'a,b\n' },
        { path: 'in/data.csv', content: 'a,b\n' },
      ],
      stdin: 'a,b\n',
      timeoutSeconds: 5,
      resources: { cpu: '500m', memory: '64Mi' },
      isolation: { runtimeClassName: 'gvisor' },
      artifacts: { paths: ['out/**'] },
      priority: 0,
      retry: { limit: 2 },
      queue: 'q',
    },
  });
  expect(evaluationSpecSchema.safeParse(submission.spec).success).toBe(true);
  expect(build(file('x.mjs', '1')).spec.runtime).toBe('node');
  expect(build(file('---.sh', ':'), { name: 'mine' })).toMatchObject({
    metadata: { name: 'mine' },
    spec: { runtime: 'bash' },
  });
  expect(build(file('###.sh', ':')).metadata.generateName).toBe('eval-');
});

test('a manifest is sent as it is; what it cannot say twice is refused', () => {
  const manifest = file(
    'eval.yaml',
    'apiVersion: crucible.dev/v1alpha1\nkind: Evaluation\nmetadata: {name: a, namespace: other}\nspec: {runtime: python, code: x, unknown: 1}\nstatus: {}\n',
  );
  expect(build(manifest, { name: 'b' })).toEqual({
    apiVersion: 'crucible.dev/v1alpha1',
    kind: 'Evaluation',
    metadata: { name: 'b', namespace: 'other' },
    spec: { runtime: 'python', code: 'x', unknown: 1 },
  });
  expect(() => build(manifest, {}, [], { namespace: 'evals', explicit: true })).toThrow(
    'is for the namespace other, and --namespace says evals',
  );
  expect(() => build(manifest, { timeout: 3 })).toThrow('only --name goes with it');
  expect(() => build(file('two.yaml', 'a: 1\n---\nb: 2\n'))).toThrow('has 2 documents');
  expect(() => build(file('bad.yaml', 'a: [1\n'))).toThrow('is not YAML');
  expect(() => build(file('job.yaml', 'kind: Job'))).toThrow('its kind is "Job"');
  expect(() => build(file('null.json', 'null'))).toThrow('its kind is missing');
});

test('what cannot be sent is said before anything is', () => {
  expect(() => build(file('bytes.py', Buffer.from([0xff])))).toThrow('is not text in UTF-8');
  expect(() => build(join(folder, 'missing.py'))).toThrow(/cannot be read: ENOENT/);
  expect(() => build(file('x.rb', 'x'))).toThrow('Give --runtime');
  expect(() => build(file('empty.py', ''))).toThrow('is empty');
  expect(() => build(file('x.py', 'x'), { env: ['SEED'] })).toThrow('--env "SEED": NAME=VALUE is expected');
  for (const bad of ['', 'crucible', 'ftp://x', 'http://crucible.example.com', 'https://u:p@x', 'https://x/?a'])
    expect(() => serverUrl(bad), bad).toThrow();
  expect([serverUrl('https://x:8443/'), serverUrl('http://127.0.0.1:8080'), serverUrl('http://[::1]:1/base/')]).toEqual(
    ['https://x:8443', 'http://127.0.0.1:8080', 'http://[::1]:1/base'],
  );
});

const problemOf = (status: number, detail: string, errors?: { field: string; message: string }[]) =>
  new ProblemError({ type: '', title: '', status, detail, ...(errors && { errors }) });

test('what the server finds wrong is said once, is wrong usage, and names a remedy once', () => {
  const errors = [1, 2].map((at) => ({ field: `body.f${at}`, message: `must be ${at}` }));
  const invalid = problemOf(400, 'the request is not valid: body.f1: must be 1', errors);
  const sources = { token: 'x' };
  expect(sentenceOf(invalid, sources)).toBe('the request is not valid: body.f1: must be 1\n  body.f2: must be 2');
  expect([400, 422, 403, 404, 500].map((status) => exitCodeOfError(problemOf(status, '')))).toEqual([2, 2, 1, 1, 1]);
  const namespace = { name: 'default', source: 'neither names one' };
  const denied = sentenceOf(problemOf(403, 'you may not create in "default"'), { ...sources, namespace });
  expect(denied).toMatch(/^not allowed: you may not create in "default"; the ClusterRole crucible-researcher .*; neither names one$/);
  const named = sentenceOf(problemOf(403, 'ask for crucible-researcher in "other"'), { ...sources, namespace });
  expect(named).toBe('not allowed: ask for crucible-researcher in "other"');
});

test('downloading what was refused when the run ended is no failure, unless it is asked for', async () => {
  const said: string[] = [];
  const refused = { attempt: 1, index: 0, path: 'link', size: 0, refused: 'Symlink', complete: true, sha256: null, deletedAt: null };
  const printer = { line: (text: string) => void said.push(text) };
  const session = { namespace: async () => 'evals', client: async () => ({ artifacts: async () => [refused] }) };
  const signal = new AbortController().signal;
  const tools = { session, options: {}, stdout: printer, stderr: printer, signal, now: Date.now } as unknown as Tools;
  const uid = '0b9d6c1e-7a53-4f0e-9c63-5f5d1c6f1a01';
  expect(await downloadArtifacts(tools, [uid], { directory: folder })).toBe(0);
  expect(await downloadArtifacts(tools, [uid, 'link'], { directory: folder })).toBe(1);
  expect(said).toEqual(['link: refused: Symlink', 'link: not there: refused: Symlink']);
});

test('a receipt is told as its condition is; numbers are told in words that fit', () => {
  expect(contained(null)).toBeNull();
  expect(contained({ sandbox: null, mismatches: [] })).toMatch(/^Unknown/);
  const rules = [{ rule: 'uid' }, { rule: 'caps' }, { rule: 'uid' }];
  expect(contained({ sandbox: {}, mismatches: rules, acceptedRisks: [] })).toMatch(/^False: .*: uid, caps$/);
  expect(contained({ sandbox: {}, mismatches: [], acceptedRisks: [{}] })).toBe('True, with accepted risks');
  expect(contained({ sandbox: {}, mismatches: [], acceptedRisks: [] })).toBe('True: as measured');
  expect([0, 1, 2].map((each) => counted(each, 'line'))).toEqual(['0 lines', '1 line', '2 lines']);
});

test('what is submitted and not recorded has a name, and what is refused is not waited for', async () => {
  const id = '0b9d6c1e-7a53-4f0e-9c63-5f5d1c6f1a01';
  const item = { uid: id, name: 'mine', stage: 'Submitted' };
  const refused = { id, finished: false, refused: true, phase: 'Queued', queueReason: 'RuntimeNotFound', queueMessage: 'none' };
  const client = {
    list: async () => ({ items: [] }),
    queue: async () => ({ items: [{ ...item, uid: 'other', stage: 'Queued' }, item, { ...item, name: 'mine-2', uid: 'x' }] }),
    status: async () => refused,
    evaluation: async () => Promise.reject(problemOf(404, 'not recorded')),
    events: async function* () {},
  } as unknown as StartupAwareClient;
  const { signal } = new AbortController();
  expect(await findId(client, 'evaluation/mine', 'evals', signal)).toBe(id);
  await expect(findId(client, 'yours', 'evals', signal)).rejects.toThrow('there is no evaluation "yours"');
  const end = watch(client, id, {} as Watcher, { streams: [], signal: AbortSignal.timeout(20_000) });
  await expect(end).rejects.toMatchObject({ exitCode: 32, message: expect.stringContaining('not accepted: RuntimeNotFound: none') as string });
});

test('completion knows commands, options, their values, and evaluations', async () => {
  const asked: object[] = [];
  const names = async (options: object) => {
    asked.push(options);
    return ['hello\tSucceeded', 'he\x1bllo\tFailed', 'other\tRunning'];
  };
  const program = buildProgram(async () => undefined);
  const of = async (...words: string[]) => await complete(program, words, names);
  expect((await of('')).candidates.map((line) => line.split('\t')[0])).toEqual([
    'run',
    'logs',
    'get',
    'describe',
    'cancel',
    'artifacts',
    'bundle',
    'verify',
    'plan',
    'completion',
  ]);
  expect((await of('artifacts', 'd')).candidates).toEqual([expect.stringMatching(/^download\t/) as string]);
  expect((await of('logs', '--st')).candidates).toEqual(['--stream\twhich']);
  expect((await of('logs', '--stream', 's')).candidates).toEqual(['stdout', 'stderr']);
  expect(await of('run', '')).toEqual({ candidates: [], directive: 0 });
  expect((await of('-n', 'evals', 'cancel', 'x', '--context=c', 'he')).candidates).toEqual([
    'hello\tSucceeded',
    'he^[llo\tFailed',
  ]);
  expect(asked).toEqual([{ namespace: 'evals', context: 'c' }]);
  expect(await of('describe', 'x', '')).toEqual({ candidates: [], directive: 4 });
});
