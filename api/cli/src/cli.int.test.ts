import { createHash, randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { SubmissionRepository, findOwner } from '@crucible/storage';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { World, newUid } from '../../src/testing/world.ts';
import { makeCertificate, type ApiProcess } from '../../src/testing/process.ts';
import { testServer } from '../../../test/integration/environment.ts';
import { Plugin } from './testing/plugin.ts';

// Several processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

// The plugin as it is installed, against the built API and real servers; the record is written as operator and recorder would.

let world: World;
let api: ApiProcess;
let writer: string;
let plugin: Plugin;
let at: string;

beforeAll(async () => {
  world = await World.start();
  [api, writer] = await Promise.all([world.api(), world.cluster.person('writer', 'writer', world.cluster.evals)]);
  at = `https://127.0.0.1:${api.port}`;
  plugin = await Plugin.install(world.folder, {
    CRUCIBLE_SERVER: at,
    CRUCIBLE_CA_FILE: world.tls.cert,
    CRUCIBLE_TOKEN: writer,
  });
  writeFileSync(
    join(world.folder, 'public.pem'),
    execFileSync('openssl', ['pkey', '-pubout', '-in', join(world.folder, 'signing-key.pem')]),
  );
  writeFileSync(join(world.folder, 'hello.py'), 'print("hello")');
});
afterAll(() => world?.stop());

const inNamespace = (...args: string[]): string[] => [...args, '-n', world.cluster.evals];
const submit = (name: string, ...more: string[]): string[] =>
  inNamespace('run', join(world.folder, 'hello.py'), '--runtime', world.cluster.runtime, '--name', name, ...more);
/** Every byte there is, and what a terminal would obey. */
const HOSTILE = Buffer.concat([
  Buffer.from('\x1b]0;owned\x07\x1b[2Jwiped\r\nbidi \u202e!\n'),
  Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
  Buffer.from('\n'),
]);
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202e]/;

async function uidOf(name: string): Promise<string> {
  const path = `/apis/crucible.dev/v1alpha1/namespaces/${world.cluster.evals}/evaluations/${name}`;
  return await vi.waitFor(async () => (await world.cluster.must('GET', path))['metadata'].uid as string, {
    timeout: 60_000,
    interval: 50,
  });
}

test('run submits, shows what it waits for and every byte of output across a restart of the API, and ends with the verdict', async () => {
  const own = await world.api();
  const name = `run-${newUid().slice(0, 8)}`;
  const started = plugin.start(submit(name), { CRUCIBLE_SERVER: `https://127.0.0.1:${own.port}` });
  const uid = await uidOf(name);
  await started.says('queued');
  const run = await world.record.running({ uid, name });
  const pieces = [HOSTILE, randomBytes(50_000), Buffer.from('the end, without a newline')] as const;
  await world.record.append(run, pieces[0], 0);
  await started.says('wiped');
  await own.stop();
  await world.record.append(run, pieces[1], 1);
  await started.says('waiting for https://127.0.0.1');
  const again = await world.api({ PORT: String(own.port) });
  await world.record.append(run, pieces[2], 2);
  await started.says('without a newline');
  await world.record.finish(run, Buffer.concat(pieces), 3, { 'out.txt': Buffer.from('42') });
  const { code, stdout, stderr } = await started.ended;
  expect(stdout.equals(Buffer.concat(pieces))).toBe(true);
  expect(stderr).toContain(`evaluation ${world.cluster.evals}/${name} submitted`);
  expect(stderr).toMatch(/Succeeded: It ended with exit code 0\./);
  expect(stderr).toContain('1 artifact, 2 B');
  expect(code).toBe(0);
  await again.stop();
});

test('what is not accepted ends the waiting with a code of its own, and is known by its name', async () => {
  const name = `refused-${newUid().slice(0, 8)}`;
  const started = plugin.start(submit(name));
  const uid = await uidOf(name);
  await started.says('queued');
  const why = { reason: 'RuntimeNotFound', message: 'There is no such runtime.' };
  await new SubmissionRepository(world.database).tell({ ...(await findOwner(world.database, uid))!, createdAt: new Date(), ...why, refused: true });
  const { code, stderr } = await started.ended;
  expect([code, stderr]).toEqual([32, expect.stringContaining(`not accepted: RuntimeNotFound: ${why.message}`)]);
  expect((await plugin.run(inNamespace('logs', '-f', name))).code).toBe(32);
  const described = await plugin.run(inNamespace('describe', name));
  expect([described.code, described.stderr]).toEqual([1, expect.stringContaining(`RuntimeNotFound: ${why.message}`)]);
  expect(await plugin.run(inNamespace('cancel', name))).toMatchObject({ code: 0, stderr: '' });
});

