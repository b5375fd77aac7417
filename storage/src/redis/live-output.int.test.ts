import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { TcpProxy, late } from '../../../test/faults/tcp-proxy.ts';
import { AttemptRepository } from '../attempts.ts';
import { CaptureRepository } from '../captures.ts';
import { TestRedis, serversHere } from '../bus/testing/redis.ts';
import { eventually } from '../bus/testing/world.ts';
import { connectRedis } from './connection.ts';
import { followOutput } from './follow-output.ts';
import { AnnouncingCaptures, OutputAnnouncer } from './live-output.ts';
import { OutputWatch } from './output-watch.ts';
import { OutputWorld, type Writer } from './testing.ts';

let world: OutputWorld;
const cleanup: (() => unknown)[] = [];

beforeAll(async () => void (world = await OutputWorld.create()));
afterAll(() => world.close());
afterEach(async () => {
  for (const clean of cleanup.splice(0).reverse()) await clean();
});

function client(url: string): Redis {
  const redis = connectRedis({ url, commandTimeoutMilliseconds: 1_500, maxBackoffMilliseconds: 100 });
  cleanup.push(() => redis.disconnect());
  return redis;
}

interface Parts {
  captures: CaptureRepository;
  announcer: OutputAnnouncer;
  watch: OutputWatch;
  publisher: Redis | undefined;
  subscriber: Redis | undefined;
}

/** A recorder and an API; looking is so slow that only a message explains quick news, unless a test says otherwise. */
async function parts(url: string | undefined, { look = 60_000 }: { look?: number } = {}): Promise<Parts> {
  const [publisher, subscriber] = url === undefined ? [undefined, undefined] : [client(url), client(url)];
  const announcer = new OutputAnnouncer(publisher);
  const watch = new OutputWatch({ database: world.api, redis: subscriber, safetyMilliseconds: look, lookMilliseconds: look });
  cleanup.push(() => watch.stop());
  if (url !== undefined) await eventually(() => expect([publisher?.status, subscriber?.status]).toEqual(['ready', 'ready']));
  return { captures: new AnnouncingCaptures(world.recorder, announcer), announcer, watch, publisher, subscriber };
}

/** What one reader has, as it comes. */
class Follower {
  text = '';
  rewinds = 0;
  end: { sha256: string; bytes: number; complete: boolean } | undefined;
  readonly done: Promise<void>;
  readonly #stop = new AbortController();

  constructor(watch: OutputWatch, { key }: Writer, offset = 0) {
    this.done = this.#follow(watch, key, offset);
    cleanup.push(() => this.stop());
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.done;
  }

