/** Memory that many share: each notes what it holds, and does with less while too much is held in all. */
export class MemoryBudget {
  readonly #maxBytes: number;
  #held = 0;
  readonly #waiting = new Set<() => void>();

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get heldBytes(): number {
    return this.#held;
  }

  get exceeded(): boolean {
    return this.#held > this.#maxBytes;
  }

  /** Notes a change; false when too much is held now. */
  change(bytes: number): boolean {
    this.#held += bytes;
    if (!this.exceeded) for (const wake of [...this.#waiting]) wake();
    return !this.exceeded;
  }

  /** Resolves when no more is held than may be, or the signal aborts: the caller checks the signal. */
  async room(signal: AbortSignal): Promise<void> {
    while (this.exceeded && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#waiting.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    }
  }
}
