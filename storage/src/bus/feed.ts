import { setImmediate } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Database } from '../database.ts';
import type { Listener } from '../listen.ts';
import { pause } from '../listen.ts';
import { isUp } from '../redis/connection.ts';
import { POSITIONS_CHANNEL } from '../types.ts';
import { Bell } from './bell.ts';
import { parseCloudEvent, toCloudEvent } from './cloud-event.ts';
import { PositionRepository } from './positions.ts';
import { Subscription } from './subscription.ts';
import type { FeedEvent, FeedMemory, FeedReader } from './subscription.ts';
import { EVENT_STREAM, eventText, positionOf, streamId } from './stream.ts';

export interface EventFeedOptions {
  readonly database: Database;
  /** A connection of its own: it waits on it. */
  readonly redis: Redis | undefined;
  /** Newest events that are kept for readers; who is further behind reads Postgres. */
  readonly keep?: number;
  /** Reading failed; it goes on. */
  readonly onError?: (error: unknown) => void;
}

const KEEP = 5_000;
const BATCH = 500;
/** Shorter than the time-out of a command. */
const BLOCK_MILLISECONDS = 1_000;
/** How long a stream that stays silent is believed: it may have been flushed, or the relay may be away from Redis. */
const SILENCE_MILLISECONDS = 2_000;
const LOOK_MILLISECONDS = 1_000;
const RETRY_MILLISECONDS = 500;
const TOLD_AT_ONCE = 50;

/**
 * All events, once a process, for any number of readers in it (server-sent events): read from the Redis Stream, and from
 * Postgres whatever the stream does not have or while Redis is away. Positions are dense, so a hole shows; Postgres then
 * says whether there is anything in it. Nothing is skipped and nothing comes twice, for a reader that comes back either.
 */
export class EventFeed implements FeedMemory {
  readonly #database: Database;
  readonly #redis: Redis | undefined;
  readonly #positions: PositionRepository;
  readonly #keep: number;
  readonly #onError: (error: unknown) => void;
  readonly #begun = Promise.withResolvers<void>();
  readonly #stopping = new AbortController();
  readonly #numbered = new Bell();
  readonly #readers = new Set<Subscription>();
  readonly #kept: FeedEvent[] = [];
  /** Everything up to here has been seen. */
  #at = 0;
  #askAgainAt = 0;
  #telling = false;
  /** Events came while readers were told. */
  #untold = false;
  /** What was there at the start has been read. */
  #caughtUp = false;
  #listener: Listener | undefined;
  #done: Promise<void> = Promise.resolve();

  constructor({ database, redis, keep = KEEP, onError = () => undefined }: EventFeedOptions) {
    this.#database = database;
    this.#redis = redis;
    this.#positions = new PositionRepository(database);
    this.#keep = keep;
    this.#onError = onError;
  }

  start(): void {
    this.#listener = this.#database.listen(POSITIONS_CHANNEL, () => this.#numbered.ring());
    this.#done = this.#run();
  }

  /** Resolves when it remembers the newest events and knows the newest position. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** The position of the newest event that has been read. */
  get head(): number {
    return this.#at;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const reader of this.#readers) reader.close();
    await Promise.all([this.#done, this.#listener?.close()]);
  }

  /**
   * Tells the reader every event that it wants after the position (a Last-Event-ID), in order; then those that come, until
   * it is closed or the feed stops.
   */
  subscribe(after: number, reader: FeedReader): Subscription {
    const subscription = new Subscription(this, after, reader, this.#readers);
    if (this.#stopping.signal.aborted) subscription.close();
    else subscription.wake();
    return subscription;
  }

  /**
   * Where a reader goes on that says it has seen so much: there, or at the newest event when the record has not come so far.
   * Its position is then of another installation, or of a record that was taken back to a backup.
   */
  async resume(position: number): Promise<number> {
    return position <= this.#at ? position : Math.min(position, Math.max(this.#at, await this.#positions.last()));
  }

  after(at: number): readonly FeedEvent[] | undefined {
    if (at >= this.#at) return [];
    const first = this.#kept[0];
    if (first === undefined || first.position > at + 1) return undefined;
    const from = this.#kept.findLastIndex(({ position }) => position <= at) + 1;
    return this.#kept.slice(from, from + BATCH);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let newest: number | undefined;
    while (!signal.aborted) {
      try {
        if (newest === undefined) {
          newest = await this.#positions.last();
          // Those who were cut off by a restart come back for what was a moment ago, all at once.
          this.#at = Math.max(0, newest - this.#keep);
        }
        if (this.#at >= newest) this.#hasCaughtUp();
        const streamed = await this.#fromStream();
        const fresh = streamed ?? (await this.#fromPostgres());
        if (fresh.length > 0) this.#add(fresh);
        // The newest of all may have been deleted. That a stream is silent says nothing: it may have been flushed.
        else if (streamed === undefined) this.#hasCaughtUp();
      } catch (error) {
        // Postgres is away: no event comes into being, and readers that need it are told by their own reads.
        this.#onError(error);
        await pause(RETRY_MILLISECONDS, signal);
      }
    }
  }

  #hasCaughtUp(): void {
    this.#caughtUp = true;
    this.#begun.resolve();
  }

  #add(fresh: readonly FeedEvent[]): void {
    this.#kept.push(...fresh);
    this.#at = fresh.at(-1)?.position ?? this.#at;
    // Not at every event: taking from the front moves all the others.
    if (this.#kept.length > 2 * this.#keep) this.#kept.splice(0, this.#kept.length - this.#keep);
    void this.#tellReaders();
  }

  /** Some at a time: thousands at once would keep everybody else waiting, and all that is made for them would be in memory together. */
  async #tellReaders(): Promise<void> {
    this.#untold = true;
    if (this.#telling) return;
    this.#telling = true;
    while (this.#untold) {
      this.#untold = false;
      let told = 0;
      for (const reader of this.#readers) {
        reader.wake();
        if (++told % TOLD_AT_ONCE === 0) await setImmediate();
      }
    }
    this.#telling = false;
  }

  /** Undefined when Postgres has to be asked. */
  async #fromStream(): Promise<readonly FeedEvent[] | undefined> {
    const redis = this.#redis;
    if (redis === undefined || !isUp(redis)) return undefined;
    if (!this.#caughtUp && performance.now() < this.#askAgainAt) return undefined;
    const read = await redis
      .xread('COUNT', BATCH, 'BLOCK', BLOCK_MILLISECONDS, 'STREAMS', EVENT_STREAM, streamId(this.#at))
      .catch(() => undefined);
    if (read === undefined) return undefined;
    if (read === null) {
      if (performance.now() < this.#askAgainAt) return [];
      this.#askAgainAt = performance.now() + SILENCE_MILLISECONDS;
      return undefined;
    }
    const entries = read[0]?.[1] ?? [];
    // A hole: trimmed before we came, or deleted by retention, which only Postgres knows.
    if (entries.some(([id], index) => positionOf(id) !== this.#at + 1 + index)) return undefined;
    return entries.map(([id, fields]) => ({ position: positionOf(id), event: parseCloudEvent(eventText(fields)) }));
  }

  async #fromPostgres(): Promise<readonly FeedEvent[]> {
    const rows = await this.#positions.after(this.#at, BATCH);
    if (rows.length === 0 && (this.#redis === undefined || !isUp(this.#redis))) await this.#numbered.wait(LOOK_MILLISECONDS, this.#stopping.signal);
    return rows.map((row) => ({ position: row.position, event: toCloudEvent(row) }));
  }
}
