import type { ListenSignal, PublishedEvent } from '@crucible/storage';

/** Where events come from: Postgres alone, so that nothing depends on Redis. */
export interface EventSource {
  last(): Promise<number>;
  after(position: number, limit: number): Promise<PublishedEvent[]>;
}

export interface EventHubOptions {
  readonly source: EventSource;
  /** Opens one LISTEN connection for all subscribers. */
  readonly listen: (onSignal: (signal: ListenSignal) => void) => { close(): Promise<void> };
  readonly onError: (error: unknown) => void;
  /** Should a notification be lost, for instance at a pooler. */
  readonly pollMilliseconds?: number;
  readonly bufferSize?: number;
}

const BATCH = 1000;
const POLL_MILLISECONDS = 5_000;
const RETRY_MILLISECONDS = 1_000;
const BUFFER_SIZE = 5_000;

/**
 * One reader for any number of clients: it follows the positions and keeps the latest events, from which clients take what
 * they have not seen, each at its own pace. Positions only grow and are committed before they are told of, so nothing can
 * be passed over.
 */
export class EventHub {
  readonly #options: EventHubOptions;
  readonly #subscribers = new Set<() => void>();
  #recent: PublishedEvent[] = [];
  /** All events after it, up to `#head`, are in `#recent`. */
  #tail = 0;
  #head = 0;
  #started = false;
  #stopped = false;
  #reading: Promise<void> | undefined;
  #again = false;
  #listener: { close(): Promise<void> } | undefined;
  #poll: NodeJS.Timeout | undefined;

  constructor(options: EventHubOptions) {
    this.#options = options;
  }

  /** The position of the newest event. */
  get head(): number {
    return this.#head;
  }

  get subscribers(): number {
    return this.#subscribers.size;
  }

  async start(): Promise<void> {
    const last = await this.#options.source.last();
    this.#tail = this.#head = Math.max(0, last - (this.#options.bufferSize ?? BUFFER_SIZE));
    await this.#drain();
    this.#started = true;
    this.#listener = this.#options.listen(() => this.wake());
    this.#poll = setInterval(() => this.wake(), this.#options.pollMilliseconds ?? POLL_MILLISECONDS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#poll);
    await this.#listener?.close();
    await this.#reading;
  }

  /** There may be something new. */
  wake(): void {
    this.#again = true;
    if (!this.#started || this.#stopped) return;
    this.#reading ??= this.#readOn().finally(() => {
      this.#reading = undefined;
      if (this.#again) this.wake();
    });
  }

  /** The next ones after `position`, if they are at hand; undefined when some have to be read from the record. */
  next(position: number, limit: number): PublishedEvent[] | undefined {
    if (position >= this.#head) return [];
    if (position < this.#tail) return undefined;
    const start = firstAfter(this.#recent, position);
    return this.#recent.slice(start, start + limit);
  }

  /** Called when there is more. */
  subscribe(notify: () => void): () => void {
    this.#subscribers.add(notify);
    return () => this.#subscribers.delete(notify);
  }

  async #readOn(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false;
      try {
        await this.#drain();
      } catch (error) {
        this.#options.onError(error);
        this.#again = true;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS).unref());
      }
    }
  }

  async #drain(): Promise<void> {
    for (;;) {
      const events = await this.#options.source.after(this.#head, BATCH);
      this.#recent.push(...events);
      this.#head = events.at(-1)?.position ?? this.#head;
      this.#forget();
      if (events.length > 0) for (const notify of this.#subscribers) notify();
      if (events.length < BATCH) return;
    }
  }

  #forget(): void {
    const size = this.#options.bufferSize ?? BUFFER_SIZE;
    if (this.#recent.length <= 2 * size) return;
    const dropped = this.#recent.splice(0, this.#recent.length - size);
    this.#tail = dropped.at(-1)?.position ?? this.#tail;
  }
}

/** Index of the first event with a greater position; they are in order. */
function firstAfter(events: readonly PublishedEvent[], position: number): number {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((events[middle]?.position ?? Infinity) > position) high = middle;
    else low = middle + 1;
  }
  return low;
}
