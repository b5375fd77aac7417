import { Caller, type ApiRequest } from './call.ts';
import { systemClock } from './clock.ts';
import { isGone, KubeError } from './errors.ts';
import { Limiter } from './limiter.ts';
import { apiVersionOf, PODS, resourcePath, type KubeList, type KubeObject, type Resource } from './resources.ts';
import { Transport } from './transport.ts';
import type * as t from './types.ts';
import { watchEvents } from './watch-stream.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** Above a page of 500 objects of 128 KiB: beyond that an answer is a mistake, held in memory three times. */
const MAX_RESPONSE_BYTES = 128 * 1024 * 1024;
/** As measured: more connections make 200 calls at once slower, not faster. */
const MAX_IN_FLIGHT = 16;
/** etcd's limit of 1.5 MiB for an object, with room for its JSON being larger than its protobuf. */
const MAX_WATCH_LINE_BYTES = 16 * 1024 * 1024;
const PAGE_SIZE = 500;
/** Restarts of a list whose continue token expired, before the whole list is asked for at once. */
const MAX_LIST_RESTARTS = 2;

const JSON_BODY = { 'content-type': 'application/json' };
const METADATA_ONLY = { accept: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json' };
/** What is deleted together is in the answer. */
const METADATA_OF_MANY = { accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json' };

/** The API server, with raw JSON in and out and KubeError for everything that goes wrong. */
export class KubeClient {
  readonly #transport: Transport;
  readonly #caller: Caller;
  readonly #timeoutMs: number;

  constructor(options: t.KubeClientOptions) {
    const clock = options.clock ?? systemClock;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#transport = new Transport({
      access: options.access,
      logger: options.logger,
      clock,
      userAgent: options.userAgent ?? 'crucible',
    });
    this.#caller = new Caller({
      transport: this.#transport,
      limiter: new Limiter(options.maxInFlight ?? MAX_IN_FLIGHT),
      clock,
      logger: options.logger,
      metrics: options.metrics,
      timeoutMs: this.#timeoutMs,
      maxResponseBytes: options.maxResponseBytes ?? MAX_RESPONSE_BYTES,
    });
  }

  get<T extends KubeObject>(
    res: Resource,
    namespace: string | undefined,
    name: string,
    options?: t.CallOptions,
  ): Promise<T> {
    const path = objectPath(res, namespace, name);
    return this.#json<T>({ method: 'GET', verb: 'get', resource: res.plural, path, idempotent: true }, options);
  }

  /** The whole list, read in pages. Items get apiVersion and kind, which the API server leaves out in lists. */
  async list<T extends KubeObject>(res: Resource, options: t.ListOptions<T> = {}): Promise<KubeList<T>> {
    for (let restarts = 0; ; restarts += 1) {
      try {
        return await this.#listPages<T>(
          res,
          options,
          restarts > MAX_LIST_RESTARTS ? undefined : (options.limit ?? PAGE_SIZE),
        );
      } catch (error) {
        // The continue token's snapshot was compacted away. Pages of two snapshots do not make a list: start again.
        if (!(error instanceof ContinueExpired)) throw error;
      }
    }
  }

  create<T extends KubeObject>(res: Resource, object: T, options: t.WriteOptions = {}): Promise<T> {
    const path = objectPath(res, object.metadata.namespace, undefined) + query(writeQuery(options));
    return this.#json<T>(
      {
        method: 'POST',
        verb: 'create',
        resource: res.plural,
        path,
        headers: { ...JSON_BODY, ...(options.metadataOnly && METADATA_ONLY) },
        body: JSON.stringify(object),
        idempotent: false,
      },
      options,
    );
  }

  /** PUT: needs metadata.resourceVersion to be safe. */
  replace<T extends KubeObject>(res: Resource, object: T, options: t.WriteOptions = {}): Promise<T> {
    const path =
      objectPath(res, object.metadata.namespace, nameOf(object), options.subresource) + query(writeQuery(options));
    return this.#json<T>(
      {
        method: 'PUT',
        verb: 'update',
        resource: res.plural,
        path,
        headers: JSON_BODY,
        body: JSON.stringify(object),
        idempotent: false,
      },
      options,
    );
  }

  /** Server-side apply. */
  apply<T extends KubeObject>(res: Resource, object: KubeObject, options: t.ApplyOptions): Promise<T> {
    const parameters = { ...writeQuery(options), force: options.force ? 'true' : undefined };
    const path = objectPath(res, object.metadata.namespace, nameOf(object), options.subresource) + query(parameters);
    return this.#patch<T>(res, 'apply', path, 'application/apply-patch+yaml', object, true, options);
  }

  mergePatch<T extends KubeObject>(
    res: Resource,
    namespace: string | undefined,
    name: string,
    patch: object,
    options: t.WriteOptions = {},
  ): Promise<T> {
    const path = objectPath(res, namespace, name, options.subresource) + query(writeQuery(options));
    return this.#patch<T>(res, 'patch', path, 'application/merge-patch+json', patch, true, options);
  }

  /** Of Kubernetes' own kinds only. */
  strategicMergePatch<T extends KubeObject>(
    res: Resource,
    namespace: string | undefined,
    name: string,
    patch: object,
    options: t.WriteOptions = {},
  ): Promise<T> {
    const path = objectPath(res, namespace, name, options.subresource) + query(writeQuery(options));
    return this.#patch<T>(res, 'patch', path, 'application/strategic-merge-patch+json', patch, true, options);
  }

  jsonPatch<T extends KubeObject>(
    res: Resource,
    namespace: string | undefined,
    name: string,
    patch: t.JsonPatchOperation[],
    options: t.WriteOptions = {},
  ): Promise<T> {
    const path = objectPath(res, namespace, name, options.subresource) + query(writeQuery(options));
    return this.#patch<T>(res, 'patch', path, 'application/json-patch+json', patch, false, options);
  }

  async delete(
    res: Resource,
    namespace: string | undefined,
    name: string,
    options: t.DeleteOptions = {},
  ): Promise<void> {
    const preconditions = { uid: options.uid, resourceVersion: options.resourceVersion };
    const body = JSON.stringify({
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: options.propagationPolicy,
      gracePeriodSeconds: options.gracePeriodSeconds,
      preconditions: options.uid === undefined && options.resourceVersion === undefined ? undefined : preconditions,
    });
    const path = objectPath(res, namespace, name);
    await this.#caller.call(
      { method: 'DELETE', verb: 'delete', resource: res.plural, path, headers: JSON_BODY, body, idempotent: true },
      options,
    );
  }

  /** All that a selector finds in a namespace, in one request. */
  async deleteCollection(res: Resource, namespace: string, { labelSelector, ...options }: t.DeleteCollectionOptions): Promise<void> {
    // Without one, or in all namespaces, it would be all there is.
    if (labelSelector === '' || namespace === '') throw new Error('a collection is deleted by namespace and selector');
    const path = resourcePath(res, namespace) + query({ labelSelector });
    const body = JSON.stringify({ apiVersion: 'v1', kind: 'DeleteOptions', propagationPolicy: 'Background' });
    const headers = { ...JSON_BODY, ...METADATA_OF_MANY };
    await this.#caller.call(
      { method: 'DELETE', verb: 'deletecollection', resource: res.plural, path, headers, body, idempotent: true },
      options,
    );
  }

  /** One watch, until the server ends it or the signal aborts. `Informer` is what keeps one going. */
  async watch<T extends KubeObject>(res: Resource, options: t.WatchOptions): Promise<AsyncIterable<t.WatchEvent<T>>> {
    const path =
      resourcePath(res, options.namespace) +
      query({
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion: options.resourceVersion,
        timeoutSeconds: String(options.timeoutSeconds),
        labelSelector: options.labelSelector,
        fieldSelector: options.fieldSelector,
      });
    const stream = await this.#caller.open(
      { method: 'GET', verb: 'watch', resource: res.plural, path, idempotent: true },
      { timeoutMs: options.timeoutMs ?? this.#timeoutMs, signal: options.signal },
    );
    return watchEvents<T>(stream, options.maxLineBytes ?? MAX_WATCH_LINE_BYTES, options.onActivity);
  }

  /**
   * The log of a container as raw bytes. While following, the API server may send not even headers before the first
   * byte of output: only the signal ends that wait. A log that is not followed is there already: a connection that stays
   * open and says nothing for as long as a call may take is a Timeout.
   */
  podLog(namespace: string, pod: string, options: t.PodLogOptions = {}): Promise<t.PodLogStream> {
    const text = (value: number | boolean | undefined): string | undefined =>
      value === undefined ? undefined : String(value);
    const path =
      resourcePath(PODS, namespace, pod, 'log') +
      query({
        container: options.container,
        follow: text(options.follow),
        timestamps: text(options.timestamps),
        sinceTime: options.sinceTime,
        tailLines: text(options.tailLines),
        limitBytes: text(options.limitBytes),
        previous: text(options.previous),
      });
    return this.#caller.open(
      { method: 'GET', verb: 'log', resource: 'pods', path, headers: { accept: '*/*' }, idempotent: true },
      options.follow
        ? { signal: options.signal }
        : { timeoutMs: this.#timeoutMs, silenceMs: this.#timeoutMs, signal: options.signal },
    );
  }

  /** GET of a path that is no object, as text: /version, /readyz. */
  raw(path: string, options?: t.CallOptions): Promise<string> {
    return this.#caller.call(
      { method: 'GET', verb: 'raw', resource: '', path, headers: { accept: '*/*' }, idempotent: true },
      options,
    );
  }

  /** Ends all connections at once. */
  close(): Promise<void> {
    return this.#transport.close();
  }

  async #listPages<T extends KubeObject>(
    res: Resource,
    options: t.ListOptions<T>,
    limit: number | undefined,
  ): Promise<KubeList<T>> {
    const items: T[] = [];
    const transform = options.transform ?? ((raw: KubeObject) => raw as T);
    let token: string | undefined;
    for (;;) {
      const page = await this.#page(res, options, limit, token);
      for (const raw of page.items ?? []) {
        items.push(transform({ ...raw, apiVersion: raw.apiVersion ?? apiVersionOf(res), kind: raw.kind ?? res.kind }));
      }
      token = page.metadata?.continue;
      if (!token) return { resourceVersion: page.metadata?.resourceVersion ?? '', items };
    }
  }

  async #page(
    res: Resource,
    options: Omit<t.ListOptions, 'transform'>,
    limit: number | undefined,
    token: string | undefined,
  ): Promise<Page> {
    const path =
      resourcePath(res, options.namespace) +
      query({
        labelSelector: options.labelSelector,
        fieldSelector: options.fieldSelector,
        limit: limit === undefined ? undefined : String(limit),
        continue: token,
        // A continue token carries its own version; sending both is an error.
        resourceVersion: token === undefined ? options.resourceVersion : undefined,
        resourceVersionMatch: token === undefined ? options.resourceVersionMatch : undefined,
      });
    try {
      return await this.#json<Page>(
        { method: 'GET', verb: 'list', resource: res.plural, path, idempotent: true },
        options,
      );
    } catch (error) {
      throw token !== undefined && isGone(error)
        ? new ContinueExpired('continue token expired', { cause: error })
        : error;
    }
  }

  #patch<T>(
    res: Resource,
    verb: string,
    path: string,
    contentType: string,
    body: object,
    idempotent: boolean,
    options: t.WriteOptions,
  ): Promise<T> {
    const headers = { 'content-type': contentType, ...(options.metadataOnly && METADATA_ONLY) };
    return this.#json<T>(
      { method: 'PATCH', verb, resource: res.plural, path, headers, body: JSON.stringify(body), idempotent },
      options,
    );
  }

  async #json<T>(request: ApiRequest, options: t.CallOptions | undefined): Promise<T> {
    const text = await this.#caller.call(request, options);
    try {
      const value: unknown = JSON.parse(text);
      if (value !== null && typeof value === 'object') return value as T;
    } catch {
      // Falls through to the error below.
    }
    throw new KubeError({
      code: 0,
      reason: 'InvalidResponse',
      message: `${request.method} ${request.path.split('?')[0]}: the answer is not JSON`,
    });
  }
}

class ContinueExpired extends Error {}

interface Page {
  metadata?: { resourceVersion?: string; continue?: string };
  items?: KubeObject[] | null;
}

/** Of one object, or of the collection that a create goes to. Without its namespace the path would mean more. */
function objectPath(
  res: Resource,
  namespace: string | undefined,
  name: string | undefined,
  subresource?: string,
): string {
  if (res.namespaced && !namespace) throw new TypeError(`${res.kind} needs a namespace`);
  return resourcePath(res, namespace, name, subresource);
}

function nameOf(object: KubeObject): string {
  return object.metadata.name ?? '';
}

function writeQuery(options: t.WriteOptions): Record<string, string | undefined> {
  return {
    fieldManager: options.fieldManager,
    fieldValidation: options.fieldValidation ?? 'Strict',
    dryRun: options.dryRun ? 'All' : undefined,
  };
}

function query(parameters: Record<string, string | undefined>): string {
  const defined = Object.entries(parameters).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== '',
  );
  return defined.length === 0 ? '' : `?${new URLSearchParams(defined).toString()}`;
}
