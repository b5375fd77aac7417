import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { PositionRepository } from './bus/positions.ts';
import { checkRecord } from './check.ts';
import { migrate } from './migrations.ts';
import { listEvaluations, readComplete, readOutputRange } from './queries/index.ts';
import { connectRoles, makeRun } from './queries/testing.ts';
import { maintainEventPartitions } from './retention.ts';
import { prepareDatabase } from './testing.ts';
import type { RoleDsns } from './testing.ts';

const run = promisify(execFile);

/** Of the same installation as the server: an older pg_dump refuses it. */
function program(name: string): string {
  const folder = '/usr/lib/postgresql';
  const versions = existsSync(folder) ? readdirSync(folder).map(Number).filter(Number.isFinite).sort((a, b) => b - a) : [];
  return versions.map((version) => join(folder, String(version), 'bin', name)).find((path) => existsSync(path)) ?? name;
}

let source: TestDatabase;
let target: TestDatabase;
let scratch: string;
let dsns: RoleDsns;

beforeAll(async () => {
  [source, target] = [await createDatabase('backup'), await createDatabase('restored')];
  scratch = await mkdtemp(join(tmpdir(), 'crucible-backup-'));
  dsns = await prepareDatabase(source.dsn);
});
afterAll(async () => {
  await Promise.all([source?.drop(), target?.drop()]);
  await rm(scratch, { recursive: true, force: true });
});

const inDatabase = (dsn: string, name: string): string => Object.assign(new URL(dsn), { pathname: `/${name}` }).href;

test('what docs/operations.md says: dumped while it is written, restored elsewhere, and as whole and guarded as before', async () => {
  const before = connectRoles(dsns);
  const finished = { stdout: Buffer.from([0, 255, 10, 13, 10]), artifacts: { a: Buffer.from('a') }, verdict: { class: 'Succeeded' } };
  const { uid } = await makeRun(before, { ...finished, spec: { code: '\0 \ud800' }, createdAt: new Date('2024-02-29T12:00:00Z') });
  await makeRun(before, { createdAt: new Date(), stdout: Buffer.from('still runs\n') });
  await new PositionRepository(before.recorder).assign();
  const file = join(scratch, 'crucible.dump');
  // Somebody writes all the time.
  let writing = true;
  const writer = (async () => { while (writing) await makeRun(before, finished); })();
  await run(program('pg_dump'), ['--format=custom', '--schema=crucible', `--file=${file}`, `--dbname=${source.dsn}`]);
  writing = false;
  await writer;

  await run(program('pg_restore'), ['--exit-on-error', '--single-transaction', '--no-owner', `--dbname=${target.dsn}`, file]);
  expect(await migrate({ connectionString: target.dsn })).toMatchObject({ applied: [] });

  const restored = (dsn: string) => inDatabase(dsn, target.name);
  const after = connectRoles({ owner: restored(dsns.owner), operator: restored(dsns.operator), recorder: restored(dsns.recorder), api: restored(dsns.api) });
  expect(await checkRecord(after.owner)).toEqual([]);
  expect(await checkRecord(after.api)).toEqual([]);
  expect(await readComplete(after.api, {}, uid, 'all')).toEqual(await readComplete(before.api, {}, uid, 'all'));
  expect((await readOutputRange(after.api, { uid }, 'stdout', 'all'))?.data).toEqual(finished.stdout);
  // Roles, grants, triggers, partitions, sequences: it goes on.
  const more = await makeRun(after, { ...finished, createdAt: new Date() });
  await new PositionRepository(after.recorder).assign();
  expect((await listEvaluations(after.api, 'all', {})).items.map((item) => item.uid)).toContain(more.uid);
  expect(await maintainEventPartitions(after.recorder)).toMatchObject({ made: 0 });
  await expect(after.api.query(`UPDATE crucible.evaluations SET phase = 'x'`)).rejects.toThrow(/permission denied/);
  await expect(after.recorder.query('SELECT spec FROM crucible.evaluations')).rejects.toThrow(/permission denied/);
  await expect(after.owner.query(`UPDATE crucible.output_chunks SET data = 'x'`)).rejects.toThrow(/never changes/);
  await expect(after.owner.query('DELETE FROM crucible.events')).rejects.toThrow(/deleted by retention only/);
  await expect(after.owner.query('TRUNCATE crucible.events_default')).rejects.toThrow(/deleted by retention only/);
  expect(await checkRecord(after.owner)).toEqual([]);
  await Promise.all([before.close(), after.close()]);
}, 120_000);

test('the check finds what is damaged, and the command says so', async () => {
  const roles = connectRoles(dsns);
  const { uid } = await makeRun(roles, { stdout: Buffer.from('hello\n'), verdict: { class: 'Succeeded' } });
  const check = async () => {
    const command = fileURLToPath(new URL('./check-record.ts', import.meta.url));
    const done = await run(process.execPath, [command], { env: { PATH: process.env['PATH'], CRUCIBLE_DATABASE_URL: dsns.owner } }).catch((error: unknown) => error as { stdout: string; code: number });
    return { code: 0, ...done };
  };
  expect(await check()).toMatchObject({ code: 0, stdout: 'check: the record is whole\n' });
  const damage = (statement: string) => roles.owner.transaction(async (tx) => {
    await tx.query(`SET LOCAL session_replication_role = 'replica'`);
    await tx.query(statement, [uid]);
  });
  await damage(`UPDATE crucible.output_chunks SET data = 'jello\n' WHERE evaluation_uid = $1`);
  await damage('DELETE FROM crucible.events WHERE evaluation_uid = $1 AND seq = 2');
  const found = await checkRecord(roles.owner);
  expect(found).toEqual([
    { evaluationUid: uid, problem: 'stored output is not what its ledger says' },
    { evaluationUid: uid, problem: 'events are not numbered from 1 without a gap' },
  ]);
  expect(await check()).toMatchObject({ code: 1, stdout: `${uid}: ${found[0]!.problem}\n${uid}: ${found[1]!.problem}\ncheck: 2 problems\n` });
  await roles.close();
}, 60_000);
