import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase } from '../../../test/integration/database.ts';
import type { TestDatabase } from '../../../test/integration/database.ts';
import { PositionRepository } from '../bus/positions.ts';
import { AttemptRepository } from '../attempts.ts';
import { EvaluationRepository } from '../evaluations.ts';
import { expire } from '../retention.ts';
import { NamespaceRepository } from '../namespaces.ts';
import { SubmissionRepository } from '../submissions.ts';
import { buildAttempt, buildEvaluation, prepareDatabase } from '../testing.ts';
import {
  findArtifact, findOwner, listArtifacts, listDatabaseItems, listEvaluations, listEventsAfter, listFileItems, listRunEvents,
  parseLabelSelector, readComplete, readEvaluation, readOutputRange, readPositions, readQueue, readState, readSubmission, readStorageTotals,
} from './index.ts';
import type { EvaluationFilter, Scope } from './index.ts';
import { connectRoles, makeRun } from './testing.ts';

let database: TestDatabase;
let roles: ReturnType<typeof connectRoles>;

beforeAll(async () => {
  database = await createDatabase('queries');
  roles = connectRoles(await prepareDatabase(database.dsn));
});
afterAll(async () => {
  await roles?.close();
  await database?.drop();
});

const namespace = () => ({ namespaceUid: randomUUID(), namespace: `n${randomBytes(4).toString('hex')}` });
const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000);
const SUCCEEDED = { class: 'Succeeded', attributableTo: 'Code' };

async function uidsOf(scope: Scope, filter: EvaluationFilter): Promise<string[]> {
  const uids: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await listEvaluations(roles.api, scope, { ...filter, ...(cursor !== undefined && { cursor }) });
    uids.push(...page.items.map(({ uid }) => uid));
    cursor = page.nextCursor;
    if (cursor === undefined) return uids;
  }
}

