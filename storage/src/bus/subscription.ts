import type { CloudEvent } from './cloud-event.ts';

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

export interface FeedReader {
  wanted(event: CloudEvent): boolean;
  /** From the record, what is not remembered: what is wanted after `after`, as far as `upTo` at most. */
  replay(after: number, upTo: number): Promise<FeedPage>;
  /** At its own pace: nothing more comes before it resolves. Never none. False: it wants no more. */
  take(events: readonly FeedEvent[]): Promise<boolean>;
  /** Once, and nothing comes any more. With an error when `replay` or `take` threw: go on after the last position. */
  ended(error?: unknown): void;
}

/** What the process remembers of the newest events. */
export interface FeedMemory {
  /** The position of the newest. */
  readonly head: number;
  /** A number of them after the position, none when there are none. Undefined when some of them are not remembered. */
  after(position: number): readonly FeedEvent[] | undefined;
}

/** One reader of the feed. While it waits it is these few fields: no timer, no promise and nothing that runs. */
export class Subscription {
  readonly #memory: FeedMemory;
  readonly #reader: FeedReader;
  readonly #among: Set<Subscription>;
  #at: number;
  #reading = false;
  #open = true;

  constructor(memory: FeedMemory, after: number, reader: FeedReader, among: Set<Subscription>) {
    this.#memory = memory;
    this.#at = after;
    this.#reader = reader;
    this.#among = among;
    among.add(this);
  }

  /** There may be more to read. */
  wake(): void {
    if (!this.#reading && this.#open) void this.#read();
  }

  close(): void {
    this.#end();
  }

  async #read(): Promise<void> {
    this.#reading = true;
    try {
      while (this.#open) {
        const page = this.#page();
        // At once, so that no event comes in between: who adds one afterwards finds that nobody reads.
        if (page === undefined) return void (this.#reading = false);
        const { events, seen } = page instanceof Promise ? await page : page;
        if (events.length > 0 && this.#open && !(await this.#reader.take(events))) return this.#end();
        this.#at = seen;
      }
    } catch (error) {
      this.#end(error);
    }
  }

  /** Undefined: everything has been read. */
  #page(): FeedPage | Promise<FeedPage> | undefined {
    const known = this.#memory.after(this.#at);
    if (known === undefined) return this.#reader.replay(this.#at, this.#memory.head);
    const last = known.at(-1);
    return last && { events: known.filter(({ event }) => this.#reader.wanted(event)), seen: last.position };
  }

  #end(error?: unknown): void {
    if (!this.#open) return;
    this.#open = false;
    this.#among.delete(this);
    this.#reader.ended(error);
  }
}
