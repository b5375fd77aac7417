import { API_VERSION, FIELD_MANAGERS } from '@crucible/crds';
import { isNotFound, trim } from '../kube/index.ts';
import type { KubeClient, KubeObject, ObjectCache, Resource } from '../kube/index.ts';

export interface StatusWriterOptions<T extends KubeObject> {
  readonly client: KubeClient;
  readonly resource: Resource;
  readonly kind: string;
  readonly cache: ObjectCache<T>;
  /** What is kept of an answer, as the cache does. */
  readonly transform?: (raw: KubeObject) => T;
}

/**
 * Reads one of our own kinds and writes its status. Between the write and the watch bringing it, what was written is what
 * is read: deciding from the older one would repeat what was done.
 */
export class StatusWriter<T extends KubeObject> {
  readonly #options: StatusWriterOptions<T>;
  readonly #written = new Map<string, T>();

  constructor(options: StatusWriterOptions<T>) {
    this.#options = options;
  }

  /** The newer of what the watch brought and what we wrote ourselves. */
  read(key: string): T | undefined {
    const cached = this.#options.cache.get(key);
    const written = this.#written.get(key);
    if (cached === undefined || written === undefined) return cached;
    const newer = written.metadata.uid === cached.metadata.uid && version(written) > version(cached);
    if (!newer) this.#written.delete(key);
    return newer ? written : cached;
  }

  forget(key: string): void {
    this.#written.delete(key);
  }

  /**
   * The whole status, by server-side apply, on the version it was decided on: for a subresource the API server compares
   * no uid, so without it another object of the same name would get the status. False: the object is gone.
   */
  async write(key: string, { metadata: of }: T, resourceVersion: string | undefined, status: object, signal: AbortSignal): Promise<boolean> {
    const { client, resource, kind, transform = trim } = this.#options;
    const { namespace = '', name = '', uid = '' } = of;
    const metadata = { namespace, name, uid, ...(resourceVersion !== undefined && { resourceVersion }) };
    const object = { apiVersion: API_VERSION, kind, metadata, status };
    const options = { fieldManager: FIELD_MANAGERS.status, force: true, subresource: 'status', signal };
    try {
      this.#written.set(key, transform(await client.apply(resource, object, options)) as T);
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }
}

// Versions of one kind are comparable numbers (KEP-5504); before that was promised, every etcd-backed server did it.
function version({ metadata }: KubeObject): bigint {
  const text = metadata.resourceVersion ?? '';
  return /^\d+$/.test(text) ? BigInt(text) : 0n;
}
