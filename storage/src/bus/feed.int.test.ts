import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect } from '../database.ts';
import { EventRepository } from '../events.ts';
import { toCloudEvent } from './cloud-event.ts';
import type { CloudEvent } from './cloud-event.ts';
import { EventFeed } from './feed.ts';
import type { FeedEvent, FeedPage, FeedReader } from './subscription.ts';
import { TestRedis, serversHere } from './testing/redis.ts';
import { BusWorld, eventually } from './testing/world.ts';

let world: BusWorld;
beforeEach(async () => void (world = await BusWorld.create()));
afterEach(() => world.close());

function feed(url: string | undefined, keep?: number): EventFeed {
  const database = connect(world.dsns.api);
  const made = new EventFeed({ database, redis: url === undefined ? undefined : world.client(url), ...(keep !== undefined && { keep }) });
  made.start();
  world.later(() => made.stop().then(() => database.close()));
  return made;
}

/** Reads at its own pace; `positions` is what it got. */
class Reader implements FeedReader {
  readonly events: CloudEvent[] = [];
  readonly #pace: () => Promise<unknown>;

  constructor(source: EventFeed, after = 0, pace: () => Promise<unknown> = () => Promise.resolve()) {
    this.#pace = pace;
    const subscription = source.subscribe(after, this);
    world.later(() => subscription.close());
  }

  get positions(): number[] {
    return this.events.map(({ position }) => Number(position));
  }

  wanted(): boolean {
    return true;
  }

  async replay(after: number, upTo: number): Promise<FeedPage> {
    const rows = await world.positions.after(after, 50);
    const events = rows.map((row) => ({ position: row.position, event: toCloudEvent(row) }));
    return { events, seen: events.at(-1)?.position ?? upTo };
  }

  async take(events: readonly FeedEvent[]): Promise<boolean> {
    for (const { event } of events) {
      this.events.push(event);
      await this.#pace();
    }
    return true;
  }

  ended(error?: unknown): void {
    if (error !== undefined) throw error;
  }
}

const upTo = (last: number, from = 1): number[] => Array.from({ length: last - from + 1 }, (_, index) => from + index);

describe.each(serversHere())('with $kind', ({ program }) => {
  let server: TestRedis;
  beforeAll(async () => void (server = await TestRedis.start(program)));
  afterAll(() => server.kill());
  // After the world before is closed: until then its relay writes anew what is flushed.
  beforeEach(async () => void (await (await world.ready(server.url)).flushall()));

  test('every reader gets every event once and in order: early, late, come back, too slow for what is kept; Redis killed and flushed meanwhile', async () => {
    world.relay(server.url);
    const source = feed(server.url, 20);
    const early = new Reader(source);
    const slow = new Reader(source, 0, () => new Promise((resolve) => setTimeout(resolve, 3)));
    await world.load(4, 20);
    await server.kill();
    await world.load(4, 10);
    await server.start();
    await world.load(4, 10);
    const redis = await world.ready(server.url);
    await redis.flushall();
    await world.load(4, 10);
    const count = await world.count();
    const late = new Reader(source);
    const back = new Reader(source, 50);
    await eventually(() => expect(early.positions).toEqual(upTo(count)));
    await eventually(() => expect([slow, late].map(({ positions }) => positions)).toEqual([upTo(count), upTo(count)]));
    await eventually(() => expect(back.positions).toEqual(upTo(count, 51)));
    expect(early.events.map(({ id }) => id)).toEqual((await world.allRows()).map(({ evaluationUid, seq }) => `${evaluationUid}/${seq}`));
  });

  test('a Redis that answers and gets no events is not believed for long', async () => {
    world.relay(undefined);
    await world.ready(server.url);
    const reader = new Reader(feed(server.url));
    await world.load(2, 5);
    await eventually(async () => expect(reader.positions).toEqual(upTo(await world.count())));
    // Now that nobody reads anew: only the feed can find it.
    await world.append(await world.accept());
    await eventually(async () => expect(reader.positions).toEqual(upTo(await world.count())));
  });

  test('it has begun when it has read what was there, although the stream was flushed', async () => {
    const uid = await world.accept();
    const events = new EventRepository(world.operator);
    // More than it reads at once.
    await world.operator.transaction(async (tx) => {
      for (let n = 0; n < 1_200; n += 1) await events.append(tx, uid, { type: 'test.happened', data: { n } });
    });
    while ((await world.positions.waiting()) > 0) await world.positions.assign();
    await world.ready(server.url);
    const source = feed(server.url);
    await source.begun;
    expect(source.head).toBe(await world.count());
  });

  test('what is missing in the stream comes from Postgres', async () => {
    world.relay(server.url);
    const uid = await world.accept();
    await world.append(uid);
    const redis = await world.ready(server.url);
    await eventually(async () => expect(await redis.xlen('crucible:events')).toBe(2));
    const source = feed(server.url);
    const reader = new Reader(source, 2);
    await eventually(() => world.append(uid).then(() => expect(reader.events.length).toBeGreaterThan(0)));
    // Taken out of the stream before anybody saw it, as trimming would.
    await redis.eval("redis.call('XADD', KEYS[1], ARGV[1], 'event', ARGV[2])", 1, 'crucible:events', '1000-0', JSON.stringify({ ...reader.events[0], position: '1000' }));
    await world.append(uid);
    await eventually(async () => expect(reader.positions).toEqual(upTo(await world.count(), 3)));
  });
});

test('without Redis Postgres tells, and nothing comes twice', async () => {
  world.relay(undefined);
  const source = feed(undefined);
  const readers = [new Reader(source), new Reader(source)];
  await world.load(4, 20);
  const count = await world.count();
  await eventually(() => expect(readers.map(({ positions }) => positions)).toEqual([upTo(count), upTo(count)]));
});

test('who has seen what this record never had goes on at its end', async () => {
  world.relay(undefined);
  const source = feed(undefined);
  await world.load(1, 5);
  const count = await world.count();
  await eventually(() => expect(source.head).toBe(count));
  expect([await source.resume(2), await source.resume(count), await source.resume(10 * count)]).toEqual([2, count, count]);
  // One that has read nothing yet asks the record how far it is.
  const young = feed(undefined);
  expect([young.head, await young.resume(count)]).toEqual([0, count]);
});
