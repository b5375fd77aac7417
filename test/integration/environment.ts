// What the harness hands to integration tests through the environment, and the only way they should read it.

const REMEDIES = {
  CRUCIBLE_TEST_KUBECONFIG: 'run the tests with `make test-integration`',
  CRUCIBLE_TEST_POSTGRES: 'run the tests with `make test-integration`',
  CRUCIBLE_TEST_REDIS: 'apt-get install redis-server (or valkey-server)',
  CRUCIBLE_TEST_S3: 'run the tests with `make test-integration`',
} as const;

export type TestVariable = keyof typeof REMEDIES;

/** Throws one sentence that says how to get the server, so that a test never passes for want of one. */
export function testServer(variable: TestVariable): string {
  const value = process.env[variable];
  if (value === undefined || value === '') throw new Error(`${variable} is not set: ${REMEDIES[variable]}`);
  return value;
}