describe('the list', () => {
  test('newest first over several namespaces, page by page, also while others are added; never what is out of scope', async () => {
    const [a, b, other] = [namespace(), namespace(), namespace()];
    const made: string[] = [];
    // Two of each second: the uid decides.
    for (let n = 0; n < 12; n += 1) made.push((await makeRun(roles, { ...(n % 2 === 0 ? a : b), createdAt: at(Math.floor(n / 2)) })).uid);
    await makeRun(roles, { ...other, createdAt: at(3) });
    const scope = [a.namespaceUid, b.namespaceUid];
    const first = await listEvaluations(roles.api, scope, { limit: 5 });
    expect(first.items).toHaveLength(5);
    await makeRun(roles, { ...a, createdAt: at(100) });
    const rest = await uidsOf(scope, { limit: 2, cursor: first.nextCursor! });
    const rows = await uidsOf(scope, { limit: 500 });
    expect([...first.items.map(({ uid }) => uid), ...(await restFrom(scope, first.nextCursor!))]).toEqual(rows.slice(1));
    expect(new Set(rows.slice(1))).toEqual(new Set(made));
    expect(rest.length).toBeGreaterThan(0);
    const times = (await listEvaluations(roles.api, scope, { limit: 500 })).items.map(({ createdAt, uid }) => `${createdAt.toISOString()} ${uid}`);
    expect(times).toEqual([...times].sort().reverse());
    expect(await listEvaluations(roles.api, [], {})).toEqual({ items: [] });
  });

  async function restFrom(scope: Scope, cursor: string): Promise<string[]> {
    const page = await listEvaluations(roles.api, scope, { limit: 2, cursor });
    const own = page.items.map(({ uid }) => uid);
    return page.nextCursor === undefined ? own : [...own, ...(await restFrom(scope, page.nextCursor))];
  }

  test('each filter, and several together', async () => {
    const own = namespace();
    const scope = [own.namespaceUid];
    const run = async (n: number, labels: Record<string, string>, verdict?: { class: string }) =>
      (await makeRun(roles, { ...own, name: `run-${n}`, createdAt: at(n), labels, spec: { runtime: 'python', code: '\0 \ud800' }, ...(verdict && { stdout: Buffer.from('x\n'), verdict }) })).uid;
    const uids = [
      await run(0, { team: 'a', suite: 's' }),
      await run(1, { team: 'b' }),
      await run(2, { team: 'a' }, SUCCEEDED),
      await run(3, { team: 'a', suite: 's' }, { class: 'NonZeroExit' }),
      await run(4, {}, SUCCEEDED),
    ];
    const found = async (filter: EvaluationFilter) => (await uidsOf(scope, filter)).map((uid) => uids.indexOf(uid)).sort();
    const labels = (text: string) => ({ labels: parseLabelSelector(text) });
    expect(await found({ phases: ['Queued'] })).toEqual([0, 1]);
    expect(await found({ phases: ['Queued', 'Failed'] })).toEqual([0, 1, 3]);
    expect(await found({ verdictClasses: ['Succeeded'] })).toEqual([2, 4]);
    expect(await found({ verdictClasses: ['Succeeded', 'NonZeroExit'], since: at(3) })).toEqual([3, 4]);
    expect(await found(labels('team=a'))).toEqual([0, 2, 3]);
    expect(await found(labels('team=a,suite=s'))).toEqual([0, 3]);
    expect(await found({ ...labels('team=a,!suite'), verdictClasses: ['Succeeded'] })).toEqual([2]);
    expect(await found(labels('team!=a'))).toEqual([1, 4]);
    expect(await found(labels('team in (a,b),suite'))).toEqual([0, 3]);
    expect(await found(labels('team notin (b)'))).toEqual([0, 2, 3, 4]);
    expect(await found({ name: 'run-1' })).toEqual([1]);
    expect(await found({ phases: ['Running'] })).toEqual([]);
    expect((await listEvaluations(roles.api, scope, labels('suite=s'))).items[0]).toMatchObject({ attempts: 1, exitCode: 0, phase: 'Failed', runtime: 'python' });
  });

  test('what is rare is found through bounded looks, page after page', async () => {
    const own = namespace();
    await roles.owner.query(
      `INSERT INTO crucible.evaluations (uid, namespace, namespace_uid, name, generation, spec, labels, phase, created_at, epoch)
       SELECT gen_random_uuid(), $1, $2, 'n' || i, 1, '{}', jsonb_build_object('rare', CASE WHEN i IN (3, 4400) THEN 'yes' ELSE 'no' END),
              'Queued', $3::timestamptz + i * interval '1 second', 1 FROM generate_series(1, 4500) i`,
      [own.namespace, own.namespaceUid, at(0)],
    );
    const filter = { labels: parseLabelSelector('rare!=no'), limit: 10 };
    const first = await listEvaluations(roles.api, [own.namespaceUid], filter);
    expect(first.items.map(({ name }) => name)).toEqual(['n4400']);
    expect(first.nextCursor).toBeDefined();
    expect(await uidsOf([own.namespaceUid], filter)).toHaveLength(2);
  });

  test.each(['x', '', Buffer.from('1/2').toString('base64url'), Buffer.from(`99999999999999999999/${randomUUID()}`).toString('base64url')])(
    'a cursor that no list gave: %j', async (cursor) => {
      await expect(listEvaluations(roles.api, 'all', { cursor })).rejects.toThrow(RangeError);
    },
  );
});

