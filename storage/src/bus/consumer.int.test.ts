import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Redis } from 'ioredis';
import type { CloudEvent } from './cloud-event.ts';
import { EventConsumer, type EventConsumerOptions } from './consumer.ts';
import { EVENT_STREAM, listDeadLetters } from './stream.ts';
import { TestRedis } from './testing/redis.ts';
import { BusWorld, eventually, type Recording } from './testing/world.ts';

let world: BusWorld;
let server: TestRedis;
let redis: Redis;
let saw: Recording;

/** What an idempotent consumer makes of what it gets: its effects, and how often it was asked. */
class Ledger {
  readonly effects = new Map<string, number>();
  readonly order: CloudEvent[] = [];
  asked = 0;
  handle = (event: CloudEvent): Promise<void> => {
    this.asked += 1;
    if (!this.effects.has(event.id)) this.order.push(event);
    this.effects.set(event.id, Number(event.position));
    return Promise.resolve();
  };
}

beforeEach(async () => {
  [world, server] = await Promise.all([BusWorld.create(), TestRedis.start()]);
  redis = await world.ready(server.url);
});

afterEach(async () => {
  await world.close();
  await server.kill();
});

function relay(settings: Parameters<BusWorld['relay']>[1] = {}): { stop: () => Promise<void> } {
  const running = world.relay(server.url, settings);
  saw = running.saw;
  return running;
}

function consumer(consumer: string, handle: EventConsumerOptions['handle'], options: Partial<EventConsumerOptions> = {}): EventConsumer {
  const made = new EventConsumer({
    redis: world.client(server.url), group: 'test', consumer, handle, archive: world.positions, claimIdleMilliseconds: 300, ...options,
  });
  made.start();
  world.later(() => made.stop());
  return made;
}

async function expectAllHandled(ledger: Ledger): Promise<void> {
  const rows = await world.allRows();
  await eventually(() => expect(ledger.effects.size).toBeGreaterThanOrEqual(rows.length));
  const expected = rows.map((row) => [`${row.evaluationUid}/${row.seq}`, row.position]);
  expect([...ledger.effects].sort((a, b) => a[1] - b[1])).toEqual(expected);
}

test('one consumer gets every event once, in order, while they are written', async () => {
  relay();
  const ledger = new Ledger();
  consumer('a', ledger.handle);
  await world.load(10, 20);
  await expectAllHandled(ledger);
  expect(ledger.order.map(({ position }) => Number(position))).toEqual([...ledger.effects.values()].sort((a, b) => a - b));
  expect(ledger.asked).toBe(ledger.effects.size);
  await eventually(async () => expect((await redis.xpending(EVENT_STREAM, 'test'))[0]).toBe(0));
});

test('members of a group share the events', async () => {
  relay();
  const [a, b, all] = [new Ledger(), new Ledger(), new Ledger()];
  consumer('a', (event) => Promise.all([a.handle(event), all.handle(event)]).then(() => undefined), { batch: 3 });
  consumer('b', (event) => Promise.all([b.handle(event), all.handle(event)]).then(() => undefined), { batch: 3 });
  await world.load(10, 20);
  await expectAllHandled(all);
  expect(Math.min(a.effects.size, b.effects.size)).toBeGreaterThan(0);
});

test('what a consumer had when it died, another one takes over', async () => {
  relay();
  await world.load(5, 10);
  await world.expectWhole(redis);
  // Exactly what a member that was killed leaves behind: delivered, never acknowledged.
  await redis.xgroup('CREATE', EVENT_STREAM, 'test', '0');
  await redis.xreadgroup('GROUP', 'test', 'dead', 'COUNT', 15, 'STREAMS', EVENT_STREAM, '>');
  const ledger = new Ledger();
  consumer('alive', ledger.handle);
  await expectAllHandled(ledger);
  await eventually(async () => expect((await redis.xpending(EVENT_STREAM, 'test'))[0]).toBe(0));
  expect(await listDeadLetters(redis)).toEqual([]);
});

test('what had been delivered and was trimmed before it could be taken over comes from Postgres', async () => {
  relay();
  await world.load(5, 10);
  await world.expectWhole(redis);
  await redis.xgroup('CREATE', EVENT_STREAM, 'test', '0');
  await redis.xreadgroup('GROUP', 'test', 'dead', 'COUNT', 15, 'STREAMS', EVENT_STREAM, '>');
  await redis.xtrim(EVENT_STREAM, 'MINID', '=', '11-0');
  const ledger = new Ledger();
  consumer('alive', ledger.handle);
  await expectAllHandled(ledger);
  await eventually(async () => expect((await redis.xpending(EVENT_STREAM, 'test'))[0]).toBe(0));
});

