import { isForbidden, isNotFound } from '../kube/index.ts';
import type { KubeObject } from '../kube/index.ts';
import { isDeleting } from './objects.ts';
import type { Namespace } from './objects.ts';
import type { Settings } from './settings.ts';

/** Where a namespace's objects may be out of our reach. */
export interface ReachDependencies {
  readonly caches: { readonly namespaces: { get(name: string): Namespace | undefined } };
  readonly settings: Pick<Settings, 'evaluationNamespaces'>;
}

/**
 * Not there, or as good as that. Our rights in a namespace are an object of it, and go with it: what we may not touch then is
 * gone or goes. Where they were taken, because the namespace is not configured any more, they may be given again, and what
 * runs waits for that; only who cancels or deletes it need not.
 */
export function isOutOfReach(error: unknown, { metadata, spec }: KubeObject & { spec?: unknown }, deps: ReachDependencies): boolean {
  if (isNotFound(error)) return true;
  if (!isForbidden(error)) return false;
  const name = metadata.namespace ?? '';
  const namespace = deps.caches.namespaces.get(name);
  if (namespace === undefined || isDeleting(namespace)) return true;
  const given = deps.settings.evaluationNamespaces.includes(name);
  return !given && (isDeleting({ metadata }) || (spec as { cancel?: unknown } | undefined)?.cancel === true);
}

/** Undefined when what the call is about is out of reach. `also` tells what else means that nothing is left to do. */
export async function unlessOutOfReach<T>(
  call: Promise<T>,
  about: KubeObject,
  deps: ReachDependencies,
  also: (error: unknown) => boolean = () => false,
): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isOutOfReach(error, about, deps) || also(error)) return undefined;
    throw error;
  }
}
