import { UnavailableError } from '@crucible/storage';
import { expect, test } from 'vitest';
import { RecordReader } from './record-reader.ts';
import { NOW, at, rawEvaluation } from './testing/builders.ts';

const RECORD = { evaluation: undefined, attempts: [], capture: undefined };

/** A Postgres whose answers come when the test says so. */
class Slow {
  readonly open: PromiseWithResolvers<typeof RECORD>[] = [];

  async withEvaluation(): Promise<typeof RECORD> {
    const answer = Promise.withResolvers<typeof RECORD>();
    this.open.push(answer);
    return await answer.promise;
  }

  away(): void {
    this.open.shift()!.reject(new UnavailableError('silent'));
  }

  back(): void {
    this.open.shift()!.resolve(RECORD);
  }
}

test('while the record does not answer one waits for it, and the others are told', async () => {
  const slow = new Slow();
  let now = 1000;
  const reader = new RecordReader(slow, () => now);
  const first = [reader.read('a'), reader.read('b')];
  expect(slow.open).toHaveLength(2);
  slow.away();
  slow.away();
  expect([await Promise.all(first), reader.unavailableSince]).toEqual([['unavailable', 'unavailable'], 1000]);

  now = 9000;
  const probe = reader.read('a');
  expect([await reader.read('b'), await reader.read('c'), slow.open.length]).toEqual(['unavailable', 'unavailable', 1]);
  slow.away();
  expect([await probe, reader.unavailableSince]).toEqual(['unavailable', 1000]);

  const next = reader.read('b');
  expect(slow.open).toHaveLength(1);
  slow.back();
  expect([await next, reader.unavailableSince]).toEqual([RECORD, undefined]);
  const all = [reader.read('a'), reader.read('b')];
  expect(slow.open).toHaveLength(2);
  slow.back();
  slow.back();
  expect(await Promise.all(all)).toEqual([RECORD, RECORD]);
});

test('what is wrong with the record itself is nobody\'s absence', async () => {
  const reader = new RecordReader({ withEvaluation: async () => await Promise.reject(new Error('no such column')) }, () => 0);
  await expect(reader.read('a')).rejects.toThrow('no such column');
  expect(reader.unavailableSince).toBeUndefined();
});

test('what nothing has touched is not asked about, once, while the record answers', async () => {
  const slow = new Slow();
  const clock = { now: NOW };
  const reader = new RecordReader(slow, () => clock.now);
  const raw = (metadata: object, spec = {}, more = {}) => rawEvaluation(spec, { metadata: { creationTimestamp: at(0), ...metadata }, ...more });
  const home = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'evals' } };
  expect(reader.isNew(raw({ uid: 'a' }), home)).toBe(false);
  const asked = reader.read('a');
  slow.back();
  await asked;
  const touched = [
    raw({ uid: 'b', generation: 2 }), raw({ uid: 'b', finalizers: ['crucible.dev/capture'] }), raw({ uid: 'b', deletionTimestamp: at(0) }),
    raw({ uid: 'b', creationTimestamp: at(-5) }), raw({ uid: 'b' }, { cancel: true }), raw({ uid: 'b' }, {}, { status: { phase: 'Queued' } }),
  ];
  expect(touched.filter((one) => reader.isNew(one, home))).toEqual([]);
  const goes = { ...home, metadata: { deletionTimestamp: at(0) } };
  expect([goes, undefined].filter((one) => reader.isNew(raw({ uid: 'b' }), one))).toEqual([]);
  expect([reader.isNew(raw({ uid: 'b' }), home), reader.isNew(raw({ uid: 'b' }), home), reader.isNew(raw({ uid: 'c' }), home)]).toEqual([true, false, true]);
  clock.now += 999;
  const again = reader.read('b');
  slow.back();
  await again;
  // It was asked about, and nobody remembers it: how many there are does not grow.
  expect(reader.isNew(raw({ uid: 'b' }), home)).toBe(true);
  const away = reader.read('d');
  slow.away();
  await away;
  expect(reader.isNew(raw({ uid: 'd' }), home)).toBe(false);
  const back = reader.read('d');
  slow.back();
  await back;
  clock.now += 1000;
  expect(reader.isNew(raw({ uid: 'd' }), home)).toBe(false);
});
