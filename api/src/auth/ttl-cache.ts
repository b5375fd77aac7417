import { type Awaitable } from '@crucible/storage';

/** Answers kept for a short while, a bounded number of them; what is asked for twice at once is asked once. */
export class TtlCache<T> {
  readonly #entries = new Map<string, { value: T; until: number }>();
  readonly #loading = new Map<string, Promise<T>>();
  readonly #size: number;
  readonly #now: () => number;

  constructor(size: number, now: () => number) {
    this.#size = size;
    this.#now = now;
  }

  /** `secondsFor` says how long an answer holds; a failure is never kept. At once when it is known. */
  get(key: string, load: () => Promise<T>, secondsFor: (value: T) => number): Awaitable<T> {
    const found = this.#entries.get(key);
    return found !== undefined && found.until > this.#now() ? found.value : this.#load(key, load, secondsFor);
  }

  async #load(key: string, load: () => Promise<T>, secondsFor: (value: T) => number): Promise<T> {
    const running = this.#loading.get(key);
    if (running !== undefined) return await running;
    const loading = load().finally(() => this.#loading.delete(key));
    this.#loading.set(key, loading);
    const value = await loading;
    this.#keep(key, value, this.#now() + secondsFor(value) * 1000);
    return value;
  }

  /** What is kept, without asking for it. */
  peek(key: string): T | undefined {
    const found = this.#entries.get(key);
    return found !== undefined && found.until > this.#now() ? found.value : undefined;
  }

  #keep(key: string, value: T, until: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, until });
    // A Map iterates in the order of insertion: the first is the one that was loaded longest ago.
    if (this.#entries.size > this.#size) this.#entries.delete(this.#entries.keys().next().value as string);
  }
}
