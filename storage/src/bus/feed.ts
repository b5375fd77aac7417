import type { Redis } from 'ioredis';
import type { Database } from '../database.ts';
import type { Listener } from '../listen.ts';
import { pause } from '../listen.ts';
import { isUp } from '../redis/connection.ts';
import { POSITIONS_CHANNEL } from '../types.ts';
import { Bell } from './bell.ts';
import { parseCloudEvent, toCloudEvent } from './cloud-event.ts';
import type { CloudEvent } from './cloud-event.ts';
import { PositionRepository } from './positions.ts';
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

export interface FeedEvent {
  readonly position: number;
  /** The same object for every reader, while it is remembered. */
  readonly event: CloudEvent;
}

export interface FeedPage {
  /** Ascending. */
  readonly events: readonly FeedEvent[];
  /** Nothing that is wanted is left to read up to here; always further than before. */
  readonly seen: number;
}

export interface FeedFilter {
  readonly wanted: (event: CloudEvent) => boolean;
  /** From the record, what is not remembered: what is wanted after `after`, as far as `upTo` at most. */
  readonly replay: (after: number, upTo: number) => Promise<FeedPage>;
}

const KEEP = 5_000;
const BATCH = 500;
/** Shorter than the time-out of a command. */
const BLOCK_MILLISECONDS = 1_000;
/** How long a stream that stays silent is believed: it may have been flushed, or the relay may be away from Redis. */
const SILENCE_MILLISECONDS = 2_000;
const LOOK_MILLISECONDS = 1_000;
const RETRY_MILLISECONDS = 500;
const IDLE_MILLISECONDS = 15_000;

/**
 * All events, once a process, for any number of readers in it (server-sent events): read from the Redis Stream, and from
 * Postgres whatever the stream does not have or while Redis is away. Positions are dense, so a hole shows; Postgres then
 * says whether there is anything in it. Nothing is skipped and nothing comes twice, for a reader that comes back either.
 */
export class EventFeed {
  readonly #database: Database;
  readonly #redis: Redis | undefined;
  readonly #positions: PositionRepository;
  readonly #keep: number;
  readonly #onError: (error: unknown) => void;
  readonly #begun = Promise.withResolvers<void>();
  readonly #stopping = new AbortController();
  readonly #numbered = new Bell();
  readonly #readers = new Set<Bell>();
  readonly #kept: FeedEvent[] = [];
  /** Everything up to here has been seen. */
  #at = 0;
  #askAgainAt = 0;
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
    for (const bell of this.#readers) bell.ring();
    await Promise.all([this.#done, this.#listener?.close()]);
  }

  /**
   * Every event after the position (a Last-Event-ID), in order; then those that come, until a signal aborts or the feed
   * stops. The reader's pace is its own. Throws UnavailableError when it has to read Postgres and cannot: go on after the
   * last position.
   */
  async *follow(after: number, signal: AbortSignal): AsyncGenerator<CloudEvent, void, void> {
    const filter: FeedFilter = { wanted: () => true, replay: (from, upTo) => this.#replay(from, upTo) };
    for await (const events of this.batches(after, signal, filter)) {
      for (const { event } of events) {
        yield event;
        if (signal.aborted) return;
      }
    }
  }

  /** The same for who wants only some of them, in batches, which are never empty. Throws what `replay` throws. */
  async *batches(after: number, signal: AbortSignal, { wanted, replay }: FeedFilter): AsyncGenerator<readonly FeedEvent[], void, void> {
    const bell = new Bell();
    this.#readers.add(bell);
    const done = (): boolean => signal.aborted || this.#stopping.signal.aborted;
    try {
      for (let at = after; !done(); ) {
        const known = this.#after(at);
        if (known?.length === 0) {
          await bell.wait(IDLE_MILLISECONDS, signal);
          continue;
        }
        const page = known === undefined ? await replay(at, this.#at) : { events: known.filter(({ event }) => wanted(event)), seen: known.at(-1)?.position ?? at };
        if (page.events.length > 0) yield page.events;
        at = page.seen;
      }
    } finally {
      this.#readers.delete(bell);
    }
  }

  /** Undefined when some of them are not remembered. */
  #after(at: number): readonly FeedEvent[] | undefined {
    if (at >= this.#at) return [];
    const first = this.#kept[0];
    if (first === undefined || first.position > at + 1) return undefined;
    const from = this.#kept.findLastIndex(({ position }) => position <= at) + 1;
    return this.#kept.slice(from, from + BATCH);
  }

  async #replay(after: number, upTo: number): Promise<FeedPage> {
    const rows = await this.#positions.after(after, BATCH);
    const events = rows.map((row) => ({ position: row.position, event: toCloudEvent(row) }));
    return { events, seen: events.at(-1)?.position ?? upTo };
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
    for (const bell of this.#readers) bell.ring();
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
