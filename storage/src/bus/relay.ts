import type { Redis } from 'ioredis';
import type { Database } from '../database.ts';
import { StorageError } from '../errors.ts';
import type { Listener } from '../listen.ts';
import { pause } from '../listen.ts';
import { isUp, redisReason } from '../redis/connection.ts';
import { EVENTS_CHANNEL } from '../types.ts';
import { Bell } from './bell.ts';
import { eventId, parseCloudEvent } from './cloud-event.ts';
import { MAX_POSITION_BATCH, PositionRepository } from './positions.ts';
import type { PublishedEvent } from './positions.ts';
import { EventStream, STREAM_LENGTH } from './stream.ts';
import type { StreamState } from './stream.ts';

/** Any number that nobody else uses on this database. */
export const RELAY_LOCK_KEY = 0x6372656c61;

/** What the relay tells: for metrics and logs. Must not throw. */
export interface RelayObserver {
  /** Whether this process is the one that relays. */
  active(active: boolean): void;
  /** Events that are not in the stream yet; without Redis, that have no position yet. */
  lag(events: number): void;
  published(events: number): void;
  deadLetters(count: number): void;
  /** The stream was empty, or of another history, and is written anew from Postgres. */
  rewritten(): void;
  /** The kind of failure when it begins or changes; undefined when all is well again. */
  trouble(where: 'postgres' | 'redis', reason: string | undefined): void;
}

export interface RelaySettings {
  lockKey: number;
  streamLength: number;
  batch: number;
  /** How long a lost notification or a flushed stream may go unnoticed. */
  checkMilliseconds: number;
  /** After the first event of a batch, for those that follow at once: each batch has its price. */
  gatherMilliseconds: number;
  minBackoffMilliseconds: number;
  maxBackoffMilliseconds: number;
  random: () => number;
}

const DEFAULTS: RelaySettings = {
  lockKey: RELAY_LOCK_KEY,
  streamLength: STREAM_LENGTH,
  batch: 500,
  checkMilliseconds: 2_000,
  gatherMilliseconds: 20,
  minBackoffMilliseconds: 100,
  maxBackoffMilliseconds: 5_000,
  random: Math.random,
};
const CONNECT_LOOKS = 40;
const CONNECT_LOOK_MILLISECONDS = 25;
/** Of one command to Redis. */
const MAX_BATCH_BYTES = 1024 * 1024;

interface Cursor {
  /** Where the stream ends. */
  stream: number;
  /** Everything up to here is in it, or too old to be. Differs from `stream` only while a stream is begun anew. */
  read: number;
}

/**
 * The one way from rows to the stream: gives committed events their global position in Postgres, and publishes them in
 * that order. Positions come first and do not wait for Redis, so whoever reads Postgres misses nothing while Redis is
 * away. The stream itself is the record of what was published: after any failure the relay looks where it ends and goes
 * on from there. One process at a time does it, by an advisory lock; should there be two for a moment, neither numbering
 * nor publishing does anything twice.
 */
export class EventRelay {
  readonly #database: Database;
  readonly #redis: Redis | undefined;
  readonly #observer: RelayObserver;
  readonly #settings: RelaySettings;
  readonly #positions: PositionRepository;
  readonly #stream: EventStream | undefined;
  readonly #stopping = new AbortController();
  readonly #arrived = new Bell();
  readonly #numbered = new Bell();
  #listener: Listener | undefined;
  #done: Promise<void> = Promise.resolve();
  /** As far as known. */
  #published = 0;

  /** Without Redis events are numbered all the same. The database is one of the recorder's role. */
  constructor(database: Database, redis: Redis | undefined, observer: RelayObserver, settings: Partial<RelaySettings> = {}) {
    this.#database = database;
    this.#redis = redis;
    this.#observer = observer;
    this.#settings = { ...DEFAULTS, ...settings };
    this.#settings.batch = Math.min(this.#settings.batch, MAX_POSITION_BATCH);
    this.#positions = new PositionRepository(database);
    this.#stream = redis === undefined ? undefined : new EventStream(redis, this.#settings.streamLength);
  }