  async #follow(watch: OutputWatch, key: Writer['key'], start: number): Promise<void> {
    for await (const part of followOutput({ database: world.api, watch }, { ...key, stream: 'stdout', offset: start, signal: this.#stop.signal })) {
      if (part.type === 'end') this.end = part;
      else if (part.type === 'rewind') {
        this.rewinds += 1;
        this.text = this.text.slice(0, part.offset - start);
      } else {
        expect(part.offset).toBe(start + this.text.length);
        this.text += part.data.toString();
      }
    }
  }
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

async function expectWhole(follower: Follower, writer: Writer): Promise<void> {
  await eventually(() => expect(follower.end).toBeDefined());
  await follower.done;
  expect(follower.text).toBe(writer.text);
  expect(follower.end).toMatchObject({ bytes: writer.text.length, sha256: sha256(writer.text), complete: true });
}

describe.each(serversHere())('with $kind', ({ program }) => {
  let redis: TestRedis;
  beforeAll(async () => void (redis = await TestRedis.start(program)));
  afterAll(() => redis.kill());

  test('output reaches every reader as it is stored, from before the capture begins to its end', async () => {
    const { captures, watch, announcer } = await parts(redis.url);
    const writer = await world.attempt();
    const followers = [new Follower(watch, writer), new Follower(watch, writer)];
    await writer.begin(captures);
    for (let n = 0; n < 20; n += 1) {
      await writer.write(captures, `line ${n}\n`);
      await eventually(() => expect(followers.map(({ text }) => text)).toEqual([writer.text, writer.text]));
    }
    const late = new Follower(watch, writer, 30);
    await writer.finish(captures);
    for (const follower of followers) await expectWhole(follower, writer);
    await eventually(() => expect(late.text).toBe(writer.text.slice(30)));
    expect(announcer.announced).toBeGreaterThan(0);
    await eventually(() => expect(watch.size).toBe(0));
  });

  test('a reader behind a hole that is filled later is taken back, and has every byte once', async () => {
    const { captures, watch } = await parts(redis.url);
    const writer = await world.attempt();
    await writer.begin(captures);
    await writer.write(captures, 'one\n');
    await writer.lose(captures, 'two\n');
    await writer.write(captures, 'three\n');
    const follower = new Follower(watch, writer);
    await eventually(() => expect(follower.text).toBe('one\nthree\n'));
    await writer.find(captures);
    await writer.finish(captures);
    await expectWhole(follower, writer);
    expect(follower.text).toBe('one\ntwo\nthree\n');
    expect(follower.rewinds).toBe(1);
  });

  test('killed and flushed as bytes flow: readers have all of it', async () => {
    const { captures, watch } = await parts(redis.url, { look: 200 });
    const writer = await world.attempt();
    await writer.begin(captures);
    const follower = new Follower(watch, writer);
    for (let n = 0; n < 60; n += 1) {
      if (n === 15) await redis.kill();
      if (n === 30) await redis.start();
      if (n === 45) await client(redis.url).flushall().catch(() => undefined);
      await writer.write(captures, `line ${n}\n`);
    }
    await writer.finish(captures);
    await expectWhole(follower, writer);
  });

  test('a subscription that was lost is made again: messages count again after Redis was away', async () => {
    const { captures, watch, subscriber } = await parts(redis.url);
    const writer = await world.attempt();
    await writer.begin(captures);
    const follower = new Follower(watch, writer);
    await writer.write(captures, 'before\n');
    await eventually(() => expect(follower.text).toBe('before\n'));
    await redis.kill();
    await writer.write(captures, 'unheard\n');
    await redis.start();
    await eventually(() => expect(subscriber?.status).toBe('ready'));
    // The reconnect itself makes everybody look.
    await eventually(() => expect(follower.text).toBe('before\nunheard\n'));
    // Both ends are connected again when a message comes through; each write is another chance.
    await eventually(async () => {
      await writer.write(captures, 'after\n');
      await eventually(() => expect(follower.text).toBe(writer.text), 500);
    });
  });

  test('a slow Redis delays nobody who writes', async () => {
    const address = new URL(redis.url);
    const proxy = new TcpProxy({ host: '127.0.0.1', port: Number(address.port) }, late(() => 400));
    await proxy.up();
    cleanup.push(() => proxy.down());
    const slow = await parts(proxy.through(redis.url), { look: 200 });
    const writer = await world.attempt();
    await writer.begin(slow.captures);
    const follower = new Follower(slow.watch, writer);
    const direct = client(redis.url);
    await eventually(() => expect(direct.status).toBe('ready'));
    await direct.config('RESETSTAT');
    for (let n = 0; n < 50; n += 1) await writer.write(slow.captures, `line ${n}\n`);
    await writer.finish(slow.captures);
    await expectWhole(follower, writer);
    // Answered behind everything that was sent before it.
    await eventually(() => slow.publisher?.ping());
    // Fifty commits and few messages: what happens while one is on its way becomes one.
    const calls = /cmdstat_publish:calls=(\d+)/.exec(await direct.info('commandstats'))?.[1];
    expect(Number(calls)).toBeGreaterThan(0);
    expect(Number(calls)).toBeLessThan(25);
  });
});

test('without Redis readers look for themselves, and see the end of an attempt that was given up', async () => {
  const { captures, watch } = await parts(undefined, { look: 50 });
  const writer = await world.attempt();
  const follower = new Follower(watch, writer);
  await writer.begin(captures);
  await writer.write(captures, 'hello\n');
  await eventually(() => expect(follower.text).toBe('hello\n'));
  await writer.finish(captures);
  await expectWhole(follower, writer);

  const given = await world.attempt();
  const end = { evaluationUid: given.key.evaluationUid, number: 1, epoch: 1, podUid: null, startedAt: null, finishedAt: null };
  await new AttemptRepository(world.operator).finalize({ ...end, exitCode: null, signal: null, verdict: { class: 'InternalError' } });
  const never = new Follower(watch, given);
  await never.done;
  expect(never.end).toMatchObject({ bytes: 0, sha256: '', complete: false });
});

test('a thousand readers of one run cost Postgres one question at a time', async () => {
  const { watch } = await parts(undefined, { look: 50 });
  const writer = await world.attempt();
  const signals = Array.from({ length: 1000 }, () => watch.watch(writer.key));
  expect(watch.size).toBe(1);
  await writer.begin(new CaptureRepository(world.recorder));
  const rung = await Promise.all(signals.map((signal) => signal.wait(10_000, new AbortController().signal)));
  expect(rung.every(Boolean)).toBe(true);
  for (const signal of signals) signal.close();
  expect(watch.size).toBe(0);
});
