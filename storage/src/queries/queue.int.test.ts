import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../../test/integration/database.ts';
import type { TestDatabase } from '../../../test/integration/database.ts';
import { random } from '../../../test/faults/seed.ts';
import { AttemptRepository } from '../attempts.ts';
import { EvaluationRepository } from '../evaluations.ts';
import type { Waits } from '../evaluations.ts';
import { grantOrder } from '../queue-order.ts';
import type { QueueLimits, Share } from '../queue-order.ts';
import { buildAttempt, prepareDatabase } from '../testing.ts';
import { readState } from './evaluation-detail.ts';
import { readPositions, readQueue } from './queue.ts';
import { connectRoles, makeRun } from './testing.ts';

let database: TestDatabase;
let roles: ReturnType<typeof connectRoles>;

beforeAll(async () => {
  database = await createDatabase('queue');
  roles = connectRoles(await prepareDatabase(database.dsn));
});
afterAll(async () => {
  await roles?.close();
  await database?.drop();
});

const at = (seconds: number): Date => new Date(Date.UTC(2026, 0, 2) + seconds * 1000);

/** As the operator sees it: everything that waits, what each namespace holds, and the order that follows. */
async function orderOfTheOperator(limits: QueueLimits): Promise<string[]> {
  const waiting = await roles.owner.query<{ uid: string; namespace: string; name: string; priority: number; created: Date }>(
    `SELECT uid, namespace, name, priority, created_at AS created FROM crucible.evaluations WHERE finished_at IS NULL AND attempts = 0`,
  );
  const held = await roles.owner.query<{ name: string; running: number; last: Date | null }>(
    `SELECT n.name, u.last_grant_at AS last, (SELECT count(*) FROM crucible.evaluations e
       WHERE e.namespace_uid = n.uid AND e.finished_at IS NULL AND e.attempts > 0) AS running
     FROM crucible.namespaces n JOIN crucible.namespace_usage u ON u.namespace_uid = n.uid`,
  );
  const shares: Record<string, Share> = {};
  for (const { name, running, last } of held.rows) {
    const before = shares[name] ?? { running: 0, lastGrantAt: 0 };
    shares[name] = { running: before.running + running, lastGrantAt: Math.max(before.lastGrantAt, last?.getTime() ?? 0) };
  }
  return grantOrder(waiting.rows.map((row) => ({ ...row, createdAt: row.created.getTime() })), shares, limits).map(({ uid }) => uid);
}

test('positions are those of the order in which the operator gives places, whatever runs, waits and is limited', async () => {
  const next = random(20_261_126);
  const below = (limit: number): number => Math.floor(next() * limit);
  const spaces = Array.from({ length: 7 }, (_, n) => ({ namespace: `team-${n}`, namespaceUid: randomUUID() }));
  // A namespace that was deleted and made anew counts as one.
  spaces.push({ namespace: 'team-0', namespaceUid: randomUUID() });
  for (let round = 0; round < 6; round += 1) {
    for (let n = 0; n < 25; n += 1) {
      const own = spaces[below(spaces.length)]!;
      const run = { ...own, name: `run-${below(5)}-${round}-${n}`, createdAt: at(below(10)), spec: { priority: below(3) } };
      const { uid } = await makeRun(roles, run);
      if (next() < 0.35) await new AttemptRepository(roles.operator).create(buildAttempt(uid));
    }
    const namespaces = Object.fromEntries(spaces.flatMap(({ namespace }) => (next() < 0.6 ? [[namespace, below(8)]] : [])));
    const limits = { total: 10, namespaces };
    const expected = await orderOfTheOperator(limits);
    const { items, waiting } = await readQueue(roles.api, 'all', limits);
    const seen = items.filter(({ position }) => position !== null);
    expect(seen.map(({ uid }) => uid), JSON.stringify(namespaces)).toEqual(expected);
    expect(seen.map(({ position }) => position)).toEqual(expected.map((_, index) => index + 1));
    expect(waiting.Queued).toBe(expected.length);
    expect(await readPositions(roles.api, limits)).toEqual(new Map(expected.map((uid, index) => [uid, index + 1])));
  }
});