test('it waits while the API starts, and says what for', async () => {
  await world.database.query('ALTER TABLE crucible.schema_migrations RENAME TO schema_migrations_away');
  try {
    const early = await world.launch();
    const started = plugin.start(inNamespace('get'), { CRUCIBLE_SERVER: `https://127.0.0.1:${early.port}` });
    await started.says('Crucible is starting: the database is not migrated yet');
    await world.database.query('ALTER TABLE crucible.schema_migrations_away RENAME TO schema_migrations');
    expect((await started.ended).code).toBe(0);
    await early.stop();
  } finally {
    await world.database.query('ALTER TABLE IF EXISTS crucible.schema_migrations_away RENAME TO schema_migrations');
  }
});

test('a terminal is shown what it must not obey; a pipe gets the bytes', async () => {
  const run = await world.record.finished({ stdout: HOSTILE, artifacts: { '\x1b[31mred\n': Buffer.from('x') } });
  const piped = await plugin.run(inNamespace('logs', run.name));
  expect([piped.code, piped.stdout.equals(HOSTILE)]).toEqual([0, true]);
  for (const command of [
    ['logs', run.name],
    ['logs', '-f', run.name],
    ['artifacts', 'list', run.name],
    ['describe', run.name],
    ['describe', run.uid, '-o', 'json'],
  ]) {
    const shown = (await plugin.onTerminal(inNamespace(...command))).stdout.toString();
    expect(shown, command.join(' ')).not.toMatch(CONTROLS);
    expect(shown).toContain(
      command[0] === 'logs' ? '^[]0;owned^G^[[2Jwiped' : command.includes('json') ? run.uid : '^[[31mred\\n',
    );
  }
});

test('logs -f follows to the end; a run that is left says how to come back to it', async () => {
  const run = await world.record.running();
  const started = plugin.start(inNamespace('logs', '-f', `evaluation/${run.name}`, '--stream', 'stdout'));
  await world.record.append(run, Buffer.from('one\n'), 0);
  await started.says('one');
  await world.record.append(run, Buffer.from('two\n'), 1);
  await started.says('two');
  await world.record.finish(run, Buffer.from('one\ntwo\n'), 2);
  expect(await started.ended).toMatchObject({ code: 0, stdout: Buffer.from('one\ntwo\n'), stderr: '' });

  const name = `left-${newUid().slice(0, 8)}`;
  const left = plugin.start(submit(name));
  await left.says('queued');
  left.kill('SIGINT');
  const { code, stderr } = await left.ended;
  expect(code).toBe(130);
  expect(stderr).toContain(`kubectl crucible cancel -n ${world.cluster.evals} ${name}`);
  const cancelled = await plugin.run(inNamespace('cancel', await uidOf(name)));
  expect(cancelled).toMatchObject({ code: 0, stderr: '' });
  expect(
    (
      await world.cluster.must(
        'GET',
        `/apis/crucible.dev/v1alpha1/namespaces/${world.cluster.evals}/evaluations/${name}`,
      )
    )['spec'].cancel,
  ).toBe(true);
});

