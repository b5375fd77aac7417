import type { Redis } from 'ioredis';
import { pause } from '../listen.ts';
import { isUp, redisReason } from '../redis/connection.ts';
import { toCloudEvent, parseCloudEvent } from './cloud-event.ts';
import type { CloudEvent } from './cloud-event.ts';
import type { PositionRepository, PublishedEvent } from './positions.ts';
import { EVENT_STREAM, bury, eventText, positionOf, streamId } from './stream.ts';

export interface EventConsumerOptions {
  /** A connection of its own: it waits on it. */
  redis: Redis;
  group: string;
  /** Unique in the group. */
  consumer: string;
  /** Must be idempotent: an event comes at least once. `event.id` is the same every time. */
  handle: (event: CloudEvent) => Promise<void>;
  /** For what is no longer in the stream. */
  archive: Pick<PositionRepository, 'after' | 'at'>;
  /** The position up to which this group has handled everything, from its own store. Asked when Redis has lost the group. */
  start?: () => Promise<number>;
  maxDeliveries?: number;
  /** An event delivered to somebody this long ago and not acknowledged is taken over. Longer than `handle` ever takes. */
  claimIdleMilliseconds?: number;
  batch?: number;
  /** The kind of failure, when it begins or changes; undefined when all is well again. */
  onTrouble?: (reason: string | undefined) => void;
}

const DEFAULTS = {
  start: () => Promise.resolve(0),
  maxDeliveries: 5,
  claimIdleMilliseconds: 60_000,
  batch: 100,
  onTrouble: () => undefined,
};
/** Shorter than the time-out of a command. */
const BLOCK_MILLISECONDS = 1_000;
const EMPTY_PAUSE_MILLISECONDS = 200;
const RETRY_PAUSE_MILLISECONDS = 100;
const MAX_BACKOFF_MILLISECONDS = 5_000;
const MAX_REMEMBERED_ERRORS = 1_000;

// Reading and looking for a hole are one step, or events could be trimmed between them unseen: the stream drops its oldest
// entries whether a group has had them or not.
const READ = `
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first then return {'empty'} end
local delivered
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local fields = {}
  for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
  if fields['name'] == ARGV[1] then delivered = string.match(fields['last-delivered-id'], '^%d+') end
end
local from = string.match(first[1], '^%d+')
if not delivered then return {'nogroup', from} end
if tonumber(from) > tonumber(delivered) + 1 and tonumber(from) > tonumber(ARGV[4]) + 1 then
  return {'gap', delivered, from}
end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
if not read then return {'none', delivered} end
return {'entries', read[1][2]}
`;

type Entry = [id: string, fields: string[]];
type Read = ['empty'] | ['nogroup', string] | ['gap', string, string] | ['none', string] | ['entries', Entry[]];

/**
 * One member of a consumer group. Every event is handled at least once, whatever dies: what a member did not acknowledge
 * another one takes over; what was flushed or trimmed before it was delivered is read from Postgres; what fails
 * `maxDeliveries` times goes to the dead letters, where people see it. The order is that of the stream, but for
 * what is delivered again.
 */
export class EventConsumer {
  readonly #options: Required<EventConsumerOptions>;
  readonly #stopping = new AbortController();
  #done: Promise<void> = Promise.resolve();
  /** Everything up to here that the stream did not have was handled. */
  #filled = 0;
  #nextTakeOver = 0;
  /** Why the last delivery of an event failed here: for its dead letter. */
  readonly #errors = new Map<string, string>();

  constructor(options: EventConsumerOptions) {
    this.#options = { ...DEFAULTS, ...options };
  }

  start(): void {
    this.#done = this.#run();
  }

  /** Waits for the event in hand. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let failures = 0;
    let trouble: string | undefined;
    const tell = (reason: string | undefined): void => {
      if (reason !== trouble) this.#options.onTrouble(reason);
      trouble = reason;
    };
    while (!signal.aborted) {
      try {
        if (!isUp(this.#options.redis)) throw new Error('Connection is closed');
        await this.#round();
        failures = 0;
        tell(undefined);
      } catch (error) {
        tell(redisReason(error));
        failures = Math.min(failures + 1, 6);
        await pause(Math.min(100 * 2 ** failures, MAX_BACKOFF_MILLISECONDS) * (0.5 + Math.random() / 2), signal);
      }
    }
  }

  async #round(): Promise<void> {
    const { redis, group, consumer, batch } = this.#options;
    if (performance.now() >= this.#nextTakeOver) await this.#takeOver();
    const read = (await redis.eval(READ, 1, EVENT_STREAM, group, consumer, batch, this.#filled)) as Read;
    switch (read[0]) {
      case 'empty':
        return await pause(EMPTY_PAUSE_MILLISECONDS, this.#stopping.signal);
      case 'nogroup':
        return await this.#join(Number(read[1]));
      case 'gap':
        return await this.#fill(Number(read[1]), Number(read[2]));
      case 'none':
        // A doorbell only; what it rings for is read above.
        await redis.xread('COUNT', 1, 'BLOCK', BLOCK_MILLISECONDS, 'STREAMS', EVENT_STREAM, streamId(Number(read[1])));
        return;
      case 'entries':
        for (const [id, fields] of read[1]) {
          // The rest stays with this member until somebody takes it over.
          if (this.#stopping.signal.aborted) return;
          await this.#deliver(id, eventText(fields));
        }
    }
  }

  /** The group is made after what precedes the stream is handled: who dies on the way leaves no trace of having begun. */
  async #join(first: number): Promise<void> {
    const { redis, group, start } = this.#options;
    const done = await start();
    this.#filled = 0;
    await this.#fill(done, first);
    if (this.#stopping.signal.aborted) return;
    await redis.xgroup('CREATE', EVENT_STREAM, group, streamId(Math.max(done, first - 1))).catch((error: Error) => {
      if (!error.message.startsWith('BUSYGROUP')) throw error;
    });
  }

