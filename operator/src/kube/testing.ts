import type { Clock } from './clock.ts';

interface Timer {
  at: number;
  id: number;
  ms: number;
  callback: () => void;
}

/** A clock that moves only when told to. */
export class FakeClock implements Clock {
  #wall: number;
  #monotonic = 1_000_000;
  #nextId = 1;
  #timers = new Map<number, Timer>();
  #watchers: { matches: (ms: number) => boolean; resolve: (ms: number) => void }[] = [];

  constructor(start = '2026-01-02T03:04:05.678Z') {
    this.#wall = Date.parse(start);
  }

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  after(ms: number, callback: () => void): () => void {
    const id = this.#nextId++;
    this.#timers.set(id, { at: this.#monotonic + Math.max(0, ms), id, ms, callback });
    this.#watchers = this.#watchers.filter((watcher) => {
      if (!watcher.matches(ms)) return true;
      watcher.resolve(ms);
      return false;
    });
    return () => this.#timers.delete(id);
  }

  /** The wall clock jumps, as when it is set; timers and durations do not notice. */
  jump(ms: number): void {
    this.#wall += ms;
  }

  /** Delays of the timers that are set, in the order in which they fire. */
  get pending(): number[] {
    return this.#sorted().map((timer) => timer.ms);
  }

  /** Resolves when a timer is set, or was, whose delay matches. */
  timer(matches: (ms: number) => boolean): Promise<number> {
    const found = this.#sorted().find((timer) => matches(timer.ms));
    if (found !== undefined) return Promise.resolve(found.ms);
    return new Promise((resolve) => this.#watchers.push({ matches, resolve }));
  }

  /** Moves on by `ms`, firing in order what is due and letting promises settle after each. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    await settle();
    for (;;) {
      const next = this.#sorted()[0];
      if (next === undefined || next.at > end) break;
      this.#moveTo(Math.max(next.at, this.#monotonic));
      this.#timers.delete(next.id);
      next.callback();
      await settle();
    }
    this.#moveTo(end);
    await settle();
  }

  #moveTo(monotonic: number): void {
    this.#wall += monotonic - this.#monotonic;
    this.#monotonic = monotonic;
  }

  #sorted(): Timer[] {
    return [...this.#timers.values()].sort((a, b) => a.at - b.at || a.id - b.id);
  }
}

/** Lets everything run that waits for promises only. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i += 1) await new Promise((resolve) => setImmediate(resolve));
}
