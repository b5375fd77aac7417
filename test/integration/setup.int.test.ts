import { execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { ApiServer } from './api-server.ts';
import { createDatabase } from './database.ts';
import { testServer } from './environment.ts';

const run = promisify(execFile);
const SETUP = join(import.meta.dirname, 'setup.ts');
/** A second set of servers beside the first, on a machine that may be busy. */
const START_MILLISECONDS = 90_000;

const api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
afterAll(() => api.close());

async function query(dsn: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: dsn });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

describe('the API server', () => {
  test('is a real one, with RBAC', async () => {
    expect((await api.get('/version')).body['gitVersion']).toMatch(/^v1\./);
    const review = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: { user: 'nobody', resourceAttributes: { verb: 'get', resource: 'pods' } },
    };
    expect(
      (await api.create('/apis/authorization.k8s.io/v1/subjectaccessreviews', review)).body['status'].allowed,
    ).toBe(false);
  });

  test('knows our kinds', async () => {
    const { body } = await api.get('/apis/crucible.dev/v1alpha1');
    expect(body['resources'].map((resource: { name: string }) => resource.name)).toEqual(
      expect.arrayContaining(['evaluations', 'evaluations/status', 'evaluationruntimes']),
    );
  });
});

describe('Postgres', () => {
  test('gives each test file a database of its own', async () => {
    const [first, second] = await Promise.all([createDatabase(), createDatabase()]);
    await query(first.dsn, 'create table only_here ()');
    expect(await query(first.dsn, `select to_regclass('only_here') is not null as found`)).toEqual([{ found: true }]);
    expect(await query(second.dsn, `select to_regclass('only_here') is not null as found`)).toEqual([{ found: false }]);
    await Promise.all([first.drop(), second.drop()]);
    expect(
      await query(testServer('CRUCIBLE_TEST_POSTGRES'), `select from pg_database where datname = '${first.name}'`),
    ).toEqual([]);
  });

  test('asks for a password', async () => {
    const dsn = new URL(testServer('CRUCIBLE_TEST_POSTGRES'));
    dsn.password = 'wrong';
    await expect(query(dsn.href, 'select 1')).rejects.toThrow('password authentication failed');
  });
});

describe('nothing is left behind', () => {
  const serversOf = (kubeconfig: string): { pid: number; name: string }[] =>
    readFileSync(join(dirname(kubeconfig), '../pids'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => ({ pid: Number(line.split(' ')[0]), name: line.split(' ')[1] ?? '' }));

  // /proc rather than kill(0): a zombie that waits for its parent is not running any more.
  const isRunning = (pid: number): boolean =>
    existsSync(`/proc/${pid}/exe`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));

  /** Starts servers in a process of its own and ends that process by a signal once they are up. */
  async function startAndEnd(signal: NodeJS.Signals): Promise<string> {
    const environment = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('CRUCIBLE_TEST_')),
    );
    const script = `await (await import(${JSON.stringify(SETUP)})).setup(); console.log(process.env.CRUCIBLE_TEST_KUBECONFIG); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const kubeconfig = await new Promise<string>((resolve, reject) => {
      let complaint = '';
      child.stderr.on('data', (data: Buffer) => (complaint += data.toString()));
      child.stdout.once('data', (data: Buffer) => resolve(data.toString().trim()));
      child.once('exit', () => reject(new Error(complaint)));
    });
    const servers = serversOf(kubeconfig);
    expect(servers.map(({ name }) => name)).toEqual(expect.arrayContaining(['etcd', 'kube-apiserver', 'postgres']));
    expect(servers.every(({ pid }) => isRunning(pid))).toBe(true);
    child.kill(signal);
    await new Promise((resolve) => child.once('close', resolve));
    await expect.poll(() => servers.filter(({ pid }) => isRunning(pid)), { timeout: 10_000 }).toEqual([]);
    return dirname(dirname(kubeconfig));
  }

  test(
    'after an interrupt',
    async () => {
      expect(existsSync(await startAndEnd('SIGINT'))).toBe(false);
    },
    START_MILLISECONDS,
  );

  test(
    'not even a server after a kill, whose folder the next run removes',
    async () => {
      const abandoned = await startAndEnd('SIGKILL');
      expect(existsSync(abandoned)).toBe(true);
      expect(existsSync(await startAndEnd('SIGINT'))).toBe(false);
      expect(existsSync(abandoned)).toBe(false);
    },
    START_MILLISECONDS,
  );
});

test('a missing Kubernetes binary is said in one sentence', async () => {
  const script = `await (await import(${JSON.stringify(join(import.meta.dirname, 'kubernetes.ts'))})).kubeBinary()`;
  const env = { ...process.env, CRUCIBLE_KUBE_BIN: '/nowhere/kube' };
  await expect(run(process.execPath, ['--input-type=module', '-e', script], { env })).rejects.toThrow(
    'no Kubernetes binary at /nowhere/kube',
  );
});
