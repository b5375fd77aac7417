import { startKubernetes } from './kubernetes.ts';
import { startPostgres } from './postgres.ts';
import { Sandbox } from './processes.ts';
import { startRedis } from './redis.ts';
import { startS3 } from './s3.ts';
import type { TestVariable } from './environment.ts';

// vitest's global setup of the integration tier: real servers, started once for all test files, on 127.0.0.1 only.
// A variable that is already set wins, so that a developer can point the tests at servers of their own.

let sandbox: Sandbox | undefined;

export async function setup(): Promise<void> {
  const current = new Sandbox();
  sandbox = current;
  process.once('exit', () => current.kill());
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.once(signal, () => process.exit(status));
  }
  try {
    await Promise.all([
      provide('CRUCIBLE_TEST_KUBECONFIG', () => startKubernetes(current)),
      provide('CRUCIBLE_TEST_POSTGRES', () => startPostgres(current)),
      provide('CRUCIBLE_TEST_REDIS', () => startRedis(current)),
      provide('CRUCIBLE_TEST_S3', () => startS3(current)),
    ]);
  } catch (error) {
    current.kill();
    throw error;
  }
}

export async function teardown(): Promise<void> {
  await sandbox?.stop();
}

/** Test files run in processes that are started later and inherit the environment. */
async function provide(variable: TestVariable, start: () => Promise<string | undefined>): Promise<void> {
  if (process.env[variable]) return;
  const value = await start();
  if (value !== undefined) process.env[variable] = value;
}
