import type { Clock } from './clock.ts';

export interface WatchGuardOptions {
  /** Without a sign of life for so long the connection is taken for dead. */
  idleMs: number;
  /** What the server was asked for. */
  timeoutSeconds: number;
  /** When the list is due to be read anew. */
  relistInMs: number | undefined;
}

/** A server ends its watch on time; a watch that is still there after this is held open by nobody. */
const OVERDUE_MS = 15_000;

/** Ends a watch that nobody else would end: half-open TCP looks exactly like a quiet cluster. */
export class WatchGuard {
  readonly #clock: Clock;
  readonly #outer: AbortSignal;
  readonly #abort = new AbortController();
  readonly #idleMs: number;
  readonly #cancels: (() => void)[] = [];
  #cancelIdle = (): void => {};
  #aliveAt: number;
  #verdict: 'idle' | 'relist' | undefined;

  constructor(clock: Clock, outer: AbortSignal, options: WatchGuardOptions) {
    this.#clock = clock;
    this.#outer = outer;
    this.#idleMs = options.idleMs;
    this.#aliveAt = clock.monotonic();
    if (outer.aborted) this.#abort.abort();
    outer.addEventListener('abort', this.#onOuterAbort, { once: true });
    this.#cancels.push(clock.after(options.timeoutSeconds * 1000 + OVERDUE_MS, () => this.#end('idle')));
    if (options.relistInMs !== undefined)
      this.#cancels.push(clock.after(options.relistInMs, () => this.#end('relist')));
    this.#watchIdle(options.idleMs);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Why this guard ended the watch, if it did. */
  get verdict(): 'idle' | 'relist' | undefined {
    return this.#verdict;
  }

  alive(): void {
    this.#aliveAt = this.#clock.monotonic();
  }

  close(): void {
    this.#cancelIdle();
    for (const cancel of this.#cancels) cancel();
    this.#outer.removeEventListener('abort', this.#onOuterAbort);
    // A watch that is left in the middle must let go of its connection.
    this.#abort.abort();
  }

  readonly #onOuterAbort = (): void => this.#abort.abort();

  /** One timer that is set anew when it fires, not one for each chunk. */
  #watchIdle(inMs: number): void {
    this.#cancelIdle = this.#clock.after(inMs, () => {
      const leftMs = this.#aliveAt + this.#idleMs - this.#clock.monotonic();
      if (leftMs > 0) this.#watchIdle(leftMs);
      else this.#end('idle');
    });
  }

  #end(verdict: 'idle' | 'relist'): void {
    this.#verdict ??= verdict;
    this.#abort.abort();
  }
}
