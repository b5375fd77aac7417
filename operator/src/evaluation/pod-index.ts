import { LABELS } from '@crucible/crds';
import type { ObjectCache } from '../kube/index.ts';
import type { Pod } from './objects.ts';

/**
 * Sandbox pods by evaluation and attempt: scanning the cache for each reconcile would make a thousand runs a million
 * reads.
 */
export class PodIndex {
  readonly #cache: ObjectCache<Pod>;
  readonly #keys: Groups = new Map();
  readonly #evaluations: Groups = new Map();

  constructor(cache: ObjectCache<Pod>) {
    this.#cache = cache;
    cache.onChange((key, current, previous) => {
      if (previous !== undefined) {
        remove(this.#keys, slot(previous), key);
        remove(this.#evaluations, uidLabel(previous), key);
      }
      if (current !== undefined) {
        add(this.#keys, slot(current), key);
        add(this.#evaluations, uidLabel(current), key);
      }
    });
  }

  of(evaluationUid: string, attempt: number): Pod[] {
    const keys = this.#keys.get(`${evaluationUid}/${attempt}`) ?? [];
    return [...keys].map((key) => this.#cache.get(key)).filter((pod) => pod !== undefined);
  }

  /** Of all its attempts. */
  ofEvaluation(evaluationUid: string): Pod[] {
    return [...(this.#evaluations.get(evaluationUid) ?? [])]
      .map((key) => this.#cache.get(key))
      .filter((pod) => pod !== undefined);
  }

  list(): Pod[] {
    return this.#cache.list();
  }
}

type Groups = Map<string, Set<string>>;

function add(groups: Groups, name: string, key: string): void {
  const keys = groups.get(name) ?? new Set<string>();
  keys.add(key);
  groups.set(name, keys);
}

function remove(groups: Groups, name: string, key: string): void {
  const keys = groups.get(name);
  if (keys?.delete(key) && keys.size === 0) groups.delete(name);
}

function uidLabel(pod: Pod): string {
  return pod.metadata.labels?.[LABELS.evaluationUid] ?? '';
}

function slot(pod: Pod): string {
  return `${uidLabel(pod)}/${pod.metadata.labels?.[LABELS.attempt]}`;
}
