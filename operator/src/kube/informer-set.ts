import { Informer, type InformerOptions } from './informer.ts';
import { splitKey, type KubeObject } from './resources.ts';
import type { ChangeHandler, ObjectCache } from './types.ts';

export interface InformerSetOptions<T extends KubeObject> extends Omit<InformerOptions<T>, 'namespace' | 'needed' | 'gone'> {
  namespaces: readonly string[];
  /** One that is waited for until we may look. */
  needed?: string | undefined;
  /** The namespace is known not to be there any more. */
  gone?: ((namespace: string) => boolean) | undefined;
}

/**
 * One informer for each namespace, seen as one: for RBAC that grants namespaces one by one. Where we may not look, because the
 * namespace was deleted and our rights with it, is not waited for: it would hold up all the others for ever.
 */
export class InformerSet<T extends KubeObject> implements ObjectCache<T> {
  readonly #informers: ReadonlyMap<string, Informer<T>>;

  constructor(options: InformerSetOptions<T>) {
    const { namespaces, needed, gone, ...rest } = options;
    const make = (namespace: string): Informer<T> =>
      new Informer<T>({ ...rest, namespace, needed: namespace === needed, gone: gone && (() => gone(namespace)) });
    this.#informers = new Map(namespaces.map((namespace) => [namespace, make(namespace)]));
  }

  get #all(): Informer<T>[] {
    return [...this.#informers.values()];
  }

  onChange(handler: ChangeHandler<T>): void {
    for (const informer of this.#all) informer.onChange(handler);
  }

  start(): void {
    for (const informer of this.#all) informer.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((informer) => informer.stop()));
  }

  async waitForSync(signal?: AbortSignal): Promise<void> {
    await Promise.all(this.#all.map((informer) => informer.waitForAnswer(signal)));
  }

  get synced(): boolean {
    return this.#all.every((informer) => informer.answered);
  }

  get size(): number {
    return this.#all.reduce((sum, informer) => sum + informer.size, 0);
  }

  get(key: string): T | undefined {
    return this.#informers.get(splitKey(key).namespace ?? '')?.get(key);
  }

  list(): T[] {
    return this.#all.flatMap((informer) => informer.list());
  }

  /** What is not in the cache is not in that namespace either, or was not a moment ago. */
  sees(namespace: string): boolean {
    const informer = this.#informers.get(namespace);
    return informer !== undefined && informer.synced && !informer.refused;
  }

  /** Of the one that is furthest behind, among those that may look. */
  lastSyncAgeSeconds(): number {
    return this.#all.filter(({ refused }) => !refused).reduce((most, informer) => Math.max(most, informer.lastSyncAgeSeconds()), 0);
  }
}
