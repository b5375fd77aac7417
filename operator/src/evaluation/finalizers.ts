import { CAPTURE_FINALIZER, FIELD_MANAGERS } from '@crucible/crds';
import { EVALUATIONS, isConflict, isInvalid, isNotFound } from '../kube/index.ts';
import type { CallOptions, KubeClient, KubeObject, Resource } from '../kube/index.ts';

// Our finalizer keeps an Evaluation and a pod until what came out of the run is stored.

export async function addFinalizer(client: KubeClient, { metadata }: KubeObject, call: CallOptions): Promise<KubeObject> {
  const { namespace = '', name = '', uid, finalizers, resourceVersion } = metadata;
  // The resourceVersion makes it a compare-and-set: the list is replaced as a whole, and others keep theirs in it.
  const patch = { metadata: { uid, resourceVersion, finalizers: [...(finalizers ?? []), CAPTURE_FINALIZER] } };
  const options = { fieldManager: FIELD_MANAGERS.objects, metadataOnly: true, ...call };
  return await client.mergePatch<KubeObject>(EVALUATIONS, namespace, name, patch, options);
}

/**
 * Others remove theirs at the same time (the Job controller from the pod), so ours is found anew when the first try
 * misses. The object as it is then; undefined when it is gone, or another one has its name.
 */
export async function removeFinalizer(
  client: KubeClient,
  resource: Resource,
  object: KubeObject,
  call: CallOptions,
): Promise<KubeObject | undefined> {
  const { namespace, name = '', uid } = object.metadata;
  let current: KubeObject | undefined = object;
  for (let attempt = 0; attempt < 3 && current !== undefined; attempt += 1) {
    const index = current.metadata.finalizers?.indexOf(CAPTURE_FINALIZER) ?? -1;
    if (current.metadata.uid !== uid) return undefined;
    if (index < 0) return current;
    const path = `/metadata/finalizers/${index}`;
    try {
      return await client.jsonPatch<KubeObject>(
        resource,
        namespace,
        name,
        [
          { op: 'test', path: '/metadata/uid', value: uid },
          { op: 'test', path, value: CAPTURE_FINALIZER },
          { op: 'remove', path },
        ],
        { fieldManager: FIELD_MANAGERS.objects, metadataOnly: true, ...call },
      );
    } catch (error) {
      if (isNotFound(error)) return undefined;
      if (!isInvalid(error) && !isConflict(error)) throw error;
      current = await client.get<KubeObject>(resource, namespace, name, call).catch(undefinedIfGone);
    }
  }
  return current;
}

function undefinedIfGone(error: unknown): undefined {
  if (isNotFound(error)) return undefined;
  throw error;
}