test('what Kueue holds back waits for Kueue, with its reason and without a position', async () => {
  const own = { namespace: 'kueue', namespaceUid: randomUUID() };
  const { uid } = await makeRun(roles, { ...own, name: 'held' });
  await new AttemptRepository(roles.operator).create(buildAttempt(uid));
  const queue = { reason: 'KueuePending', message: 'couldn\'t assign flavors to pod set main' };
  await new EvaluationRepository(roles.operator).setQueue({ uid, queue, epoch: 1 });
  const held = await readQueue(roles.api, [own.namespaceUid]);
  expect(held.items).toMatchObject([{ name: 'held', stage: 'Queued', position: null, ...queue }]);
  expect(held.waiting).toEqual({ Submitted: 0, Queued: 1, Retrying: 0, Starting: 0 });
  await new EvaluationRepository(roles.operator).setPhase({ uid, phase: 'Starting', epoch: 1 });
  expect((await readQueue(roles.api, [own.namespaceUid])).items).toMatchObject([{ name: 'held', stage: 'Starting' }]);
});

test('what is refused after it was recorded is in nobody\'s way, and says what has to change', async () => {
  const own = { namespace: 'refused', namespaceUid: randomUUID() };
  const scope = [own.namespaceUid];
  const [gone, next] = [await makeRun(roles, { ...own, name: 'gone' }), await makeRun(roles, { ...own, name: 'next' })];
  const operator = new EvaluationRepository(roles.operator);
  const say = async (queue: Waits | undefined) => await operator.setQueue({ uid: gone.uid, queue, epoch: 1 });
  const why = { reason: 'RuntimeNotFound', message: 'There is none.' };
  const before = await readPositions(roles.api);
  expect((await say({ ...why, refused: true })).changed).toBe(true);
  const after = await readPositions(roles.api);
  expect([after.has(gone.uid), after.get(next.uid)!]).toEqual([false, before.get(next.uid)! - 1]);
  const { items, waiting } = await readQueue(roles.api, scope);
  expect(items.map(({ uid, stage, reason }) => [uid, stage, reason])).toEqual([[next.uid, 'Queued', null], [gone.uid, 'Submitted', why.reason]]);
  expect(waiting).toMatchObject({ Submitted: 1, Queued: 1 });
  expect(await readState(roles.api, gone.uid, scope)).toMatchObject({ state: 'accepted', refused: true, queueReason: why.reason });
  expect((await say({ ...why, refused: false })).changed).toBe(true);
  expect((await readPositions(roles.api)).has(gone.uid)).toBe(true);
  await say({ ...why, refused: true });
  await operator.setPhase({ uid: gone.uid, phase: 'Starting', epoch: 1 });
  expect(await readState(roles.api, gone.uid, scope)).toMatchObject({ refused: false });
});

test('of more than are shown all are counted, in every stage', async () => {
  const spaces = Array.from({ length: 5 }, (_, n) => ({ namespace: `crowd-${n}`, namespaceUid: randomUUID() }));
  const uids = spaces.map(({ namespaceUid }) => namespaceUid);
  for (const { namespace, namespaceUid } of spaces)
    await roles.owner.query(
      `INSERT INTO crucible.submissions (uid, namespace, namespace_uid, name, submitted_by)
       SELECT gen_random_uuid(), $1, $2, 'run-' || n, 'ann' FROM generate_series(1, 510) n`, [namespace, namespaceUid]);
  const { uid } = await makeRun(roles, { ...spaces[4]!, name: 'again' });
  await new AttemptRepository(roles.operator).create(buildAttempt(uid));
  const { items, waiting, running } = await readQueue(roles.api, uids);
  expect([waiting, running]).toEqual([{ Submitted: 5 * 510, Queued: 0, Retrying: 1, Starting: 0 }, 1]);
  expect(items.length).toBeLessThan(5 * 510);
  expect((await readQueue(roles.api, [uids[0]!])).waiting.Submitted).toBe(510);
});
