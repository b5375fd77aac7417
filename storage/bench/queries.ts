// Times and plans of every read of the API at a million runs, as crucible_api, on a throw-away server:
// node storage/bench/queries.ts [runs] [calls]. Ends with 1 when a read takes longer than 50 ms (p95) or scans a big table.
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { createDatabase } from '../../test/integration/database.ts';
import { createPostgres } from '../../test/integration/postgres.ts';
import { Sandbox } from '../../test/integration/processes.ts';
import { connect } from '../src/index.ts';
import { prepareDatabase } from '../src/testing.ts';
import { explain, smallTables } from './plans.ts';
import { READS } from './reads.ts';
import { fillVolume, namespacesAt, suitesAt } from './volume.ts';

interface ChartValues {
  postgres: { embedded: { parameters: Record<string, string | number> } };
}

const [runs = 1_000_000, calls = 50] = process.argv.slice(2).map(Number);
const LIMIT_MS = 50;

const sandbox = new Sandbox();
process.once('exit', () => sandbox.kill());
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));
// As the chart configures its own, so that nobody has less.
const values = parse(readFileSync(new URL('../../charts/crucible/values.yaml', import.meta.url), 'utf8')) as ChartValues;
const settings = Object.fromEntries(Object.entries(values.postgres.embedded.parameters).map(([name, value]) => [name, String(value)]));
const postgres = await createPostgres(sandbox, settings);
process.env['CRUCIBLE_TEST_POSTGRES'] = await postgres.start();
const database = await createDatabase('volume');
const dsns = await prepareDatabase(database.dsn);
const begun = performance.now();
const owner = connect(dsns.owner);
// To fill it only: what is read afterwards does not depend on it.
for (const setting of [`max_wal_size = '8GB'`, `synchronous_commit = off`, `autovacuum = off`]) await owner.query(`ALTER SYSTEM SET ${setting}`);
await owner.query('SELECT pg_reload_conf()');
await fillVolume(dsns.owner, runs, { tell: (message) => console.log(message) });
await owner.query('ALTER SYSTEM RESET ALL');
await owner.query('SELECT pg_reload_conf()');
const { rows } = await owner.query<{ size: string; version: string }>(
  `SELECT pg_size_pretty(pg_database_size(current_database())) AS size, current_setting('server_version') AS version`,
);
console.log(`${runs} runs in ${namespacesAt(runs)} namespaces, ${suitesAt(runs)} suites, ${rows[0]?.size}, Postgres ${rows[0]?.version} with ${JSON.stringify(settings)}, made in ${((performance.now() - begun) / 1000).toFixed(0)} s\n`);

const api = connect(dsns.api);
const small = await smallTables(owner);
let failed = 0;
console.log(`| read (${calls} calls) | p50 ms | p95 ms | max ms |\n| --- | --- | --- | --- |`);
for (const { name, call } of READS) {
  const { scanned } = await explain(api, small, (db) => call(db, 1, runs));
  const times: number[] = [];
  for (let n = 0; n < calls; n += 1) {
    const from = performance.now();
    await call(api, n, runs);
    times.push(performance.now() - from);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  const bad = at(0.95) > LIMIT_MS || scanned.length > 0;
  if (bad) failed += 1;
  console.log(`| ${name} | ${at(0.5).toFixed(1)} | ${at(0.95).toFixed(1)} | ${at(1).toFixed(1)} |${bad ? ` <- ${scanned.join(', ') || 'slow'}` : ''}`);
}
await Promise.all([api.close(), owner.close()]);
await database.drop();
await sandbox.stop();
console.log(`\n${READS.length - failed} reads within ${LIMIT_MS} ms, ${failed} not`);
process.exitCode = failed > 0 ? 1 : 0;