  /** Events after `from` and before `first` from Postgres. */
  async #fill(from: number, first: number): Promise<void> {
    for (let position = from; position < first - 1; ) {
      const events = await this.#options.archive.after(position);
      const missing = events.filter((event) => event.position < first);
      for (const event of missing) {
        await this.#deliverArchived(event);
        if (this.#stopping.signal.aborted) return;
      }
      const newest = missing.at(-1);
      if (newest === undefined) break;
      position = newest.position;
    }
    this.#filled = first - 1;
  }

  async #deliver(id: string, text: string): Promise<void> {
    const { redis, group, consumer, handle } = this.#options;
    let event: CloudEvent;
    try {
      event = parseCloudEvent(text);
    } catch (error) {
      return await bury(redis, id, { group, consumer, deliveries: 1, error: String(error), event: text });
    }
    try {
      await handle(event);
    } catch (error) {
      // Not acknowledged: it comes again when its time is over, to this member or another.
      if (this.#errors.size < MAX_REMEMBERED_ERRORS) this.#errors.set(id, String(error));
      return;
    }
    this.#errors.delete(id);
    await redis.xack(EVENT_STREAM, group, id);
  }

  /** Redis does not count these deliveries, so they are made one after another here. */
  async #deliverArchived(row: PublishedEvent): Promise<void> {
    const { redis, group, consumer, handle, maxDeliveries } = this.#options;
    const event = toCloudEvent(row);
    for (let deliveries = 1; ; deliveries += 1) {
      try {
        return await handle(event);
      } catch (error) {
        if (deliveries >= maxDeliveries) {
          const letter = { group, consumer, deliveries, error: String(error), event: JSON.stringify(event) };
          return await bury(redis, streamId(row.position), letter);
        }
        await pause(RETRY_PAUSE_MILLISECONDS * deliveries, this.#stopping.signal);
      }
      if (this.#stopping.signal.aborted) throw new Error('stopping');
    }
  }

  /** What was delivered too long ago, to anyone. */
  async #takeOver(): Promise<void> {
    const { redis, group, claimIdleMilliseconds: idle, batch } = this.#options;
    const stale = await redis.xpending(EVENT_STREAM, group, 'IDLE', idle, '-', '+', batch).catch((error: Error) => {
      if (error.message.startsWith('NOGROUP')) return [];
      throw error;
    });
    for (const [id, , , deliveries] of stale as [string, string, number, number][]) {
      if (this.#stopping.signal.aborted) return;
      await this.#redeliver(id, deliveries);
    }
    if (stale.length < batch) this.#nextTakeOver = performance.now() + idle / 2;
  }

  async #redeliver(id: string, deliveries: number): Promise<void> {
    const { redis, group, consumer, claimIdleMilliseconds: idle, maxDeliveries, archive } = this.#options;
    const [entry] = await redis.xrange(EVENT_STREAM, id, id);
    if (entry === undefined) {
      // Trimmed since. Claiming it now would only make Redis forget it.
      const row = await archive.at(positionOf(id));
      if (row !== undefined) await this.#deliverArchived(row);
      await redis.xack(EVENT_STREAM, group, id);
      return;
    }
    // The idle time is compared once more, in Redis: of two who try, one gets it.
    const claimed = await redis.xclaim(EVENT_STREAM, group, consumer, idle, id);
    if (claimed.length === 0) return;
    const text = eventText(entry[1]);
    if (deliveries < maxDeliveries) return await this.#deliver(id, text);
    const error = this.#errors.get(id) ?? `not acknowledged after ${deliveries} deliveries`;
    this.#errors.delete(id);
    await bury(redis, id, { group, consumer, deliveries, error, event: text });
  }
}
