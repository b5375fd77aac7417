import { randomUUID } from 'node:crypto';
import { NamespaceRepository, connect } from '@crucible/storage';
import type { Database } from '@crucible/storage';
import { prepareDatabase } from '@crucible/storage/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../test/integration/database.ts';
import type { Namespace } from './objects.ts';
import { Registry } from './registry.ts';

let made: TestDatabase;
let database: Database;
let owner: Database;
beforeAll(async () => {
  made = await createDatabase('registry');
  const dsns = await prepareDatabase(made.dsn);
  database = connect(dsns.operator);
  owner = connect(dsns.owner);
});
afterAll(async () => {
  await Promise.all([database?.close(), owner?.close()]);
  await made?.drop();
});

const namespace = (name: string, uid: string, enabled: boolean): Namespace => ({
  apiVersion: 'v1', kind: 'Namespace', metadata: { name, uid, labels: enabled ? { 'crucible.dev/evaluations': 'enabled' } : {} },
});

test('a namespace is gone when it is not there any more, not when it is only disabled for a while', async () => {
  let list: Namespace[] = [];
  const start = () => new Registry({ database, namespaces: { list: () => list }, known: () => false, isGone: async () => true, notAdmitted: () => [], now: Date.now });
  const present = async () => (await new NamespaceRepository(database).current()).map(({ uid }) => uid).sort();
  const [a, b, again] = [randomUUID(), randomUUID(), randomUUID()];
  const registry = start();
  const tell = async (...now: Namespace[]) => {
    list = now;
    await registry.tellNamespaces();
    return await present();
  };
  expect(await tell(namespace('a', a, true), namespace('b', b, true), namespace('never', randomUUID(), false))).toEqual([a, b].sort());
  expect(await tell(namespace('a', a, false), namespace('b', b, true))).toEqual([a, b].sort());
  expect(await tell(namespace('a', a, true), namespace('b', b, true))).toEqual([a, b].sort());
  expect(await tell(namespace('a', again, true))).toEqual([again]);
  // What went while nobody looked is found by the next operator.
  list = [namespace('c', randomUUID(), false)];
  await start().tellNamespaces();
  expect(await present()).toEqual([]);
});

test('a submission that is gone is settled, however many are refused, and what nobody was told of is told', async () => {
  const submit = async (count: number): Promise<string[]> => {
    const { rows } = await owner.query<{ uid: string }>(
      `INSERT INTO crucible.submissions (uid, namespace, namespace_uid, name, submitted_by, submitted_at)
       SELECT gen_random_uuid(), 'evals', gen_random_uuid(), 'run-' || n, 'somebody', now() - interval '1 hour' FROM generate_series(1, $1::int) n
       RETURNING uid`,
      [count],
    );
    return rows.map(({ uid }) => uid);
  };
  const refused = new Set(await submit(2100));
  const gone = await submit(3);
  // In the cluster, and our watch has not heard of it.
  const [unheard] = await submit(1);
  const why = { reason: 'RuntimeNotFound', message: 'There is none.' };
  // Applied to the cluster while the record was away.
  const applied = randomUUID();
  const known = (uid: string): boolean => refused.has(uid) || uid === applied;
  const of = { namespace: 'evals', namespaceUid: randomUUID(), name: 'x', createdAt: new Date(), ...why, refused: true };
  const isGone = async ({ uid }: { uid: string }): Promise<boolean> => uid !== unheard;
  const notAdmitted = () => [...refused, applied].map((uid) => ({ uid, ...of }));
  const registry = new Registry({ database, namespaces: { list: () => [] }, known, isGone, notAdmitted, now: Date.now });
  await registry.settleSubmissions();
  const states = 'SELECT state, reason, count(*)::int AS count FROM crucible.submissions GROUP BY state, reason ORDER BY state, reason';
  expect((await owner.query(states)).rows).toEqual([
    { state: 'submitted', reason: why.reason, count: refused.size + 1 },
    { state: 'submitted', reason: null, count: 1 },
    { state: 'withdrawn', reason: null, count: gone.length },
  ]);
}, 60_000);
