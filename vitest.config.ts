import { defineConfig } from 'vitest/config';

// Two tiers here: unit tests need nothing but Node; integration tests (*.int.test.ts) need real servers,
// which test/integration/setup.ts starts once for the whole run.

/** How long a poll may take: vitest's own second is what a busy machine needs to connect to Postgres. */
const POLL = { poll: { timeout: 20_000 } };

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['{crds,storage,operator,api,test}/**/*.test.ts'], exclude: ['**/node_modules/**', '**/*.int.test.ts', 'test/e2e/**'], testTimeout: 30_000, expect: POLL } },
      {
        test: {
          name: 'integration',
          include: ['{crds,storage,operator,api,test}/**/*.int.test.ts'],
          globalSetup: ['test/integration/setup.ts'],
          testTimeout: 30_000,
          hookTimeout: 60_000,
          expect: POLL,
        },
      },
      { test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], fileParallelism: false, testTimeout: 180_000, hookTimeout: 180_000 } },
    ],
  },
});
