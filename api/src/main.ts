import { readFile } from 'node:fs/promises';
import { connect, schemaReady } from '@crucible/storage';
import { buildApp } from './app.ts';
import { readConfig } from './config.ts';

async function main(): Promise<void> {
  const config = readConfig();
  const https = config.tls && { cert: await readFile(config.tls.cert), key: await readFile(config.tls.key) };
  const database = connect(config.databaseUrl);
  const notReady = async (): Promise<string | undefined> => {
    try {
      const state = await schemaReady(database);
      return state === 'ok' ? undefined : `the database's schema is ${state} of this version`;
    } catch {
      return 'Postgres does not answer';
    }
  };
  const app = buildApp({ https, logger: { level: config.logLevel }, notReady });
  await app.listen({ host: config.host, port: config.port });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      app.close().then(() => database.close()).then(() => process.exit(0), () => process.exit(1));
    });
  }
}

main().catch((error: unknown) => {
  console.error(`crucible-api: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
});
