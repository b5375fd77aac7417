import { CAPTURE_FINALIZER, FIELD_MANAGERS } from '@crucible/crds';
import { EVALUATIONS, PODS, isConflict, isInvalid, isNotFound } from '../kube/index.ts';
import type { CallOptions, KubeClient, KubeObject } from '../kube/index.ts';

// Our finalizer keeps an Evaluation and a pod until what came out of the run is stored.

const MAX_TRIES = 3;
const OPTIONS = { fieldManager: FIELD_MANAGERS.objects, metadataOnly: true } as const;

export async function addFinalizer(client: KubeClient, { metadata }: KubeObject, call: CallOptions): Promise<KubeObject> {
  const { namespace = '', name = '', uid, finalizers, resourceVersion } = metadata;
  // The resourceVersion makes it a compare-and-set: the list is replaced as a whole, and others keep theirs in it.
  const patch = { metadata: { uid, resourceVersion, finalizers: [...(finalizers ?? []), CAPTURE_FINALIZER] } };
  return await client.mergePatch<KubeObject>(EVALUATIONS, namespace, name, patch, { ...OPTIONS, ...call });
}

/**
 * Of an Evaluation. Others may remove theirs at the same time, so ours is found anew when the first try misses. The object as
 * it is then; undefined when it is gone, or another one has its name.
 */
export async function removeFinalizer(client: KubeClient, object: KubeObject, call: CallOptions): Promise<KubeObject | undefined> {
  const { namespace, name = '', uid } = object.metadata;
  let current: KubeObject | undefined = object;
  for (let tries = 1; current !== undefined; tries += 1) {
    const index = current.metadata.finalizers?.indexOf(CAPTURE_FINALIZER) ?? -1;
    if (current.metadata.uid !== uid) return undefined;
    if (index < 0) return current;
    const path = `/metadata/finalizers/${index}`;
    const patch = [
      { op: 'test', path: '/metadata/uid', value: uid },
      { op: 'test', path, value: CAPTURE_FINALIZER },
      { op: 'remove', path },
    ] as const;
    try {
      return await client.jsonPatch<KubeObject>(EVALUATIONS, namespace, name, [...patch], { ...OPTIONS, ...call });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      if (tries === MAX_TRIES || (!isInvalid(error) && !isConflict(error))) throw error;
      current = await client.get<KubeObject>(EVALUATIONS, namespace, name, call).catch(undefinedIfGone);
    }
  }
  return current;
}

/** By name in the list, as the Job controller removes its own at about the same time; of another pod of that name nothing. */
export async function releasePod(client: KubeClient, { metadata }: KubeObject, call: CallOptions): Promise<void> {
  const { namespace, name = '', uid } = metadata;
  const patch = { metadata: { uid, '$deleteFromPrimitiveList/finalizers': [CAPTURE_FINALIZER] } };
  try {
    await client.strategicMergePatch(PODS, namespace, name, patch, { ...OPTIONS, ...call });
  } catch (error) {
    if (isNotFound(error)) return;
    // Another uid is invalid: it cannot be changed.
    if (!isInvalid(error) && !isConflict(error)) throw error;
    const live = await client.get<KubeObject>(PODS, namespace, name, call).catch(undefinedIfGone);
    if (live?.metadata.uid === uid) throw error;
  }
}

function undefinedIfGone(error: unknown): undefined {
  if (isNotFound(error)) return undefined;
  throw error;
}
