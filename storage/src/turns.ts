import { UnavailableError } from './errors.ts';

/**
 * Who may use a connection now. Waiting for one of ours says nothing about the server: a crowd waits as long as it takes,
 * in the order of asking, as long as anybody is answered. Only when nobody has been for so long is the server taken for away.
 */
export class Turns {
  readonly #silenceMilliseconds: number;
  /** In the order of asking. */
  readonly #waiting = new Set<() => void>();
  #free: number;
  #answeredAt = performance.now();

  constructor(count: number, silenceMilliseconds: number) {
    this.#free = count;
    this.#silenceMilliseconds = silenceMilliseconds;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Resolves when it is the caller's turn; it must be given back. */
  async take(): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await this.#wait();
  }

  giveBack(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#free += 1;
    else next();
  }

  /** The server has said something to somebody. */
  answered(): void {
    this.#answeredAt = performance.now();
  }

  #wait(): Promise<void> {
    return new Promise((resolve, reject) => {
      const since = performance.now();
      const grant = (): void => {
        this.#waiting.delete(grant);
        clearTimeout(timer);
        resolve();
      };
      const look = (): void => {
        const left = this.#silenceMilliseconds - (performance.now() - Math.max(since, this.#answeredAt));
        if (left > 0) {
          timer = setTimeout(look, left);
          return;
        }
        this.#waiting.delete(grant);
        reject(new UnavailableError(`Postgres is not available: it has not answered anybody for ${this.#silenceMilliseconds} ms`));
      };
      let timer = setTimeout(look, this.#silenceMilliseconds);
      this.#waiting.add(grant);
    });
  }
}
