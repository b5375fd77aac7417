import type { Redis } from 'ioredis';
import { Bell } from '../bus/bell.ts';
import type { Database } from '../database.ts';
import { pause } from '../listen.ts';
import type { CaptureKey } from '../types.ts';
import { isUp } from './connection.ts';
import { outputChannel } from './live-output.ts';

export interface OutputWatchOptions {
  readonly database: Pick<Database, 'query'>;
  /** A connection of its own: it subscribes. */
  readonly redis: Redis | undefined;
  /** Between two looks at Postgres while Redis tells of changes: how long a lost message may go unnoticed. */
  readonly safetyMilliseconds?: number;
  /** The same while Redis is away. */
  readonly lookMilliseconds?: number;
}

/** Rings when there may be more to read, also once when nothing has changed. */
export interface OutputSignal {
  /** Resolves when it rings, when the time is over or when the signal aborts. */
  wait(milliseconds: number, signal: AbortSignal): Promise<boolean>;
  close(): void;
}

interface Watched {
  readonly key: CaptureKey;
  readonly bells: Set<Bell>;
  /** As of the last look. */
  seen: string;
}

const SAFETY_MILLISECONDS = 5_000;
const LOOK_MILLISECONDS = 1_000;
/** Captures in one question. */
const BATCH = 1_000;

/**
 * Wakes everyone in this process who reads output that is being captured. Redis wakes at once; because messages get lost
 * (a reconnect, a flush, no Redis at all), Postgres is asked too, once for all that is watched, however many watch.
 */
export class OutputWatch {
  readonly #options: Required<OutputWatchOptions>;
  readonly #watched = new Map<string, Watched>();
  readonly #stopping = new AbortController();
  #looking: Promise<void> | undefined;

  constructor(options: OutputWatchOptions) {
    this.#options = { safetyMilliseconds: SAFETY_MILLISECONDS, lookMilliseconds: LOOK_MILLISECONDS, ...options };
    const { redis } = this.#options;
    redis?.on('message', (channel: string) => this.#ring(channel));
    // Everything that was published meanwhile is lost: all have to look.
    redis?.on('ready', () => void this.#subscribe([...this.#watched.keys()]));
  }

  /** Begin watching before reading, or a change between the two goes unnoticed. Close it when done. */
  watch(key: CaptureKey): OutputSignal {
    const channel = outputChannel(key);
    const watched = this.#watched.get(channel) ?? { key, bells: new Set<Bell>(), seen: '' };
    const bell = new Bell();
    if (watched.bells.size === 0) {
      this.#watched.set(channel, watched);
      void this.#subscribe([channel]);
    }
    watched.bells.add(bell);
    this.#looking ??= this.#look();
    return {
      wait: (milliseconds, signal) => bell.wait(milliseconds, signal),
      close: () => {
        watched.bells.delete(bell);
        if (watched.bells.size > 0 || this.#watched.get(channel) !== watched) return;
        this.#watched.delete(channel);
        const { redis } = this.#options;
        if (redis !== undefined && isUp(redis)) void redis.unsubscribe(channel).catch(() => undefined);
      },
    };
  }

  /** How many captures are watched, for metrics. */
  get size(): number {
    return this.#watched.size;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#looking;
  }

  #ring(channel: string): void {
    for (const bell of this.#watched.get(channel)?.bells ?? []) bell.ring();
  }

  /** A subscription is in place only when Redis says so; what was published before is for those who look now. */
  async #subscribe(channels: readonly string[]): Promise<void> {
    const { redis } = this.#options;
    if (redis === undefined || !isUp(redis) || channels.length === 0) return;
    await redis.subscribe(...channels).catch(() => undefined);
    for (const channel of channels) {
      this.#ring(channel);
      // Closed while it was being made.
      if (!this.#watched.has(channel)) void redis.unsubscribe(channel).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    const { redis, safetyMilliseconds, lookMilliseconds } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted && this.#watched.size > 0) {
      await pause(await this.#heard(redis) ? safetyMilliseconds : lookMilliseconds, signal);
      const all = [...this.#watched];
      for (let from = 0; from < all.length && !signal.aborted; from += BATCH) {
        // Postgres is away: nothing can be read either, and the next look is soon.
        await this.#compare(all.slice(from, from + BATCH)).catch(() => undefined);
      }
    }
    this.#looking = undefined;
  }

  /** Whether messages get here. A subscriber hears nothing from a server that is gone without a word, so it asks. */
  async #heard(redis: Redis | undefined): Promise<boolean> {
    if (redis === undefined || !isUp(redis)) return false;
    return await redis.ping().then(
      () => true,
      () => {
        redis.disconnect(true);
        return false;
      },
    );
  }

  async #compare(watched: readonly (readonly [string, Watched])[]): Promise<void> {
    const { rows } = await this.#options.database.query<{ evaluationUid: string; attempt: number; seen: string }>(
      `SELECT k.uid AS "evaluationUid", k.attempt, concat_ws(' ', e.finished_at, w.withdrawn_at, a.state, c.state, c.last_seq, c.missing) AS seen
       FROM unnest($1::uuid[], $2::integer[]) AS k (uid, attempt)
       LEFT JOIN crucible.evaluations e ON e.uid = k.uid
       LEFT JOIN crucible.submissions w ON w.uid = k.uid
       LEFT JOIN crucible.attempts a ON a.evaluation_uid = k.uid AND a.number = k.attempt
       LEFT JOIN crucible.captures c ON c.evaluation_uid = k.uid AND c.attempt = k.attempt`,
      [watched.map(([, { key }]) => key.evaluationUid), watched.map(([, { key }]) => key.attempt)],
    );
    for (const { seen, ...key } of rows) {
      const channel = outputChannel(key);
      const found = this.#watched.get(channel);
      if (found === undefined || found.seen === seen) continue;
      found.seen = seen;
      this.#ring(channel);
    }
  }
}
