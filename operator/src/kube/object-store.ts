import { keyOf, type KubeObject } from './resources.ts';

export type Notify<T> = (key: string, current: T | undefined, previous: T | undefined) => void;

/** `disorder`: the event cannot be put in order with what is known; only a new list tells. */
export type Applied = 'applied' | 'duplicate' | 'disorder';

/** Deleted UIDs that are remembered, so that a late line does not bring one back. */
const MAX_TOMBSTONES = 1024;

/**
 * Compares resource versions: they are decimal and grow (KEP-5504 made that official). Undefined when one is not.
 * Longer than 2^53, so not as numbers.
 */
export function compareVersions(a: string | undefined, b: string | undefined): number | undefined {
  if (!isVersion(a) || !isVersion(b)) return undefined;
  return a.length === b.length ? (a < b ? -1 : a > b ? 1 : 0) : a.length - b.length;
}

/** What cannot be compared counts as later: better told twice than not. */
function isLater(version: string | undefined, than: string | undefined): boolean {
  return (compareVersions(version, than) ?? 1) > 0;
}

function isVersion(value: string | undefined): value is string {
  return value !== undefined && /^[1-9]\d*$/.test(value);
}

/** What an informer keeps of what it is told. */
export interface Store<T extends KubeObject> {
  /** A watch may go on from here. */
  readonly version: string;
  readonly size: number;
  get(key: string): T | undefined;
  list(): T[];
  entries(): [string, T][];
  /** A bookmark. */
  advance(version: string): void;
  /** Makes the store equal to a list, telling each difference. */
  replace(items: readonly T[], version: string): void;
  /** An event of a watch. The API server sends them in the order of their versions; what lies between may not. */
  apply(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: T): Applied;
}

/** The cache of an informer: pure bookkeeping, no time and no network. */
export class ObjectStore<T extends KubeObject> implements Store<T> {
  readonly #objects = new Map<string, T>();
  readonly #tombstones = new Set<string>();
  readonly #notify: Notify<T>;
  #version = '';

  constructor(notify: Notify<T>) {
    this.#notify = notify;
  }

  get version(): string {
    return this.#version;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  entries(): [string, T][] {
    return [...this.#objects];
  }

  advance(version: string): void {
    if (isLater(version, this.#version)) this.#version = version;
  }

  replace(items: readonly T[], version: string): void {
    const next = new Map(items.map((item) => [keyOf(item), item]));
    this.#version = version;
    for (const [key, previous] of this.#objects) {
      if (!next.has(key)) this.#remove(key, previous);
    }
    for (const [key, current] of next) {
      if (this.#objects.get(key)?.metadata.resourceVersion !== current.metadata.resourceVersion)
        this.#put(key, current);
    }
  }

  apply(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: T): Applied {
    const key = keyOf(object);
    const { uid, resourceVersion } = object.metadata;
    const cached = this.#objects.get(key);
    if (uid !== undefined && this.#tombstones.has(uid)) return 'duplicate';
    const same = cached !== undefined && cached.metadata.uid === uid;
    if (same && !isLater(resourceVersion, cached.metadata.resourceVersion) && type !== 'DELETED')
      return 'duplicate';
    if (!isLater(resourceVersion, this.#version)) return 'disorder';
    // The end of an earlier object of this name, after the beginning of the present one.
    if (type === 'DELETED' && cached !== undefined && !same) return 'disorder';
    this.#version = resourceVersion ?? this.#version;
    if (type !== 'DELETED') this.#put(key, object);
    else if (cached !== undefined) this.#remove(key, cached);
    else this.#bury(uid);
    return 'applied';
  }

  #put(key: string, current: T): void {
    let previous = this.#objects.get(key);
    if (previous !== undefined && previous.metadata.uid !== current.metadata.uid) {
      // Deleted and created again while we looked away: two changes, or the new one would inherit the old one's life.
      this.#remove(key, previous);
      previous = undefined;
    }
    this.#objects.set(key, current);
    this.#notify(key, current, previous);
  }

  #remove(key: string, previous: T): void {
    this.#objects.delete(key);
    this.#bury(previous.metadata.uid);
    this.#notify(key, undefined, previous);
  }

  #bury(uid: string | undefined): void {
    if (uid === undefined) return;
    this.#tombstones.add(uid);
    if (this.#tombstones.size <= MAX_TOMBSTONES) return;
    for (const oldest of this.#tombstones) {
      this.#tombstones.delete(oldest);
      break;
    }
  }
}

/**
 * Keeps nothing but how far it has come: for what is passed on and never looked up. Every object is told once for each of
 * its versions; that one is gone is not told.
 */
export class PassingStore<T extends KubeObject> implements Store<T> {
  readonly size = 0;
  readonly #notify: Notify<T>;
  #version = '';

  constructor(notify: Notify<T>) {
    this.#notify = notify;
  }

  get version(): string {
    return this.#version;
  }

  get(): undefined {}

  list(): T[] {
    return [];
  }

  entries(): [string, T][] {
    return [];
  }

  advance(version: string): void {
    if (isLater(version, this.#version)) this.#version = version;
  }

  replace(items: readonly T[], version: string): void {
    // Of a list that is older than what we know, after a restore from a backup, all is news.
    const known = (compareVersions(version, this.#version) ?? 0) < 0 ? '' : this.#version;
    this.#version = version;
    // A list is in the order of names.
    const news = items.filter(({ metadata }) => isLater(metadata.resourceVersion, known));
    news.sort((a, b) => compareVersions(a.metadata.resourceVersion, b.metadata.resourceVersion) ?? 0);
    for (const item of news) this.#notify(keyOf(item), item, undefined);
  }

  apply(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: T): Applied {
    if (!isLater(object.metadata.resourceVersion, this.#version)) return 'duplicate';
    this.#version = object.metadata.resourceVersion ?? this.#version;
    if (type !== 'DELETED') this.#notify(keyOf(object), object, undefined);
    return 'applied';
  }
}
