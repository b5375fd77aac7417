import { randomBytes } from 'node:crypto';
import { CAPTURE_FINALIZER } from '@crucible/crds';
import { connect, migrate } from '@crucible/storage';
import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { TcpProxy } from '../../test/faults/tcp-proxy.ts';
import { ApiServer } from '../../test/integration/api-server.ts';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { testServer } from '../../test/integration/environment.ts';
import { OperatorProcess } from './testing/operator-process.ts';

// A process that starts while Postgres is away.

/** Half of it is waiting for retries, and for a process to start, on a machine that may be busy. */
const LONG_MS = 90_000;

const api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
let namespace: string;
let testDatabase: TestDatabase;
let proxy: TcpProxy;
let running: OperatorProcess | undefined;

beforeEach(async () => {
  namespace = `away-${randomBytes(4).toString('hex')}`;
  const labels = { 'crucible.dev/evaluations': 'enabled' };
  await api.create('/api/v1/namespaces', { metadata: { name: namespace, labels } });
  // Somebody has led before: how often is known without Postgres.
  await api.create(leases(), { metadata: { name: 'crucible-operator' }, spec: { leaseTransitions: 3 } });
  testDatabase = await createDatabase('away');
  await migrate({ connectionString: testDatabase.dsn });
  const { hostname, port } = new URL(testDatabase.dsn);
  proxy = new TcpProxy({ host: hostname, port: Number(port) });
  await proxy.up();
  await proxy.down();
});
afterEach(async () => {
  await running?.stop();
  running = undefined;
  await proxy.down();
  await testDatabase.drop();
});

afterAll(() => api.close());

function leases(): string {
  return `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
}

function evaluations(): string {
  return `/apis/crucible.dev/v1alpha1/namespaces/${namespace}/evaluations`;
}

async function create(name: string, finalizers: string[] = []): Promise<void> {
  const { status, body } = await api.create(evaluations(), {
    apiVersion: 'crucible.dev/v1alpha1',
    kind: 'Evaluation',
    metadata: { name, finalizers },
    spec: { image: 'python:3', command: ['python3'], code: '1' },
  });
  if (status !== 201) throw new Error(body['message']);
}

async function leading(): Promise<OperatorProcess> {
  running = await OperatorProcess.start({
    namespace,
    databaseUrl: proxy.through(testDatabase.dsn),
    env: { CRUCIBLE_LOST_CAPTURE_SECONDS: '1' },
  });
  await running.waitFor('it to lead', () => (running!.logged('leading').length > 0 ? true : undefined));
  return running;
}

async function sql(text: string): Promise<Record<string, unknown>[]> {
  const database = connect(testDatabase.dsn);
  try {
    return (await database.query(text)).rows;
  } finally {
    await database.close();
  }
}

it('lets go of what is deleted, admits nothing, and goes on when it is there', { timeout: LONG_MS }, async () => {
  await create('going', [CAPTURE_FINALIZER]);
  await create('new');
  await api.delete(`${evaluations()}/going`);
  const operator = await leading();
  await operator.waitFor('the finalizer to go', async () =>
    (await api.get(`${evaluations()}/going`)).status === 404 ? true : undefined,
  );
  const accepted = await operator.waitFor('the status to say why it waits', async () => {
    const { body } = await api.get(`${evaluations()}/new`);
    return (body['status']?.conditions ?? []).find(({ type }: { type: string }) => type === 'Accepted');
  });
  expect(accepted).toMatchObject({ status: 'Unknown', reason: 'RecordUnavailable' });
  expect((await fetch(`http://127.0.0.1:${operator.port}/readyz`)).status).toBe(503);

  await proxy.up();
  await operator.waitFor('it to be started', async () => {
    const { body } = await api.get(`${evaluations()}/new`);
    return body['status']?.phase === 'Starting' ? true : undefined;
  });
  // It looks after the whole cluster, and other tests have left something there.
  expect(await sql(`select name, epoch from crucible.evaluations where namespace = '${namespace}'`)).toEqual([{ name: 'new', epoch: 4 }]);
  await operator.waitFor('it to be ready', async () =>
    (await fetch(`http://127.0.0.1:${operator.port}/readyz`)).status === 200 ? true : undefined,
  );
});

it('writes nothing into a newer schema that is there afterwards, and leaves the lease to others', { timeout: LONG_MS }, async () => {
  await sql(`insert into crucible.schema_migrations (version, name, checksum) values (9999, '9999_newer.sql', 'none')`);
  await create('new');
  const operator = await leading();
  await operator.waitFor('it to be looked at', async () =>
    (await api.get(`${evaluations()}/new`)).body['status'] === undefined ? undefined : true,
  );
  await proxy.up();
  expect(await operator.exited()).toBe(1);
  const [last] = operator.logged('the process cannot run');
  expect(last?.['err'].message).toBe('the database is newer than this image: nothing can be done with it');
  expect(await sql('select name from crucible.evaluations')).toEqual([]);
  expect((await api.get(`${leases()}/crucible-operator`)).body['spec'].holderIdentity ?? '').toBe('');

  // Started again it waits, without leading.
  running = await OperatorProcess.start({ namespace, databaseUrl: proxy.through(testDatabase.dsn) });
  const again = running;
  await again.waitFor('it to wait', () => again.logged('waiting for the database')[0]);
  expect(again.logged('leading')).toEqual([]);
  await sql(`delete from crucible.schema_migrations where version = 9999`);
  await again.waitFor('it to lead', () => (again.logged('leading').length > 0 ? true : undefined));
  expect(again.logged('waiting for the database')[0]?.['reason']).toBe('the database is newer than this image');
});
