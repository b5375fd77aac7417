/** At most `limit` holders at once, first come first served. */
export class Limiter {
  readonly #limit: number;
  #held = 0;
  #waiting: { grant: () => void }[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Resolves to the function that gives the place back, or rejects with the signal's reason. */
  acquire(signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.#held < this.#limit) {
      this.#held += 1;
      return Promise.resolve(this.#releaseOnce());
    }
    return new Promise((resolve, reject) => {
      const entry = {
        grant: () => {
          signal.removeEventListener('abort', onAbort);
          resolve(this.#releaseOnce());
        },
      };
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== entry);
        reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(entry);
    });
  }

  #releaseOnce(): () => void {
    let released = false;
    return () => {
      if (released) return;
      released = true;
      const next = this.#waiting.shift();
      if (next !== undefined) next.grant();
      else this.#held -= 1;
    };
  }
}