test('artifacts stay below the folder whatever they are called, are checked, and overwrite nothing', async () => {
  const artifacts = {
    'out/a b.txt': Buffer.from('one'),
    '../../etc/passwd': Buffer.from('two'),
    '/abs': randomBytes(100_000),
    '..': Buffer.from('up'),
    'A/x': Buffer.from('3'),
    a: Buffer.from('4'),
    'ü"\r\n\x1b[2J': Buffer.from('5'),
    'link/x': Buffer.from('6'),
  };
  const run = await world.record.finished({ artifacts });
  const parent = join(world.folder, 'downloads');
  const folder = join(parent, 'here');
  mkdirSync(folder, { recursive: true });
  mkdirSync(join(parent, 'outside'));
  symlinkSync(join(parent, 'outside'), join(folder, 'link'));
  const { code, stdout, stderr } = await plugin.run(inNamespace('artifacts', 'download', run.name, '-d', folder));
  expect(code).toBe(1);
  expect(stderr).toContain('link is in the way: a folder is needed there');
  expect(stderr).toContain('..: an artifact called .. has no address of its own');
  expect(stdout.toString()).not.toMatch(CONTROLS);
  expect(readdirSync(parent).sort()).toEqual(['here', 'outside']);
  expect(readdirSync(join(parent, 'outside'))).toEqual([]);
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const contents = new Set(files.map((file) => createHash('sha256').update(readFileSync(file)).digest('hex')));
  expect(contents).toEqual(
    new Set(
      Object.entries(artifacts)
        .filter(([path]) => path !== '..' && path !== 'link/x')
        .map(([, content]) => createHash('sha256').update(content).digest('hex')),
    ),
  );
  expect(readFileSync(join(folder, '%2E%2E/%2E%2E/etc/passwd'), 'utf8')).toBe('two');
  const again = await plugin.run(inNamespace('artifacts', 'download', run.name, 'out/a b.txt', '-d', folder));
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('exists: --overwrite replaces it')]);
  expect(
    (
      await plugin.run(
        inNamespace('artifacts', 'download', run.name, 'out/a b.txt', '-d', folder, '--overwrite', '-o', 'json'),
      )
    ).code,
  ).toBe(0);
  // Changed in the store: found by its hash, and the file that is there stays.
  const sha256 = createHash('sha256').update('one').digest('hex');
  const stored = readdirSync(join(world.folder, 'files'), { recursive: true, withFileTypes: true }).find(
    (entry) =>
      entry.isFile() &&
      (entry.name.includes(sha256) || join(entry.parentPath, entry.name).replaceAll('/', '').includes(sha256)),
  );
  const path = join(stored?.parentPath ?? '', stored?.name ?? '');
  chmodSync(path, 0o644);
  writeFileSync(path, 'bad');
  expect(
    (await plugin.run(inNamespace('artifacts', 'download', run.name, 'out/a b.txt', '-d', folder, '--overwrite'))).code,
  ).toBe(1);
  expect(readFileSync(join(folder, 'out/a b.txt'), 'utf8')).toBe('one');
});

test('a bundle is kept when it is as it was signed, and can be checked again without a server', async () => {
  const run = await world.record.finished({ artifacts: { a: Buffer.from('x') } });
  const [key, other, file] = ['public.pem', 'other.pem', 'run.tar'].map((name) => join(world.folder, name)) as [
    string,
    string,
    string,
  ];
  execFileSync('bash', ['-c', 'openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out "$1"', '_', other]);
  const wrong = await plugin.run(inNamespace('bundle', run.name, '-f', file, '--public-key', other));
  expect([wrong.code, wrong.stderr, existsSync(file)]).toEqual([
    1,
    expect.stringContaining('the bundle is not genuine: the signature is not one of'),
    false,
  ]);
  const good = await plugin.run(inNamespace('bundle', run.name, '-f', file, '-o', 'json'), {
    CRUCIBLE_PUBLIC_KEY_FILE: key,
  });
  expect(good.stderr).toBe('');
  expect(JSON.parse(good.stdout.toString())).toMatchObject({ file, verified: true, evaluation: { uid: run.uid } });
  const offline = { CRUCIBLE_SERVER: '', CRUCIBLE_TOKEN: '' };
  expect(await plugin.run(['verify', file, '--public-key', key], offline)).toMatchObject({ code: 0, stderr: '' });
  const data = readFileSync(file);
  data[data.length >> 1]! ^= 1;
  writeFileSync(file, data);
  expect((await plugin.run(['verify', file, '--public-key', key], offline)).code).toBe(1);
  expect((await plugin.run(inNamespace('bundle', run.name, '-f', file))).code).toBe(2);
});

