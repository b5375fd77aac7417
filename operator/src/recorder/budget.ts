/** Memory that many share: each notes what it holds, and does with less while too much is held in all. */
export class MemoryBudget {
  readonly #maxBytes: number;
  #held = 0;

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
    return !this.exceeded;
  }
}
