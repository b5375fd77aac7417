/** An evaluation that waits for its turn. */
export interface Waiting {
  readonly namespace: string;
  readonly priority: number;
  /** Milliseconds since the epoch: the older first. */
  readonly createdAt: number;
}

/**
 * Who may have a Job. The namespace with the fewest running goes first, priority orders inside it, then age: nobody
 * starves behind a namespace that submits thousands. In memory only: after a restart the Jobs in the cluster say who
 * has a place (`hold`), and everyone else asks again.
 */
export class AdmissionQueue {
  readonly #limit: number;
  readonly #wake: (key: string) => void;
  readonly #running = new Map<string, string>();
  readonly #perNamespace = new Map<string, number>();
  readonly #waiting = new Map<string, Map<string, Waiting>>();

  constructor(limit: number, wake: (key: string) => void) {
    this.#limit = limit;
    this.#wake = wake;
  }

  get running(): number {
    return this.#running.size;
  }

  get waiting(): number {
    let count = 0;
    for (const keys of this.#waiting.values()) count += keys.size;
    return count;
  }

  has(key: string): boolean {
    return this.#running.has(key);
  }

  /** It already has a Job: its place counts, even over the limit. */
  hold(key: string, namespace: string): void {
    if (this.#running.has(key)) return;
    this.#leave(key, namespace);
    this.#running.set(key, namespace);
    this.#perNamespace.set(namespace, (this.#perNamespace.get(namespace) ?? 0) + 1);
  }

  /** True: it has a place. False: it is woken when it gets one. */
  request(key: string, waiting: Waiting): boolean {
    if (this.#running.has(key)) return true;
    const keys = this.#waiting.get(waiting.namespace) ?? new Map<string, Waiting>();
    keys.set(key, waiting);
    this.#waiting.set(waiting.namespace, keys);
    this.#grant(key);
    return this.#running.has(key);
  }

  /** It is over, gone, or no longer wants one. */
  release(key: string, namespace: string): void {
    this.#leave(key, namespace);
    if (!this.#running.delete(key)) return;
    const left = (this.#perNamespace.get(namespace) ?? 1) - 1;
    if (left > 0) this.#perNamespace.set(namespace, left);
    else this.#perNamespace.delete(namespace);
    this.#grant();
  }

  clear(): void {
    this.#running.clear();
    this.#perNamespace.clear();
    this.#waiting.clear();
  }

  #grant(asking?: string): void {
    while (this.#running.size < this.#limit) {
      const next = this.#next();
      if (next === undefined) return;
      this.hold(next.key, next.namespace);
      if (next.key !== asking) this.#wake(next.key);
    }
  }

  #next(): { key: string; namespace: string } | undefined {
    let fewest: string | undefined;
    for (const namespace of this.#waiting.keys()) {
      if (fewest === undefined || this.#count(namespace) < this.#count(fewest)) fewest = namespace;
    }
    if (fewest === undefined) return undefined;
    let best: [string, Waiting] | undefined;
    for (const entry of this.#waiting.get(fewest)!) {
      if (best === undefined || before(entry[1], best[1])) best = entry;
    }
    return best && { key: best[0], namespace: fewest };
  }

  #count(namespace: string): number {
    return this.#perNamespace.get(namespace) ?? 0;
  }

  #leave(key: string, namespace: string): void {
    const keys = this.#waiting.get(namespace);
    if (keys?.delete(key) && keys.size === 0) this.#waiting.delete(namespace);
  }
}

function before(left: Waiting, right: Waiting): boolean {
  if (left.priority !== right.priority) return left.priority > right.priority;
  return left.createdAt < right.createdAt;
}
