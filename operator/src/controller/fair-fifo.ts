/** First in, first out with constant cost; a plain array's shift() copies ten thousand keys each time. */
class Fifo {
  #items: (string | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(item: string): void {
    this.#items.push(item);
  }

  shift(): string | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}

/**
 * Groups take turns, keys of one group go first in, first out. A key therefore waits for at most (its place in its
 * group) × (number of groups) others: ten thousand keys in one namespace do not delay another namespace.
 */
export class FairFifo {
  readonly #groups = new Map<string, Fifo>();
  readonly #turns = new Fifo();
  readonly #groupOf: (key: string) => string;
  #length = 0;

  constructor(groupOf: (key: string) => string) {
    this.#groupOf = groupOf;
  }

  get length(): number {
    return this.#length;
  }

  push(key: string): void {
    const name = this.#groupOf(key);
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = new Fifo();
      this.#groups.set(name, group);
      this.#turns.push(name);
    }
    group.push(key);
    this.#length += 1;
  }

  shift(): string | undefined {
    const name = this.#turns.shift();
    const group = name === undefined ? undefined : this.#groups.get(name);
    const key = group?.shift();
    if (name === undefined || group === undefined || key === undefined) return undefined;
    this.#length -= 1;
    if (group.length > 0) this.#turns.push(name);
    else this.#groups.delete(name);
    return key;
  }
}
