import { expect, test } from 'vitest';
import type { CloudEvent } from './cloud-event.ts';
import { Subscription, type FeedEvent, type FeedMemory, type FeedReader } from './subscription.ts';

const event = (position: number): FeedEvent => ({ position, event: { position: String(position) } as CloudEvent });

/** Remembers all of them, or only the newest. */
class Memory implements FeedMemory {
  head = 0;
  first = 1;

  after(position: number): FeedEvent[] | undefined {
    if (position + 1 < this.first) return undefined;
    return Array.from({ length: Math.max(0, this.head - position) }, (_, index) => event(position + 1 + index));
  }
}

function world(take: (events: readonly FeedEvent[]) => Promise<boolean> = async () => true, more: Partial<FeedReader> = {}) {
  const memory = new Memory();
  const got: number[] = [];
  const ended: unknown[] = [];
  const among = new Set<Subscription>();
  const subscription = new Subscription(memory, 0, {
    wanted: () => true,
    replay: async () => { throw new Error('everything is remembered'); },
    take: (events) => (got.push(...events.map(({ position }) => position)), take(events)),
    ended: (error) => void ended.push(error),
    ...more,
  }, among);
  const come = (head: number): void => {
    memory.head = head;
    subscription.wake();
  };
  return { memory, got, ended, among, subscription, come };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test('what comes while a reader takes is told once and in order, whenever it comes', async () => {
  // One of them falls between the last look and the wait.
  for (let turns = 0; turns < 12; turns += 1) {
    const { got, come } = world();
    come(1);
    for (let turn = 0; turn < turns; turn += 1) await undefined;
    come(2);
    come(3);
    await settled();
    expect([turns, ...got]).toEqual([turns, 1, 2, 3]);
  }
});

test('who takes slowly is told nothing meanwhile', async () => {
  const taken = Promise.withResolvers<boolean>();
  const { got, come } = world(() => taken.promise);
  come(1);
  come(2);
  await settled();
  expect(got).toEqual([1]);
  taken.resolve(true);
  await settled();
  expect(got).toEqual([1, 2]);
});

test('what is not wanted is passed over, and what is not remembered is read', async () => {
  const replayed: number[][] = [];
  const { got, memory, come } = world(undefined, {
    wanted: ({ position }) => Number(position) % 2 === 0,
    replay: async (after, upTo) => (replayed.push([after, upTo]), { events: [event(2)], seen: 3 }),
  });
  memory.first = 4;
  come(6);
  await settled();
  expect([replayed, got]).toEqual([[[0, 6]], [2, 4, 6]]);
});

test('a reader that has enough, one that cannot be told and one that is closed each end once, and hear no more', async () => {
  const broken = new Error('Postgres is away');
  const enough = world(async () => false);
  const away = world(async () => Promise.reject(broken));
  const closed = world();
  for (const { come } of [enough, away]) come(1);
  closed.subscription.close();
  await settled();
  for (const { come, subscription } of [enough, away, closed]) {
    come(5);
    subscription.close();
  }
  await settled();
  expect([enough, away, closed].map(({ got, ended, among }) => [got, ended, among.size])).toEqual([[[1], [undefined], 0], [[1], [broken], 0], [[], [undefined], 0]]);
});
