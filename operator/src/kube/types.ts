import type { Logger } from 'pino';
import type { Clock } from './clock.ts';
import type { KubeMetrics } from './metrics.ts';
import type { KubeObject } from './resources.ts';

export interface CallOptions {
  /** Aborts the call: KubeError with reason `Aborted`. */
  signal?: AbortSignal | undefined;
  /** For the whole call with its retries, waiting for a free connection included. */
  timeoutMs?: number | undefined;
  /** Does not wait behind other calls for a free connection: for the lease, on which everything hangs. */
  urgent?: boolean | undefined;
  /** Acts as whoever has this bearer token. Only with a client that has no credentials of its own: `withoutCredentials`. */
  token?: string | undefined;
}

export interface ListOptions<T extends KubeObject = KubeObject> extends CallOptions {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  /** Page size; the whole list is returned. */
  limit?: number | undefined;
  resourceVersion?: string | undefined;
  resourceVersionMatch?: 'NotOlderThan' | 'Exact' | undefined;
  /** Applied page by page, so that what it drops is never held for the whole list. */
  transform?: ((raw: KubeObject) => T) | undefined;
}

export interface WriteOptions extends CallOptions {
  fieldManager?: string | undefined;
  subresource?: string | undefined;
  dryRun?: boolean | undefined;
  /**
   * What the server does with fields it does not know. Strict unless said otherwise: a field that protects the
   * sandbox must not vanish silently on an older cluster.
   */
  fieldValidation?: 'Strict' | 'Warn' | 'Ignore' | undefined;
  /** The answer is only the object's metadata: less for the server to write and for us to read. */
  metadataOnly?: boolean | undefined;
}

export interface ApplyOptions extends WriteOptions {
  fieldManager: string;
  force?: boolean | undefined;
}

export interface DeleteOptions extends CallOptions {
  /** Preconditions: the delete fails with a conflict when the object is not this one any more. */
  uid?: string | undefined;
  resourceVersion?: string | undefined;
  propagationPolicy?: 'Orphan' | 'Background' | 'Foreground' | undefined;
  gracePeriodSeconds?: number | undefined;
}

export interface DeleteCollectionOptions extends CallOptions {
  labelSelector: string;
}

export interface JsonPatchOperation {
  op: 'add' | 'remove' | 'replace' | 'move' | 'copy' | 'test';
  path: string;
  from?: string;
  value?: unknown;
}

export interface WatchEvent<T extends KubeObject = KubeObject> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  object: T;
}

export interface WatchOptions extends CallOptions {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  resourceVersion: string;
  /** The server ends the watch after this time. */
  timeoutSeconds: number;
  maxLineBytes?: number | undefined;
  /** Called for every chunk of bytes: the sign of life for an idle watchdog. */
  onActivity?: (() => void) | undefined;
}

export interface PodLogOptions {
  container?: string | undefined;
  follow?: boolean | undefined;
  timestamps?: boolean | undefined;
  sinceTime?: string | undefined;
  tailLines?: number | undefined;
  limitBytes?: number | undefined;
  previous?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Bytes as they arrive, with back-pressure: what is not read stays in the socket. Leaving the loop closes the
 * connection; a stream that is never iterated must be cancelled. A cut connection throws, a clean end returns.
 */
export interface PodLogStream extends AsyncIterable<Uint8Array> {
  cancel(): void;
}

export interface KubeClientOptions {
  access: ClusterAccess;
  logger: Logger;
  clock?: Clock | undefined;
  random?: (() => number) | undefined;
  metrics?: KubeMetrics | undefined;
  userAgent?: string | undefined;
  /** Default time limit of a call. */
  timeoutMs?: number | undefined;
  maxResponseBytes?: number | undefined;
  /** Calls in flight at once; watches and logs do not count. */
  maxInFlight?: number | undefined;
}

/** Where the API server is and how to show who we are: from `loadAccess`. */
export interface ClusterAccess {
  /** Base URL without a trailing slash. */
  readonly server: string;
  /** Namespace of the current context, or of the pod in a cluster. */
  readonly namespace: string | undefined;
  /** Reads tokens and certificates anew; called when they are due and after a 401. */
  load(): Promise<Credentials>;
}

export interface Credentials {
  /** Lower-case names. */
  headers: Record<string, string>;
  tls: TlsMaterial;
}

export interface TlsMaterial {
  ca?: string | undefined;
  cert?: string | undefined;
  key?: string | undefined;
  passphrase?: string | undefined;
  servername?: string | undefined;
  rejectUnauthorized?: boolean | undefined;
}

/**
 * Told of every change of the cache, in order: appeared (no previous), changed, gone (no current). A recreated one is
 * two changes. Level-based: enqueue the key and read the cache, do not act on the transition.
 */
export type ChangeHandler<T extends KubeObject> = (
  key: string,
  current: T | undefined,
  previous: T | undefined,
) => void;

/** What Informer and InformerSet have in common. */
export interface ObjectCache<T extends KubeObject> {
  onChange(handler: ChangeHandler<T>): void;
  start(): void;
  /** Ends when nothing of it runs any more; safe at any time, also while connecting. */
  stop(): Promise<void>;
  /** Resolves when the first list has been delivered; of an InformerSet, where it may look. */
  waitForSync(signal?: AbortSignal): Promise<void>;
  readonly synced: boolean;
  get(key: string): T | undefined;
  list(): T[];
  readonly size: number;
  /** Seconds since the API server last gave a sign of life; Infinity before the first list. */
  lastSyncAgeSeconds(): number;
}

/** What became of a term of leadership. */
export type LeaderStopReason = 'lost' | 'stopped' | 'failed';

export interface LeaderTerm {
  /** Grows with every term, whoever leads: the fencing token of all writes of this term. */
  readonly epoch: number;
  /** Aborted when the term ends. */
  readonly signal: AbortSignal;
}
