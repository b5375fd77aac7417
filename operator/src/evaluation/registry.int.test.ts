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
beforeAll(async () => {
  made = await createDatabase('registry');
  database = connect((await prepareDatabase(made.dsn)).operator);
});
afterAll(async () => {
  await database?.close();
  await made?.drop();
});

const namespace = (name: string, uid: string, enabled: boolean): Namespace => ({
  apiVersion: 'v1', kind: 'Namespace', metadata: { name, uid, labels: enabled ? { 'crucible.dev/evaluations': 'enabled' } : {} },
});

test('a namespace is gone when it is not there any more, not when it is only disabled for a while', async () => {
  let list: Namespace[] = [];
  const start = () => new Registry({ database, namespaces: { list: () => list }, known: () => false, refusal: () => undefined, now: Date.now });
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