test('get, describe and plan tell what the record and the cluster know', async () => {
  const label = `l${newUid().slice(0, 8)}`;
  const run = await world.record.finished({ labels: { label } });
  const { uid, name } = run;
  await world.record.told(run, 'Started', '\x1b[2Jcontainer');
  const list = (await plugin.run(inNamespace('get', '-l', `label=${label}`, '-o', 'wide'))).stdout.toString();
  expect(list).toMatch(
    new RegExp(
      `^NAME +PHASE +VERDICT +EXIT +PASSED +ATTEMPTS +DURATION +AGE +UID\n${name} +Succeeded +Succeeded +0 +1 +0s +\\d+s +${uid}\n$`,
    ),
  );
  expect(JSON.parse((await plugin.run(inNamespace('get', name, '-o', 'json'))).stdout.toString())).toMatchObject({
    uid,
    phase: 'Succeeded',
  });
  expect((await plugin.run(inNamespace('get', '-l', 'label=nothing'))).stderr).toBe(
    `no evaluations found in the namespace ${world.cluster.evals}\n`,
  );
  const described = (await plugin.run(inNamespace('describe', name))).stdout.toString();
  const late = await plugin.run(inNamespace('cancel', name));
  expect([late.code, late.stdout.toString()]).toEqual([
    0,
    `evaluation ${name}: it had already finished (Succeeded): there is nothing to cancel\n`,
  ]);
  for (const text of [`UID: `, 'Attempt 1:', 'Captured:', 'complete', 'Timeline:', 'It finished: Succeeded', '   kubernetes   kubelet told of its pod: Started: ^[[2Jcontainer (2 times'])
    expect(described).toContain(text);
  const planned = await plugin.run(
    inNamespace('plan', join(world.folder, 'hello.py'), '--runtime', world.cluster.runtime),
  );
  expect([planned.code, planned.stdout.toString()]).toEqual([
    0,
    expect.stringMatching(/^would be admitted\n(.*\n)*queue: at most position/),
  ]);
  const refused = await plugin.run(inNamespace('plan', join(world.folder, 'hello.py'), '--runtime', 'cobol'));
  expect([refused.code, refused.stdout.toString()]).toEqual([
    1,
    expect.stringContaining('would be refused: RuntimeNotFound'),
  ]);
  const detached = await plugin.run(submit(`d-${newUid().slice(0, 8)}`, '--detach', '-o', 'json'));
  expect(JSON.parse(detached.stdout.toString())).toMatchObject({
    id: expect.any(String) as string,
    statusUrl: expect.any(String) as string,
  });
});

test('what is wrong is said in one sentence, with what to do', async () => {
  const stranger = createServer(
    {
      cert: readFileSync(makeCertificate(mkdir('stranger')).cert),
      key: readFileSync(join(world.folder, 'stranger', 'tls.key')),
    },
    (_, response) => void response.writeHead(418).end('tea'),
  );
  await new Promise<void>((done) => stranger.listen(0, '127.0.0.1', done));
  const strange = `https://127.0.0.1:${(stranger.address() as AddressInfo).port}`;
  const cases: [string[], Record<string, string>, number, string | RegExp][] = [
    [['get'], { CRUCIBLE_SERVER: '' }, 2, 'where is Crucible? Give --server https://… or CRUCIBLE_SERVER'],
    [['get', '--server', 'http://crucible.example.com'], {}, 2, 'is not encrypted'],
    [['get', '--server', strange], {}, 1, /its certificate is not one that is trusted.*--ca-file/],
    [
      ['get', '--server', strange, '--ca-file', join(world.folder, 'stranger', 'tls.crt')],
      {},
      1,
      'is this Crucible’s API?',
    ],
    [['get', '--ca-file', join(world.folder, 'hello.py')], {}, 1, 'there is no certificate in'],
    [['get', '--server', 'https://nowhere.invalid'], {}, 1, /check --server or CRUCIBLE_SERVER/],
    [['get'], { CRUCIBLE_TOKEN: 'expired' }, 1, /^error: not signed in: .*\(the token came from CRUCIBLE_TOKEN\)/],
    [['get', '--token-file', join(world.folder, 'missing')], {}, 1, 'the token file cannot be read'],
    [['get', '-n', 'Bad_Name'], {}, 2, 'is not the name of a namespace'],
    [['get', '-n', world.cluster.other], {}, 1, /^error: not allowed: .*crucible-researcher/],
    [['logs', 'no-such-run'], {}, 1, 'there is no evaluation "no-such-run"'],
    [['describe', newUid()], {}, 1, /^error: /],
    [['run', join(world.folder, 'missing.py')], {}, 2, 'cannot be read'],
    [['run', join(world.folder, 'hello.py'), '--timeout', '999999999'], {}, 2, /^(?![^]*timeoutSeconds[^]*timeoutSeconds:).*timeoutSeconds/],
    [['run', join(world.folder, 'hello.py'), '--memory', 'lots', '--runtime', 'x'], {}, 2, /resources.memory/],
    [['verify', join(world.folder, 'none.tar'), '--public-key', join(world.folder, 'public.pem')], {}, 2, 'the bundle cannot be read'],
    [['verify', join(world.folder, 'hello.py'), '--public-key', join(world.folder, 'hello.py')], {}, 2, 'no public key'],
    [['verify', join(world.folder, 'hello.py')], {}, 2, /is needed: [^;]*$/],
    [['run'], {}, 2, "missing required argument 'file'"],
    [['frobnicate'], {}, 2, 'unknown command'],
    [['logs', 'x', '--attempt', '-1'], {}, 2, 'a whole number of at least 1'],
  ];
  for (const [args, env, code, text] of cases) {
    const ended = await plugin.run(args.includes('-n') ? args : inNamespace(...args), env);
    expect(ended.stderr, args.join(' ')).toMatch(text);
    expect([ended.code, ended.stdout.length, ended.stderr.includes(writer)], args.join(' ')).toEqual([code, 0, false]);
    expect(ended.stderr).not.toMatch(/\n\s+at /);
  }
  stranger.close();
});

