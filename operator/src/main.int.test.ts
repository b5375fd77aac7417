import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { EvaluationRepository, connect, migrate } from '@crucible/storage';
import type { Database } from '@crucible/storage';
import { ApiServer } from '../../test/integration/api-server.ts';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { testServer } from '../../test/integration/environment.ts';
import { OperatorProcess } from './testing/operator-process.ts';

// The process as it is deployed: configuration from the environment, lease, health, metrics, an orderly end.

const namespace = `main-${randomBytes(4).toString('hex')}`;
const leasePath = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/crucible-operator`;
const api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
let testDatabase: TestDatabase;
let database: Database;
let running: OperatorProcess | undefined;

beforeAll(async () => {
  await api.create('/api/v1/namespaces', { metadata: { name: namespace } });
  testDatabase = await createDatabase('main');
  await migrate({ connectionString: testDatabase.dsn });
  database = connect({ connectionString: testDatabase.dsn });
});
afterEach(async () => {
  await running?.stop();
});
afterAll(async () => {
  api.close();
  await database.close();
  await testDatabase.drop();
});

async function leading(): Promise<OperatorProcess> {
  const operator = (running = await OperatorProcess.start({ namespace, databaseUrl: testDatabase.dsn }));
  await operator.waitFor('it to be ready and to lead', async () => {
    const ready = await fetch(`http://127.0.0.1:${operator.port}/readyz`).catch(() => undefined);
    return ready?.status === 200 && operator.logged('leading').length > 0 ? true : undefined;
  });
  return operator;
}

it('becomes ready, leads, shows metrics, and on SIGTERM releases the lease and exits with 0', async () => {
  const operator = await leading();
  const metrics = await (await fetch(`http://127.0.0.1:${operator.port}/metrics`)).text();
  for (const name of [
    'crucible_verdicts_total{class="Succeeded"} 0',
    'crucible_admission_waiting 0',
    'crucible_queue_depth{reason="Paused"} 0',
    'crucible_phase_seconds_count{phase="Running"} 0',
    'crucible_uncaptured_runs 0',
    'crucible_leader{lease="crucible-operator"} 1',
    'crucible_informer_last_sync_age_seconds{resource="evaluations"}',
    'workqueue_depth',
    'crucible_evaluations{phase="Running"}',
  ])
    expect(metrics).toContain(name);
  expect(await operator.stop()).toBe(0);
  const lease = await api.get(leasePath);
  expect(lease.body['spec'].holderIdentity ?? '').toBe('');
});

it('leads on with a later epoch than anything that is recorded when somebody deletes the lease', async () => {
  const operator = await leading();
  const accepted = { name: 'before', namespace, namespaceUid: randomUUID(), generation: 1, spec: {}, phase: 'Queued' };
  const evaluations = new EvaluationRepository(database);
  await evaluations.upsertAccepted({ ...accepted, uid: randomUUID(), createdAt: new Date(), epoch: 41 });
  await api.delete(leasePath);
  const epoch = await operator.waitFor('a new lease', async () => {
    const { status, body } = await api.get(leasePath);
    return status === 200 ? (body['spec'].leaseTransitions as number) : undefined;
  });
  expect(epoch).toBe(42);
});

it('ends what is under way at once when the lease is lost: somebody else may lead already', async () => {
  const operator = await leading();
  let unlock = (): void => undefined;
  const locked = new Promise<void>((resolveLocked, reject) => {
    database
      .transaction(async (tx) => {
        await tx.query('LOCK TABLE crucible.attempts, crucible.evaluations IN ACCESS EXCLUSIVE MODE');
        const unlocked = new Promise<void>((done) => (unlock = done));
        resolveLocked();
        await unlocked;
      })
      .catch(reject);
  });
  await locked;
  try {
    await api.create(`/apis/crucible.dev/v1alpha1/namespaces/${namespace}/evaluations`, {
      apiVersion: 'crucible.dev/v1alpha1',
      kind: 'Evaluation',
      metadata: { name: 'stuck' },
      spec: { runtime: 'none', code: '1' },
    });
    const waiting = `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`;
    await operator.waitFor('a reconcile to wait for Postgres', async () =>
      (await database.query(waiting)).rowCount > 0 ? true : undefined,
    );
    await api.delete(leasePath);
    const ended = await operator.waitFor('the term to end', () => operator.logged('term ends')[0]);
    const aborted = await operator.waitFor(
      'the abort',
      () => operator.logged('reconciles aborted at shutdown')[0],
    );
    expect(ended['reason']).toBe('lost');
    // Ten seconds would be given at an orderly end; between the two a busy machine has its time.
    expect(aborted['time'] - ended['time']).toBeLessThan(8000);
  } finally {
    unlock();
  }
});
