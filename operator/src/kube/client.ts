import type { KubeList, KubeObject, Resource } from './resources.ts';
import type * as t from './types.ts';
export declare class KubeClient {
  constructor(options: t.KubeClientOptions);
  get<T extends KubeObject>(res: Resource, namespace: string | undefined, name: string, options?: t.CallOptions): Promise<T>;
  list<T extends KubeObject>(res: Resource, options?: t.ListOptions<T>): Promise<KubeList<T>>;
  create<T extends KubeObject>(res: Resource, object: T, options?: t.WriteOptions): Promise<T>;
  replace<T extends KubeObject>(res: Resource, object: T, options?: t.WriteOptions): Promise<T>;
  apply<T extends KubeObject>(res: Resource, object: KubeObject, options: t.ApplyOptions): Promise<T>;
  mergePatch<T extends KubeObject>(res: Resource, namespace: string | undefined, name: string, patch: object, options?: t.WriteOptions): Promise<T>;
  jsonPatch<T extends KubeObject>(res: Resource, namespace: string | undefined, name: string, patch: t.JsonPatchOperation[], options?: t.WriteOptions): Promise<T>;
  delete(res: Resource, namespace: string | undefined, name: string, options?: t.DeleteOptions): Promise<void>;
  watch<T extends KubeObject>(res: Resource, options: t.WatchOptions): Promise<AsyncIterable<t.WatchEvent<T>>>;
  podLog(namespace: string, pod: string, options?: t.PodLogOptions): Promise<t.PodLogStream>;
  /** GET of a path that is no object: /version, /readyz. */
  raw(path: string, options?: t.CallOptions): Promise<string>;
  close(): Promise<void>;
}
