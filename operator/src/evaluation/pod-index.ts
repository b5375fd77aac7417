import { LABELS } from '@crucible/crds';
import type { ObjectCache } from '../kube/index.ts';
import type { Pod } from './objects.ts';

/**
 * Sandbox pods by evaluation and attempt: scanning the cache for each reconcile would make a thousand runs a million
 * reads.
 */
export class PodIndex {
  readonly #cache: ObjectCache<Pod>;
  readonly #keys = new Map<string, Set<string>>();

  constructor(cache: ObjectCache<Pod>) {
    this.#cache = cache;
    cache.onChange((key, current, previous) => {
      if (previous !== undefined) this.#remove(slot(previous), key);
      if (current !== undefined) this.#add(slot(current), key);
    });
  }

  of(evaluationUid: string, attempt: number): Pod[] {
    const keys = this.#keys.get(`${evaluationUid}/${attempt}`) ?? [];
    return [...keys].map((key) => this.#cache.get(key)).filter((pod) => pod !== undefined);
  }

  list(): Pod[] {
    return this.#cache.list();
  }

  #add(name: string, key: string): void {
    const keys = this.#keys.get(name) ?? new Set<string>();
    keys.add(key);
    this.#keys.set(name, keys);
  }

  #remove(name: string, key: string): void {
    const keys = this.#keys.get(name);
    if (keys?.delete(key) && keys.size === 0) this.#keys.delete(name);
  }
}

function slot(pod: Pod): string {
  const { labels } = pod.metadata;
  return `${labels?.[LABELS.evaluationUid]}/${labels?.[LABELS.attempt]}`;
}