const mkdir = (name: string): string => {
  mkdirSync(join(world.folder, name), { recursive: true });
  return join(world.folder, name);
};

test('kubectl finds it on the PATH and completes it; context, namespace and token are the kubeconfig’s', async () => {
  const run = await world.record.finished();
  const config = JSON.parse(readFileSync(testServer('CRUCIBLE_TEST_KUBECONFIG'), 'utf8')) as {
    clusters: { name: string }[];
    users: object[];
    contexts: object[];
    'current-context': string;
  };
  const cluster = config.clusters[0]?.name;
  const helper = join(world.folder, 'helper');
  const credential = {
    apiVersion: 'client.authentication.k8s.io/v1',
    kind: 'ExecCredential',
    status: { token: writer },
  };
  writeFileSync(
    helper,
    `#!/bin/sh\n[ "$WHO" = me ] && [ -n "$KUBERNETES_EXEC_INFO" ] && cat <<'E'\n${JSON.stringify(credential)}\nE\n`,
    { mode: 0o755 },
  );
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: helper,
    env: [{ name: 'WHO', value: 'me' }],
    interactiveMode: 'IfAvailable',
  };
  config.users = [
    { name: 'exec', user: { exec } },
    { name: 'token', user: { token: writer } },
    { name: 'certificate', user: { 'client-certificate-data': 'eA==' } },
  ];
  config.contexts = ['exec', 'token', 'certificate'].map((user) => ({
    name: user,
    context: { cluster, user, namespace: world.cluster.evals },
  }));
  config['current-context'] = 'exec';
  const kubeconfig = join(world.folder, 'people');
  writeFileSync(kubeconfig, JSON.stringify(config), { mode: 0o600 });
  const env = { KUBECONFIG: kubeconfig, CRUCIBLE_TOKEN: '' };
  for (const context of [[], ['--context', 'token']]) {
    const ended = await plugin.kubectl(['crucible', 'get', run.name, '-o', 'name', ...context], env);
    expect(ended).toMatchObject({ code: 0, stdout: Buffer.from(`evaluation.crucible.dev/${run.name}\n`), stderr: '' });
  }
  const certificate = await plugin.kubectl(['crucible', 'get', '--context', 'certificate'], env);
  expect([certificate.code, certificate.stderr]).toEqual([
    1,
    expect.stringContaining(
      'has a client certificate, which proves nothing to Crucible’s API: give --service-account NAME',
    ),
  ]);
  expect((await plugin.kubectl(['crucible', 'get', '--context', 'missing'], env)).stderr).toContain(
    'the kubeconfig cannot be read',
  );
  const account = await plugin.kubectl(
    [
      'crucible',
      'get',
      run.name,
      '-o',
      'name',
      '--service-account',
      `${world.cluster.system}/writer`,
      '-n',
      world.cluster.evals,
    ],
    { KUBECONFIG: testServer('CRUCIBLE_TEST_KUBECONFIG'), CRUCIBLE_TOKEN: '' },
  );
  expect(account).toMatchObject({ code: 0, stderr: '' });
  const completed = await plugin.kubectl(['__complete', 'crucible', 'logs', run.name.slice(0, 6)], env);
  expect(completed.stdout.toString()).toContain(`${run.name}\tSucceeded\n:4`);
  const script = (await plugin.run(['completion', 'bash'])).stdout.toString();
  const typed = `${script}\nCOMP_WORDS=(kubectl-crucible artifacts d); COMP_CWORD=2; _kubectl_crucible; echo "\${COMPREPLY[@]}"`;
  expect(execFileSync('bash', ['-c', typed], { env: plugin.env }).toString()).toBe('download\n');
});
