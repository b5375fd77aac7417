import { EVALUATIONS, isNotFound } from '../kube/index.ts';
import type { KubeClient, KubeObject } from '../kube/index.ts';

/** The API server's word that this Evaluation is not there (any more): a watch may lag, or hang. */
export async function isGone(
  client: Pick<KubeClient, 'get'>,
  { namespace, name, uid }: { readonly namespace: string; readonly name: string; readonly uid: string },
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    const live = await client.get<KubeObject>(EVALUATIONS, namespace, name, { ...(signal && { signal }) });
    return live.metadata.uid !== uid;
  } catch (error) {
    if (isNotFound(error)) return true;
    throw error;
  }
}
