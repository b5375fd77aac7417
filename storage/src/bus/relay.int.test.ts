import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isPending, pendingKey } from '../redis/pending.ts';
import { EVENT_STREAM } from './stream.ts';
import { FaultyProxy, TestRedis } from './testing/redis.ts';
import { BusWorld, entries, eventually, type Recording } from './testing/world.ts';

let world: BusWorld;
let redis: TestRedis;

beforeEach(async () => {
  [world, redis] = await Promise.all([BusWorld.create(), TestRedis.start()]);
});

afterEach(async () => {
  redis.thaw();
  await world.close();
  await redis.kill();
});

/** It has looked at the empty stream: from here on it was there. */
const idle = (saw: Recording): Promise<void> => eventually(() => expect(saw).toMatchObject({ isActive: true, lastLag: 0 }));

/** Writers write as long as the work takes. */
async function whileWriting(work: () => Promise<void>): Promise<void> {
  let working = true;
  const load = (async () => {
    while (working) await world.load(8, 5);
  })();
  await work().finally(() => (working = false));
  await load;
}

test('twenty writers at once: every committed event once, dense, each evaluation in its order', async () => {
  const { saw } = world.relay(redis.url);
  await idle(saw);
  await world.load(20, 30);
  await world.expectWhole(await world.ready(redis.url));
  await eventually(() => expect(saw).toMatchObject({ isActive: true, lastLag: 0, dead: 0, rewrites: 0, troubles: [] }));
  expect(saw.total).toBe(await world.count());
});

test('what waits from before is numbered in the order of arrival and published', async () => {
  await world.load(4, 20);
  const { rows } = await world.owner.query(`SELECT evaluation_uid, seq FROM crucible.events ORDER BY arrival`);
  world.relay(redis.url);
  await world.expectWhole(await world.ready(redis.url));
  expect((await world.owner.query(`SELECT evaluation_uid, seq FROM crucible.events ORDER BY position`)).rows).toEqual(rows);
});

describe('the relay is killed', () => {
  test.each(['withhold requests', 'withhold answers'] as const)('when events have their positions (%s): no event is lost or doubled', async (fault) => {
    const proxy = new FaultyProxy(redis.port);
    const url = new URL(redis.url);
    url.port = String(await proxy.start());
    world.later(() => proxy.stop());
    const client = await world.ready(redis.url);
    const child = world.process(url.href);
    await world.load(2, 5);
    await world.expectWhole(client);
    proxy.fault = fault;
    await world.load(5, 20);
    // Positions are committed, and something was written to Redis: which never arrived, or whose answer never did.
    await world.allRows();
    await eventually(() => expect(proxy.withheld).toBeGreaterThan(0));
    const before = (await entries(client)).length;
    if (fault === 'withhold answers') await eventually(async () => expect((await entries(client)).length).toBeGreaterThan(11));
    else expect(before).toBeLessThan(await world.count());
    child.kill('SIGKILL');
    const { saw } = world.relay(redis.url);
    await world.expectWhole(client);
    expect(saw.rewrites).toBe(0);
  });

  test('again and again while events are written', async () => {
    const client = await world.ready(redis.url);
    await whileWriting(async () => {
      for (let kill = 0; kill < 5; kill += 1) {
        const before = await client.xlen(EVENT_STREAM);
        const child = world.process(redis.url);
        await eventually(async () => expect(await client.xlen(EVENT_STREAM)).toBeGreaterThan(before));
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
        child.kill('SIGKILL');
      }
    });
    world.relay(redis.url);
    await world.expectWhole(await world.ready(redis.url));
  });
});

describe('two relays', () => {
  test('with the lock: one works, and the other as soon as it may', async () => {
    const first = world.relay(redis.url);
    await eventually(() => expect(first.saw.isActive).toBe(true));
    const second = world.relay(redis.url);
    await world.load(5, 10);
    await world.expectWhole(await world.ready(redis.url));
    expect([second.saw.isActive, second.saw.total]).toEqual([false, 0]);
    await first.stop();
    await world.load(5, 10);
    await world.expectWhole(await world.ready(redis.url));
    expect(second.saw.total).toBeGreaterThan(0);
  });

  test('at once, as if the lock had failed: nothing twice, nothing out of order', async () => {
    const relays = [1, 2, 3].map((lockKey) => world.relay(redis.url, { lockKey }));
    await world.load(20, 30);
    await world.expectWhole(await world.ready(redis.url));
    expect(relays.filter(({ saw }) => saw.total > 0).length).toBeGreaterThan(1);
    expect(relays.reduce((sum, { saw }) => sum + saw.total, 0)).toBe(await world.count());
  });
});

