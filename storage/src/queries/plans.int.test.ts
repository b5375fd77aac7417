import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../../test/integration/database.ts';
import type { TestDatabase } from '../../../test/integration/database.ts';
import { explain, explainPrepared, smallTables } from '../../bench/plans.ts';
import { READS } from '../../bench/reads.ts';
import { fillVolume } from '../../bench/volume.ts';
import { connect } from '../database.ts';
import type { Database, Queryable } from '../database.ts';
import { prepareDatabase } from '../testing.ts';
import { READS_BY_KEY } from './by-key.ts';
import { listEvaluations, listFileItems, parseLabelSelector } from './index.ts';

const RUNS = 20_000;
const GOLDEN = new URL('../../bench/plans.golden.txt', import.meta.url);

let database: TestDatabase;
let api: Database;
let major: string;

beforeAll(async () => {
  database = await createDatabase('plans');
  const dsns = await prepareDatabase(database.dsn);
  await fillVolume(dsns.owner, RUNS);
  api = connect(dsns.api);
  const { rows } = await api.query<{ version: string }>(`SELECT current_setting('server_version_num') AS version`);
  major = String(Math.floor(Number(rows[0]?.version) / 10_000));
}, 180_000);
afterAll(async () => {
  await api?.close();
  await database?.drop();
});

// With CRUCIBLE_UPDATE_PLANS=1 the file is written anew; its difference is what a review looks at.
test('no read of the API scans a big table, and each has the plan that is committed', async () => {
  const small = await smallTables(api);
  const sections: string[] = [`Postgres ${major}\n`];
  for (const { name, call } of READS) {
    const { lines, scanned } = await explain(api, small, (db) => call(db, 1, RUNS));
    expect(scanned, `${name} reads whole tables`).toEqual([]);
    sections.push(`== ${name}\n${lines.join('\n')}\n`);
  }
  const text = sections.join('\n');
  if (process.env['CRUCIBLE_UPDATE_PLANS'] === '1') await writeFile(GOLDEN, text);
  const golden = await readFile(GOLDEN, 'utf8');
  // Another major version plans as it likes; that it scans nothing holds for all.
  if (golden.startsWith(`Postgres ${major}\n`)) expect(text).toBe(golden);
}, 120_000);

test('a list of everything is one walk, however many namespaces there ever were', async () => {
  const small = await smallTables(api);
  const lists: [string, (db: Queryable) => Promise<unknown>][] = [
    ['newest', (db) => listEvaluations(db, 'all', {})],
    ['phase', (db) => listEvaluations(db, 'all', { phases: ['Running'] })],
    ['verdict', (db) => listEvaluations(db, 'all', { verdictClasses: ['NodeLost'] })],
    ['label', (db) => listEvaluations(db, 'all', { labels: parseLabelSelector('suite=s1') })],
    ['name', (db) => listEvaluations(db, 'all', { name: '99' })],
    ['files', (db) => listFileItems(db, 'all')],
  ];
  for (const [name, call] of lists) expect((await explain(api, small, call)).lines.join('\n'), name).not.toMatch(/namespaces|by_time/);
});

test('no read that is prepared scans a big table, planned once for whatever it is asked for', async () => {
  const small = await smallTables(api);
  for (const text of READS_BY_KEY) expect((await explainPrepared(api, small, text)).scanned, text).toEqual([]);
});

test('what is generated is what the triggers would have derived', async () => {
  const { rows } = await api.query(`
    SELECT (SELECT count(*) FROM crucible.evaluations) AS runs, (SELECT sum(evaluations)::int FROM crucible.namespace_usage) AS counted,
           (SELECT count(*) FROM crucible.evaluations e WHERE (SELECT count(*) FROM crucible.events v WHERE v.evaluation_uid = e.uid) <> e.event_seq) AS odd,
           (SELECT sum(bytes)::int FROM crucible.streams s JOIN crucible.captures c USING (evaluation_uid, attempt) WHERE c.state = 'captured')
             = (SELECT sum(output_bytes)::int FROM crucible.namespace_usage) AS bytes`);
  expect(rows[0]).toEqual({ runs: RUNS, counted: RUNS, odd: 0, bytes: true });
});