test('what was trimmed before a slow group had it comes from Postgres', async () => {
  relay({ streamLength: 100 });
  await world.load(2, 5);
  const first = new Ledger();
  const early = consumer('a', first.handle);
  await expectAllHandled(first);
  await early.stop();
  await world.load(10, 60);
  const last = (await world.allRows()).length;
  await eventually(async () => expect((await redis.xrevrange(EVENT_STREAM, '+', '-', 'COUNT', 1))[0]?.[0]).toBe(`${last}-0`));
  expect(Number((await redis.xrange(EVENT_STREAM, '-', '+', 'COUNT', 1))[0]?.[0].split('-')[0])).toBeGreaterThan(first.effects.size + 1);
  consumer('b', first.handle);
  await expectAllHandled(first);
  expect(first.asked).toBe(last);
});

test('Redis is flushed and loses the group: everything since its own mark comes again, the rest from Postgres', async () => {
  relay({ streamLength: 100 });
  const ledger = new Ledger();
  consumer('a', ledger.handle, { start: () => Promise.resolve(Math.max(0, ledger.order.length - 10)) });
  for (let round = 0; round < 3; round += 1) {
    await world.load(5, 20);
    await redis.flushall();
  }
  await world.load(5, 60);
  await expectAllHandled(ledger);
  const { rewrites } = saw;
  expect(rewrites).toBeGreaterThan(0);
});

test('an operator takes the group away, then the stream: each time every event is handled again', async () => {
  relay();
  const ledger = new Ledger();
  consumer('a', ledger.handle);
  await world.load(5, 10);
  await expectAllHandled(ledger);
  const { asked, effects } = ledger;
  await redis.xgroup('DESTROY', EVENT_STREAM, 'test');
  await eventually(() => expect(ledger.asked).toBe(asked + effects.size));
  await redis.del(EVENT_STREAM);
  await eventually(() => expect(ledger.asked).toBe(asked + 2 * effects.size));
});

test('Redis is killed and comes back empty, with nothing remembered: every event is handled again', async () => {
  const troubles: (string | undefined)[] = [];
  relay();
  const ledger = new Ledger();
  consumer('a', ledger.handle, { onTrouble: (reason) => troubles.push(reason) });
  await world.load(5, 10);
  await expectAllHandled(ledger);
  const { asked } = ledger;
  await server.kill();
  await world.load(5, 10);
  await eventually(() => expect(troubles.at(-1)).toBe('unreachable'));
  await server.start();
  await expectAllHandled(ledger);
  expect(ledger.asked).toBe(asked + ledger.effects.size);
});

test('what fails and fails becomes a dead letter that says why; what fails once does not', async () => {
  relay();
  const ledger = new Ledger();
  const uid = await world.accept();
  for (const n of [1, 2, 3]) await world.append(uid, { n });
  const tries = new Map<unknown, number>();
  const handle = async (event: CloudEvent): Promise<void> => {
    const { n } = event.data;
    tries.set(n, (tries.get(n) ?? 0) + 1);
    if (n === 2 || (n === 3 && tries.get(n) === 1)) throw new Error(`cannot handle ${String(n)}`);
    await ledger.handle(event);
  };
  consumer('a', handle, { maxDeliveries: 3, claimIdleMilliseconds: 50 });
  await eventually(async () => expect(await listDeadLetters(redis)).toHaveLength(1));
  const [letter] = await listDeadLetters(redis);
  expect(letter).toMatchObject({ group: 'test', consumer: 'a', deliveries: 3, error: 'Error: cannot handle 2' });
  expect(JSON.parse(letter?.event ?? '')).toMatchObject({ subject: uid, sequence: '3', data: { n: 2 } });
  await eventually(() => expect(ledger.effects.size).toBe(3));
  expect([...tries]).toEqual([[undefined, 1], [1, 1], [2, 3], [3, 2]]);
  await eventually(() => expect(saw.dead).toBe(1));
  expect((await redis.xpending(EVENT_STREAM, 'test'))[0]).toBe(0);
});

test('an entry that is no event is a dead letter at once, and nobody waits behind it', async () => {
  const { stop } = relay();
  await world.accept();
  await world.expectWhole(redis);
  await stop();
  await redis.xadd(EVENT_STREAM, '2-0', 'event', '{"n":');
  const ledger = new Ledger();
  consumer('a', ledger.handle);
  await eventually(async () => expect((await listDeadLetters(redis)).map(({ id, event }) => [id, event])).toEqual([['2-0', '{"n":']]));
  expect(ledger.effects.size).toBe(1);
  expect((await redis.xpending(EVENT_STREAM, 'test'))[0]).toBe(0);
});

test('what cannot be handled on the way from Postgres is a dead letter too', async () => {
  relay({ streamLength: 100 });
  const ledger = new Ledger();
  await world.load(5, 60);
  await eventually(async () => expect((await redis.xrange(EVENT_STREAM, '-', '+', 'COUNT', 1))[0]?.[0]).toMatch(/^\d{2,}-0$/));
  const handle = async (event: CloudEvent): Promise<void> => {
    if (event.position === '7') throw new Error('cannot');
    await ledger.handle(event);
  };
  consumer('a', handle, { maxDeliveries: 2 });
  const { length } = await world.allRows();
  await eventually(() => expect(ledger.effects.size).toBe(length - 1));
  expect(await listDeadLetters(redis)).toMatchObject([{ id: '7-0', deliveries: 2, error: 'Error: cannot' }]);
});