describe('Redis', () => {
  test('flushed in the middle of a run, and when nothing happens', async () => {
    const { saw } = world.relay(redis.url);
    const client = await world.ready(redis.url);
    await whileWriting(async () => {
      for (let flush = 0; flush < 5; flush += 1) {
        const before = saw.total;
        await eventually(() => expect(saw.total).toBeGreaterThan(before));
        await client.flushall();
      }
    });
    await world.expectWhole(client);
    await eventually(() => expect(saw.lastLag).toBe(0));
    const { rewrites } = saw;
    await client.flushall();
    await world.expectWhole(client);
    expect(saw.rewrites).toBe(rewrites + 1);
  });

  test('killed for seconds: events go on, get their positions, and are caught up with', async () => {
    const { saw } = world.relay(redis.url);
    await idle(saw);
    await world.load(5, 10);
    await redis.kill();
    const begun = performance.now();
    await world.load(10, 20);
    // Nobody who writes an event knows of Redis.
    expect(performance.now() - begun).toBeLessThan(10_000);
    expect((await world.allRows()).length).toBe(await world.count());
    await eventually(() => expect(saw.lastLag).toBeGreaterThan(0));
    expect(saw.troubles).toEqual(['redis: unreachable']);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await redis.start();
    await world.expectWhole(await world.ready(redis.url));
    await eventually(() => expect(saw).toMatchObject({ lastLag: 0, rewrites: 1 }));
    expect(saw.troubles.at(-1)).toBe('redis: well');
  });

  test('answers nothing for seconds, then everything', async () => {
    const { saw } = world.relay(redis.url);
    await idle(saw);
    const client = await world.ready(redis.url);
    await world.load(5, 10);
    await world.expectWhole(client);
    redis.freeze();
    await world.load(10, 20);
    await world.allRows();
    await eventually(() => expect(saw.troubles).toEqual(['redis: timeout']));
    redis.thaw();
    // What it was sent while frozen it does now, some of it for a second time.
    await world.expectWhole(await world.ready(redis.url));
    await eventually(() => expect(saw).toMatchObject({ lastLag: 0, rewrites: 0 }));
  });

  test('without room refuses: events wait, and go when there is room', async () => {
    const { saw } = world.relay(redis.url);
    const client = await world.ready(redis.url);
    await eventually(() => expect(saw.isActive).toBe(true));
    await client.config('SET', 'maxmemory', '1');
    await world.load(5, 10);
    await eventually(() => expect(saw.troubles).toContain('redis: OOM'));
    await client.config('SET', 'maxmemory', '0');
    await world.expectWhole(client);
  });

  test.each([
    ['is ahead of Postgres', '999-0'],
    ['has another event at its end', '3-0'],
  ])('has the stream of another history (%s): it is written anew', async (_what, id) => {
    const client = await world.ready(redis.url);
    const foreign = { specversion: '1.0', id: 'x/1', type: 't', subject: 'x', position: '3', sequence: '1' };
    await client.xadd(EVENT_STREAM, id, 'event', JSON.stringify(foreign));
    await world.load(2, 5);
    await world.owner.query('SELECT crucible.assign_positions(1000)');
    const { saw } = world.relay(redis.url);
    await eventually(() => expect(saw.rewrites).toBe(1));
    await world.expectWhole(client);
  });

  test('holds about as many events as it is told to, the newest', async () => {
    await world.load(5, 100);
    world.relay(redis.url, { streamLength: 100 });
    const client = await world.ready(redis.url);
    const last = (await world.allRows()).length;
    await eventually(async () => expect((await entries(client)).at(-1)?.position).toBe(last));
    const kept = (await entries(client)).map(({ position }) => position);
    // Whole nodes of the stream are trimmed, of 100 entries each.
    expect(kept.length).toBeLessThan(200);
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, index) => last - kept.length + 1 + index));
  });

  test('is not there at all: events are numbered', async () => {
    const { saw } = world.relay(undefined);
    await world.load(5, 10);
    expect((await world.allRows()).length).toBe(await world.count());
    await eventually(() => expect(saw.lastLag).toBe(0));
  });
});

test('Postgres cuts every connection of the relay, some times: it goes on', async () => {
  const { saw } = world.relay(redis.url);
  await whileWriting(async () => {
    for (let cut = 0; cut < 5; cut += 1) {
      const before = saw.total;
      await eventually(() => expect(saw.total).toBeGreaterThan(before));
      await world.owner.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name LIKE 'test-relay%' AND datname = current_database()`,
      );
    }
  });
  await world.expectWhole(await world.ready(redis.url));
  await eventually(() => expect(saw).toMatchObject({ isActive: true, lastLag: 0 }));
});

test('pending keys come with the acceptance, expire, and go with the end, also when both are replayed', async () => {
  const { saw } = world.relay(redis.url);
  await idle(saw);
  const client = await world.ready(redis.url);
  const [open, ended] = [await world.accept(), await world.accept()];
  await eventually(async () => expect(await isPending(client, ended)).toBe(true));
  await world.finish(ended);
  await eventually(async () => expect(await isPending(client, ended)).toBeUndefined());
  expect(await client.ttl(pendingKey(open))).toBeGreaterThan(80_000);
  await client.flushall();
  await eventually(() => expect(saw.rewrites).toBe(1));
  await eventually(async () => expect(await isPending(client, open)).toBe(true));
  await eventually(() => expect(saw.lastLag).toBe(0));
  expect(await isPending(client, ended)).toBeUndefined();
  await redis.kill();
  expect(await isPending(client, open)).toBeUndefined();
  expect(await isPending(undefined, open)).toBeUndefined();
});
