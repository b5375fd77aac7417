/** A bounded number of permits, given to the waiter with the lowest rank (the oldest pod) first. */
export class Slots {
  #free: number;
  readonly #waiting: { rank: number; grant: () => void }[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  get free(): number {
    return this.#free;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** A function that gives the permit back (once), or undefined when the signal aborted first. */
  acquire(rank: number, signal: AbortSignal): Promise<(() => void) | undefined> {
    if (signal.aborted) return Promise.resolve(undefined);
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve(this.#permit());
    }
    return new Promise((resolve) => {
      const waiter = {
        rank,
        grant: () => {
          signal.removeEventListener('abort', abort);
          resolve(this.#permit());
        },
      };
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        resolve(undefined);
      };
      signal.addEventListener('abort', abort, { once: true });
      const at = this.#waiting.findIndex((other) => other.rank > rank);
      this.#waiting.splice(at === -1 ? this.#waiting.length : at, 0, waiter);
    });
  }

  /** With a permit, for as long as `work` takes. Throws the signal's reason when that aborts first. */
  async run<T>(rank: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const release = await this.acquire(rank, signal);
    try {
      // Within: it may have been granted in the same moment.
      signal.throwIfAborted();
      return await work();
    } finally {
      release?.();
    }
  }

  #permit(): () => void {
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next.grant();
    };
  }
}
