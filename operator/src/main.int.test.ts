import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { migrate } from '@crucible/storage';
import { ApiServer } from '../../test/integration/api-server.ts';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { testServer } from '../../test/integration/environment.ts';
import { freePort } from '../../test/integration/processes.ts';

// The process as it is deployed: configuration from the environment, lease, health, metrics, an orderly end.

const namespace = `main-${randomBytes(4).toString('hex')}`;
const PATIENCE_MS = 20_000;
let database: TestDatabase;

beforeAll(async () => {
  const api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
  await api.create('/api/v1/namespaces', { metadata: { name: namespace } });
  api.close();
  database = await createDatabase('main');
  await migrate({ connectionString: database.dsn });
});
afterAll(() => database.drop());

it('becomes ready, leads, shows metrics, and on SIGTERM releases the lease and exits with 0', async () => {
  const port = await freePort();
  const env = {
    PATH: process.env['PATH'],
    CRUCIBLE_KUBECONFIG: testServer('CRUCIBLE_TEST_KUBECONFIG'),
    CRUCIBLE_DATABASE_URL: database.dsn,
    CRUCIBLE_NAMESPACES: namespace,
    CRUCIBLE_LAUNCHER_IMAGE: 'crucible/launcher:test',
    CRUCIBLE_LEASE_NAMESPACE: namespace,
    PORT: String(port),
  };
  const child = spawn(process.execPath, [resolve(import.meta.dirname, 'main.ts')], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let log = '';
  child.stdout.on('data', (data: Buffer) => (log += data.toString()));
  const exit = new Promise<number | null>((done) => child.once('exit', (code) => done(code)));
  try {
    const ready = async () =>
      (await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined))?.status === 200 &&
      log.includes('"leading"');
    for (const deadline = Date.now() + PATIENCE_MS; !(await ready());) {
      if (Date.now() > deadline) throw new Error(`not ready: ${log}`);
      await new Promise((done) => setTimeout(done, 50));
    }
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    for (const name of [
      'crucible_verdicts_total{class="Succeeded"} 0',
      'crucible_admission_waiting 0',
      'workqueue_depth',
      'crucible_evaluations{phase="Running"}',
    ])
      expect(metrics).toContain(name);
  } finally {
    child.kill('SIGTERM');
  }
  expect(await exit).toBe(0);
  const api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
  const lease = await api.get(`/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/crucible-operator`);
  api.close();
  expect(lease.body['spec'].holderIdentity ?? '').toBe('');
});
