import { LIMITS, PAUSE_CONFIG_MAP, clip } from '@crucible/crds';
import type { KubeObject, ObjectCache } from '../kube/index.ts';

export interface PauseConfigMap extends KubeObject {
  data?: Record<string, string>;
}

/** What the switch says, or undefined when nothing is paused. Pure. */
export function pauseOf(configMap: PauseConfigMap | undefined, what: string): string | undefined {
  const { paused, reason } = configMap?.data ?? {};
  if (paused === undefined || paused === 'false' || paused === '') return undefined;
  // Somebody wanted something: what may not be started can still be started later.
  const unclear = paused === 'true' ? '' : ` (data.paused is neither "true" nor "false" in ConfigMap ${PAUSE_CONFIG_MAP})`;
  const why = reason === undefined || reason.trim() === '' ? '' : `: ${reason.replaceAll(/\s+/g, ' ').trim()}`;
  return clip(`${what} is paused${unclear}${why}`, LIMITS.queueMessageCharacters);
}

/** Who has stopped new runs, and where. */
export class PauseSwitches {
  readonly #cache: ObjectCache<PauseConfigMap>;
  readonly #ownNamespace: string | undefined;

  constructor(cache: ObjectCache<PauseConfigMap>, ownNamespace: string | undefined) {
    this.#cache = cache;
    this.#ownNamespace = ownNamespace;
  }

  of(namespace: string): string | undefined {
    const all = this.#ownNamespace === undefined ? undefined : this.#cache.get(`${this.#ownNamespace}/${PAUSE_CONFIG_MAP}`);
    const here = this.#cache.get(`${namespace}/${PAUSE_CONFIG_MAP}`);
    return pauseOf(all, 'Crucible') ?? pauseOf(here, `Namespace "${namespace}"`);
  }
}