describe('one run', () => {
  test('its state from the submission to the end, by UID and in scope only', async () => {
    const own = namespace();
    const scope = [own.namespaceUid];
    const uid = randomUUID();
    const submissions = new SubmissionRepository(roles.api);
    const submission = { uid, ...own, name: 'hello', submittedBy: 'ada' };
    await new NamespaceRepository(roles.operator).observe({ uid: own.namespaceUid, name: own.namespace });
    expect([await readState(roles.api, uid, scope), await findOwner(roles.api, uid)]).toEqual([undefined, undefined]);
    for (let i = 0; i < 2; i += 1) await submissions.record(submission);
    expect(await readState(roles.api, uid, scope)).toEqual({ state: 'accepted', phase: 'Queued', queueReason: null, queueMessage: null, refused: false });
    expect(await findOwner(roles.api, uid)).toEqual({ uid, ...own, name: 'hello' });
    expect((await readQueue(roles.api, scope)).items).toMatchObject([{ uid, stage: 'Submitted', position: null }]);
    await makeRun(roles, { uid, ...own });
    await new EvaluationRepository(roles.operator).setQueue({ uid, queue: { reason: 'GlobalLimit', message: 'Full.' }, epoch: 1 });
    expect(await readState(roles.api, uid, scope)).toMatchObject({ state: 'accepted', queueReason: 'GlobalLimit', queueMessage: 'Full.' });
    await new EvaluationRepository(roles.operator).finish({ uid, epoch: 1, phase: 'Cancelled', verdict: { class: 'Cancelled' }, passed: null, finishedAt: at(9) });
    expect(await readState(roles.api, uid, scope)).toMatchObject({ state: 'finished', phase: 'Cancelled', finishedAt: at(9) });
    expect(await readEvaluation(roles.api, uid, scope)).toMatchObject({ submittedBy: 'ada', queueReason: null, attempts: [] });
    for (const nobody of [[], [randomUUID()]]) expect(await readState(roles.api, uid, nobody)).toBeUndefined();
    expect(await readState(roles.api, 'x', 'all')).toBeUndefined();
  });

  test('what was applied and is not admitted is known, with why; who submitted it is written once', async () => {
    const own = namespace();
    const scope = [own.namespaceUid];
    const [byApi, byOperator] = [new SubmissionRepository(roles.api), new SubmissionRepository(roles.operator)];
    await new NamespaceRepository(roles.operator).observe({ uid: own.namespaceUid, name: own.namespace });
    const uid = randomUUID();
    const waits = { uid, ...own, name: 'applied', createdAt: at(0), reason: 'DrillIncomplete', message: 'Not shown to hold.', refused: false };
    expect([await byOperator.tell(waits), await byOperator.tell(waits)]).toEqual([true, false]);
    expect(await readState(roles.api, uid, scope)).toMatchObject({ state: 'accepted', phase: 'Queued', queueReason: 'DrillIncomplete', refused: false });
    expect((await readQueue(roles.api, scope)).items).toMatchObject([{ uid, stage: 'Submitted', reason: 'DrillIncomplete', createdAt: at(0) }]);
    expect(await byOperator.tell({ ...waits, reason: 'RuntimeNotFound', message: 'None \0 is.', refused: true })).toBe(true);
    expect(await readState(roles.api, uid, scope)).toMatchObject({ queueReason: 'RuntimeNotFound', queueMessage: 'None \\u0000 is.', refused: true });
    // The operator was quicker than the API.
    for (const submittedBy of ['ada', 'eve']) await byApi.record({ uid, ...own, name: 'applied', submittedBy });
    await byApi.record({ uid, ...namespace(), name: 'applied', submittedBy: 'mallory' });
    expect(await readSubmission(roles.api, uid, scope)).toMatchObject({ submittedBy: 'ada', refused: true, submittedAt: at(0) });
    await makeRun(roles, { uid, ...own });
    expect([await byOperator.tell(waits), await byOperator.withdraw(uid)]).toEqual([false, false]);
    expect(await readState(roles.api, uid, scope)).toMatchObject({ state: 'accepted', queueReason: null, refused: false });
    expect(await readEvaluation(roles.api, uid, scope)).toMatchObject({ submittedBy: 'ada' });
    // Nor is there one for what the record has.
    const known = await makeRun(roles, own);
    expect(await byOperator.tell({ ...waits, uid: known.uid })).toBe(false);
    expect(await readSubmission(roles.api, known.uid, scope)).toBeUndefined();
  });

  test('what was deleted before the operator recorded it ends as withdrawn, once and only then', async () => {
    const own = namespace();
    await new NamespaceRepository(roles.operator).observe({ uid: own.namespaceUid, name: own.namespace });
    const [gone, there] = [randomUUID(), randomUUID()];
    const [byApi, byOperator] = [new SubmissionRepository(roles.api), new SubmissionRepository(roles.operator)];
    for (const uid of [gone, there]) await byApi.record({ uid, ...own, name: uid, submittedBy: 'ada' });
    await makeRun(roles, { uid: there, ...own });
    const open = await byOperator.listUnrecorded({ olderThanSeconds: 0 });
    expect(open.filter(({ namespaceUid }) => namespaceUid === own.namespaceUid).map(({ uid }) => uid)).toEqual([gone]);
    expect([await byOperator.withdraw(gone), await byOperator.withdraw(gone), await byOperator.withdraw(there)]).toEqual([true, false, false]);
    expect(await readState(roles.api, gone, [own.namespaceUid])).toMatchObject({ state: 'finished', verdict: { class: 'Cancelled', attributableTo: 'User' } });
  });

  test('a namespace made again under its name inherits nothing', async () => {
    const [first, second] = [namespace(), { ...namespace() }];
    second.namespace = first.namespace;
    const { uid } = await makeRun(roles, first);
    const present = async () => (await new NamespaceRepository(roles.api).current()).find(({ name }) => name === first.namespace)?.uid;
    expect(await present()).toBe(first.namespaceUid);
    await makeRun(roles, second);
    expect(await present()).toBe(second.namespaceUid);
    await new NamespaceRepository(roles.operator).observe({ uid: first.namespaceUid, name: first.namespace });
    expect(await present()).toBe(second.namespaceUid);
    expect(await uidsOf([second.namespaceUid], {})).not.toContain(uid);
    await new NamespaceRepository(roles.operator).end(second.namespaceUid);
    expect(await present()).toBeUndefined();
  });

  test('output by ranges, to the byte; artifacts by path; nothing out of scope', async () => {
    const own = namespace();
    const scope = [own.namespaceUid];
    const stdout = randomBytes(50_000);
    const artifacts = { 'out/a.txt': Buffer.from('a'), 'out/../../b': Buffer.from('bb') };
    const { uid } = await makeRun(roles, { ...own, stdout, artifacts, verdict: SUCCEEDED });
    for (const [offset, length] of [[0, 50_000], [1, 1], [49_999, 10], [50_000, 10], [20_000, 17]] as const) {
      const range = await readOutputRange(roles.api, { uid }, 'stdout', scope, { offset, length });
      expect(range).toMatchObject({ offset, totalBytes: 50_000, info: { attempt: 1, state: 'captured', complete: true } });
      expect(range!.data.equals(stdout.subarray(offset, offset + length))).toBe(true);
    }
    expect(await readOutputRange(roles.api, { uid, attempt: 2 }, 'stdout', scope)).toBeUndefined();
    expect((await listArtifacts(roles.api, { uid }, scope))?.map(({ path }) => path)).toEqual(Object.keys(artifacts));
    expect(await findArtifact(roles.api, { uid }, 'out/../../b', scope)).toMatchObject({ size: 2, deletedAt: null });
    expect(await findArtifact(roles.api, { uid }, 'b', scope)).toBeUndefined();
    const nobody = [randomUUID()];
    expect(await readOutputRange(roles.api, { uid }, 'stdout', nobody)).toBeUndefined();
    expect(await listArtifacts(roles.api, { uid }, nobody)).toBeUndefined();
    expect(await readEvaluation(roles.api, uid, nobody)).toBeUndefined();
    expect(await readComplete(roles.api, {}, uid, nobody)).toBeUndefined();
    expect(await listRunEvents(roles.api, uid, nobody)).toEqual([]);
  });

  test('all of it in one call, with a timeline in the order of time', async () => {
    const own = namespace();
    const { uid } = await makeRun(roles, { ...own, stdout: Buffer.from('hi\n'), verdict: SUCCEEDED, spec: { code: 'a\0b' } });
    const complete = await readComplete(roles.api, {}, uid, [own.namespaceUid]);
    expect(complete?.evaluation).toMatchObject({
      uid, spec: { code: 'a\0b' }, attempts: [{ number: 1, capture: { complete: true, receipt: { uid: 10000 }, streams: { stdout: { bytes: 3 } } } }],
    });
    expect(complete?.events.map(({ seq }) => seq)).toEqual(complete?.events.map((_, index) => index + 1));
    expect(complete?.events.map(({ type }) => type)).toEqual(await listRunEvents(roles.api, uid, 'all').then((all) => all.map(({ type }) => type)));
    const times = complete!.timeline.map(({ at: time }) => time.getTime());
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(complete?.timeline[0]).toMatchObject({ type: 'evaluation.created' });
    expect(complete?.timeline.map(({ message }) => message)).toContain('The output of attempt 1 is stored: 3 bytes of stdout, 0 of stderr, complete.');
    expect(complete?.timeline.filter(({ seq }) => seq !== null)).toHaveLength(complete?.events.length ?? -1);
  });
});

