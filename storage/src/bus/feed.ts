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
}

interface Kept {
  readonly position: number;
  readonly event: CloudEvent;
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
  readonly #stopping = new AbortController();
  readonly #numbered = new Bell();
  readonly #readers = new Set<Bell>();
  readonly #kept: Kept[] = [];
  /** Everything up to here has been seen. */
  #at = 0;
  #askAgainAt = 0;
  #listener: Listener | undefined;
  #done: Promise<void> = Promise.resolve();

  constructor({ database, redis, keep = KEEP }: EventFeedOptions) {
    this.#database = database;
    this.#redis = redis;
    this.#positions = new PositionRepository(database);
    this.#keep = keep;
  }

  start(): void {
    this.#listener = this.#database.listen(POSITIONS_CHANNEL, () => this.#numbered.ring());
    this.#done = this.#run();
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
    const bell = new Bell();
    this.#readers.add(bell);
    const either = AbortSignal.any([signal, this.#stopping.signal]);
    try {
      for (let at = after; !either.aborted; ) {
        const events = await this.#after(at);
        for (const { position, event } of events) {
          yield event;
          at = position;
          if (either.aborted) return;
        }
        if (events.length === 0) await bell.wait(IDLE_MILLISECONDS, either);
      }
    } finally {
      this.#readers.delete(bell);
    }
  }

  async #after(at: number): Promise<readonly Kept[]> {
    const first = this.#kept[0];
    if (first !== undefined && first.position <= at + 1) {
      const from = this.#kept.findLastIndex(({ position }) => position <= at) + 1;
      return this.#kept.slice(from, from + BATCH);
    }
    return (await this.#positions.after(at, BATCH)).map((row) => ({ position: row.position, event: toCloudEvent(row) }));
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let begun = false;
    while (!signal.aborted) {
      try {
        if (!begun) this.#at = await this.#positions.last();
        begun = true;
        const fresh = (await this.#fromStream()) ?? (await this.#fromPostgres());
        if (fresh.length > 0) this.#add(fresh);
      } catch {
        // Postgres is away: no event comes into being, and readers that need it are told by their own reads.
        await pause(RETRY_MILLISECONDS, signal);
      }
    }
  }

  #add(fresh: readonly Kept[]): void {
    this.#kept.push(...fresh);
    this.#at = fresh.at(-1)?.position ?? this.#at;
    // Not at every event: taking from the front moves all the others.
    if (this.#kept.length > 2 * this.#keep) this.#kept.splice(0, this.#kept.length - this.#keep);
    for (const bell of this.#readers) bell.ring();
  }

  /** Undefined when Postgres has to be asked. */
  async #fromStream(): Promise<readonly Kept[] | undefined> {
    const redis = this.#redis;
    if (redis === undefined || !isUp(redis)) return undefined;
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

  async #fromPostgres(): Promise<readonly Kept[]> {
    const rows = await this.#positions.after(this.#at, BATCH);
    if (rows.length === 0 && (this.#redis === undefined || !isUp(this.#redis))) await this.#numbered.wait(LOOK_MILLISECONDS, this.#stopping.signal);
    return rows.map((row) => ({ position: row.position, event: toCloudEvent(row) }));
  }
}