  start(): void {
    this.#listener = this.#database.listen(EVENTS_CHANNEL, () => this.#arrived.ring());
    const work = async (held: AbortSignal): Promise<void> => {
      this.#observer.active(true);
      await Promise.all([this.#number(held), this.#stream === undefined ? undefined : this.#publish(this.#stream, held)]);
      this.#observer.active(false);
    };
    const onTrouble = (reason: string | undefined): void => this.#observer.trouble('postgres', reason);
    this.#done = this.#database.exclusively(this.#settings.lockKey, this.#stopping.signal, work, onTrouble);
  }

  /** What is not published stays in Postgres. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all([this.#done, this.#listener?.close()]);
  }

  async #number(held: AbortSignal): Promise<void> {
    const retry = this.#retry('postgres');
    while (!held.aborted) {
      try {
        // Looking first: numbering nothing would still be a write.
        let more = (await this.#positions.waiting(1)) > 0;
        while (more && !held.aborted) {
          // Whoever commits while this runs rings, so only a full batch is a reason to look again at once.
          more = (await this.#positions.assign(this.#settings.batch)).assigned >= this.#settings.batch;
          this.#numbered.ring();
        }
        retry.succeeded();
        if (this.#stream === undefined) this.#observer.lag(0);
        if (await this.#arrived.wait(this.#settings.checkMilliseconds, held)) await pause(this.#settings.gatherMilliseconds, held);
      } catch (error) {
        await retry.failed(error, held);
      }
    }
  }

  async #publish(stream: EventStream, held: AbortSignal): Promise<void> {
    const retry = this.#retry('redis');
    let cursor: Cursor | undefined;
    // A connection that is still being made is not yet worth a word.
    for (let look = 0; look < CONNECT_LOOKS && this.#redis?.status !== 'ready'; look += 1) await pause(CONNECT_LOOK_MILLISECONDS, held);
    while (!held.aborted) {
      try {
        if (this.#redis !== undefined && !isUp(this.#redis)) throw new Error('Connection is closed');
        const from: Cursor = cursor ?? (await this.#locate(stream));
        const step = await this.#step(stream, from);
        cursor = step.cursor;
        retry.succeeded();
        if (step.more) continue;
        const rang = await this.#numbered.wait(this.#settings.checkMilliseconds, held);
        if (!rang && !held.aborted && cursor !== undefined) cursor = await this.#check(stream, cursor);
      } catch (error) {
        cursor = undefined;
        await this.#reportLag();
        await retry.failed(error, held);
      }
    }
  }

  /**
   * One batch, and whether to go on at once: what is numbered while it is published rings. No cursor when the stream is not
   * what it was.
   */
  async #step(stream: EventStream, cursor: Cursor): Promise<{ cursor: Cursor | undefined; more: boolean }> {
    const found = await this.#positions.after(cursor.read, this.#settings.batch);
    const events = withinBytes(found);
    const newest = events.at(-1);
    if (newest === undefined) {
      this.#observer.lag(0);
      return { cursor, more: false };
    }
    if ((await stream.publish(cursor.stream, events)) !== undefined) return { cursor: undefined, more: true };
    this.#published = newest.position;
    this.#observer.published(events.length);
    const more = found.length === this.#settings.batch || events.length < found.length;
    if (more) await this.#reportLag();
    else this.#observer.lag(0);
    return { cursor: { stream: newest.position, read: newest.position }, more };
  }

  async #check(stream: EventStream, cursor: Cursor): Promise<Cursor | undefined> {
    const { last, deadLetters } = await stream.state();
    this.#observer.deadLetters(deadLetters);
    return last === cursor.stream ? cursor : undefined;
  }

  /** Where to go on. Redis is read first: positions are committed before they are published, so Postgres is not behind. */
  async #locate(stream: EventStream): Promise<Cursor> {
    const state = await stream.state();
    this.#observer.deadLetters(state.deadLetters);
    const last = await this.#positions.last();
    if (state.last > 0 && (await this.#isOurs(state, last))) return this.#known({ stream: state.last, read: state.last });
    if (state.last > 0) await stream.reset(state.last);
    if (last > 0) this.#observer.rewritten();
    return this.#known({ stream: 0, read: Math.max(0, last - this.#settings.streamLength) });
  }

  /** Not so after Postgres was restored to an earlier time, or when Redis is a copy of somebody else's. */
  async #isOurs(state: StreamState, last: number): Promise<boolean> {
    if (state.last > last) return false;
    if (state.newest === undefined) return true;
    const row = await this.#positions.at(state.newest.position);
    // Retention may have taken the row.
    return row === undefined || idIn(state.newest.text) === eventId(row);
  }

  #known(cursor: Cursor): Cursor {
    this.#published = cursor.read;
    return cursor;
  }

  async #reportLag(): Promise<void> {
    try {
      const [last, waiting] = await Promise.all([this.#positions.last(), this.#positions.waiting()]);
      this.#observer.lag(last - this.#published + waiting);
    } catch {
      // Postgres is away, which the numbering reports; the last value stands.
    }
  }

  #retry(where: 'postgres' | 'redis'): { succeeded: () => void; failed: (error: unknown, held: AbortSignal) => Promise<void> } {
    const { minBackoffMilliseconds: min, maxBackoffMilliseconds: max, random } = this.#settings;
    let failures = 0;
    let known: string | undefined;
    const tell = (reason: string | undefined): void => {
      if (reason !== known) this.#observer.trouble(where, reason);
      known = reason;
    };
    return {
      succeeded: () => {
        failures = 0;
        tell(undefined);
      },
      failed: async (error, held) => {
        if (held.aborted) return;
        // When Postgres is what fails here, the numbering says so.
        if (where === 'postgres') tell(String(error));
        else if (!(error instanceof StorageError)) tell(redisReason(error));
        const full = Math.min(min * 2 ** Math.min(failures, 16), max);
        failures += 1;
        await pause(full * (0.5 + random() / 2), held);
      },
    };
  }
}

function withinBytes(events: PublishedEvent[]): PublishedEvent[] {
  let bytes = 0;
  const end = events.findIndex((event, index) => (bytes += JSON.stringify(event.data).length) > MAX_BATCH_BYTES && index > 0);
  return end === -1 ? events : events.slice(0, end);
}

function idIn(text: string): string | undefined {
  try {
    return parseCloudEvent(text).id;
  } catch {
    return undefined;
  }
}