test('events over all runs: in order, of the scope only, and going on past those of others', async () => {
  const [mine, other] = [namespace(), namespace()];
  const { uid } = await makeRun(roles, { ...mine, stdout: Buffer.from('x\n'), verdict: SUCCEEDED });
  await makeRun(roles, other);
  const positions = new PositionRepository(roles.recorder);
  while ((await positions.assign()).assigned > 0);
  const seen: string[] = [];
  for (let position = 0; ; ) {
    const { events, last } = await listEventsAfter(roles.api, position, [mine.namespaceUid], 3);
    seen.push(...events.map(({ evaluationUid, seq }) => `${evaluationUid}/${seq}`));
    if (last === position) break;
    position = last;
  }
  expect(seen).toEqual((await listRunEvents(roles.api, uid, 'all')).map(({ seq }) => `${uid}/${seq}`));
  expect(await positions.last()).toBe((await listEventsAfter(roles.api, (await positions.last()) - 1, 'all')).last);
});

test('the queue: stages, reasons, and positions by fair share', async () => {
  const [busy, idle] = [namespace(), namespace()];
  const wait = async (own: typeof busy, name: string, seconds: number, priority = 0) =>
    (await makeRun(roles, { ...own, name, createdAt: at(seconds), spec: { priority } })).uid;
  for (let n = 0; n < 2; n += 1) await makeRun(roles, { ...busy, name: `runs-${n}`, stdout: Buffer.alloc(0) });
  const [i1, i2, high, low] = [await wait(idle, 'i1', 60), await wait(idle, 'i2', 61), await wait(busy, 'high', 70, 10), await wait(busy, 'low', 10)];
  const retrying = (await makeRun(roles, { ...idle, name: 'again' })).uid;
  const attempts = new AttemptRepository(roles.operator);
  await attempts.create(buildAttempt(retrying));
  const scope = [busy.namespaceUid, idle.namespaceUid];
  const queue = await readQueue(roles.api, scope);
  expect(queue.items.map(({ name, stage }) => `${stage} ${name}`).sort()).toEqual(
    ['Queued high', 'Queued i1', 'Queued i2', 'Queued low', 'Retrying again', 'Retrying runs-0', 'Retrying runs-1'],
  );
  expect([queue.waiting.Queued, queue.waiting.Retrying, queue.running]).toEqual([4, 3, 3]);
  const positions = new Map(queue.items.map(({ uid, position }) => [uid, position]));
  // idle holds 1 place and busy 2, so idle's first is next; then they are equal, and busy has waited longer.
  const ranks = [i1, high, i2, low].map((uid) => positions.get(uid)!);
  expect(ranks).toEqual([...ranks].sort((a, b) => a - b));
  const all = await readPositions(roles.api);
  expect([all.get(i1), all.has(retrying)]).toEqual([ranks[0], false]);
  await new EvaluationRepository(roles.operator).setPhase({ uid: retrying, phase: 'Starting', epoch: 1 });
  const alone = await readQueue(roles.api, [idle.namespaceUid]);
  expect(alone.items.map(({ name }) => name)).toEqual(['i1', 'i2', 'again']);
  expect(alone.items.map(({ position }) => position)).toEqual([ranks[0], ranks[2], null]);
  expect(alone.items[2]).toMatchObject({ stage: 'Starting' });
  // Priority is of the newest generation.
  await new EvaluationRepository(roles.operator).upsertAccepted(
    buildEvaluation({ ...idle, uid: i2, name: 'i2', generation: 2, spec: { priority: 5 }, createdAt: at(61) }),
  );
  expect((await readQueue(roles.api, [idle.namespaceUid])).items.map(({ name }) => name)).toEqual(['i2', 'i1', 'again']);
});

test('totals and the explorer: of the scope, as exact as the rows, also after retention', async () => {
  const [own, other] = [namespace(), namespace()];
  const scope = [own.namespaceUid];
  const spec = { code: 'x' };
  const specBytes = JSON.stringify(spec).length;
  const finished = { spec, stdout: Buffer.from('12345\n'), artifacts: { a: Buffer.from('abc') }, verdict: SUCCEEDED };
  const { uid } = await makeRun(roles, { ...own, ...finished, createdAt: at(1) });
  await makeRun(roles, { ...own, spec, createdAt: at(2) });
  await makeRun(roles, { ...other, ...finished });
  expect(await readStorageTotals(roles.api, undefined, scope)).toEqual({
    database: { evaluations: 2, bytes: 2 * specBytes + 6 }, file: { files: 1, bytes: 3 }, redis: null,
  });
  expect((await listDatabaseItems(roles.api, scope)).items.map(({ stdoutBytes, specBytes: bytes, artifacts }) => [stdoutBytes, bytes, artifacts]))
    .toEqual([[0, specBytes, 0], [6, specBytes, 1]]);
  expect((await listFileItems(roles.api, scope)).items).toMatchObject([{ uid, path: 'a', bytes: 3, attempt: 1 }]);
  await roles.owner.query(`ALTER TABLE crucible.evaluations DISABLE TRIGGER guard`);
  await roles.owner.query(`UPDATE crucible.evaluations SET finished_at = now() - interval '9 days' WHERE uid = $1`, [uid]);
  await roles.owner.query(`ALTER TABLE crucible.evaluations ENABLE TRIGGER guard`);
  const gone = (kind: 'output' | 'artifacts' | 'records') => expire(roles.recorder, { class: kind, days: 7, maxRuns: 10 });
  expect(await gone('output')).toBeGreaterThan(0);
  expect((await readStorageTotals(roles.api, undefined, scope)).database).toEqual({ evaluations: 2, bytes: 2 * specBytes });
  expect(await readOutputRange(roles.api, { uid }, 'stdout', scope)).toMatchObject({ data: Buffer.alloc(0), info: { bytes: 6, deletedAt: expect.any(Date) as Date } });
  await gone('artifacts');
  expect((await listFileItems(roles.api, scope)).items).toEqual([]);
  await gone('records');
  expect(await readStorageTotals(roles.api, undefined, scope)).toMatchObject({ database: { evaluations: 1, bytes: specBytes }, file: { files: 0, bytes: 0 } });
  const left = await roles.owner.query('SELECT FROM crucible.evaluation_labels WHERE namespace_uid = $1', [own.namespaceUid]);
  expect(left.rowCount).toBe(1);
});
