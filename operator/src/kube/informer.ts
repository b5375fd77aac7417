import type { Logger } from 'pino';
import type { KubeClient } from './client.ts';
import { backoffMs, sleep, systemClock, type Clock } from './clock.ts';
import { KubeError } from './errors.ts';
import type { KubeMetrics, RestartReason } from './metrics.ts';
import { compareVersions, ObjectStore, PassingStore, type Store } from './object-store.ts';
import { keyOf, type KubeObject, type Resource } from './resources.ts';
import type { ChangeHandler, ObjectCache } from './types.ts';
import { WatchGuard } from './watch-guard.ts';

export interface InformerOptions<T extends KubeObject> {
  client: KubeClient;
  resource: Resource;
  /** All namespaces without it. */
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  /** Nothing is kept: handlers are told of every version, of no end, and nobody can look anything up. */
  passing?: boolean | undefined;
  /** What is kept of an object. By default all but managedFields and the copy that client-side apply leaves. */
  transform?: ((raw: KubeObject) => T) | undefined;
  logger: Logger;
  clock?: Clock | undefined;
  random?: (() => number) | undefined;
  metrics?: KubeMetrics | undefined;
  /** Every object is delivered again this often (current and previous the same); 0: never. */
  resyncMs?: number | undefined;
  /** The list is read anew this often, in case a line was lost on the way; 0: never. */
  relistMs?: number | undefined;
  /** A watch without a byte for so long is taken for dead. The API server sends a bookmark about once a minute. */
  idleTimeoutMs?: number | undefined;
  pageSize?: number | undefined;
  /** A first list that is refused, for however long, is no answer. */
  needed?: boolean | undefined;
  /** Where it looks into is gone, with all that was in it: when that is refused, nobody will tell. */
  gone?: (() => boolean) | undefined;
}

const RESYNC_MS = 10 * 60_000;
const RELIST_MS = 30 * 60_000;
const IDLE_TIMEOUT_MS = 150_000;
/** As client-go: between this and twice this, so that the watches of all clients do not end together. */
const WATCH_SECONDS = 240;
const BASE_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 30_000;
/** A watch that ends sooner than this did not end because its time was up. */
const SHORT_WATCH_MS = 1000;
/** Lists older than what we know are refused this often; then the cluster was restored from a backup. */
const MAX_STALE_LISTS = 5;

/** An API server that starts refuses everybody until it knows their rights: a refusal that lasts so long is meant. */
const REFUSAL_MS = 10_000;

/** Why a watch ended, and what to do next. */
interface End {
  reason: RestartReason;
  relist: boolean;
  /** Nothing went wrong: watch on at once. */
  clean?: boolean;
  error?: KubeError;
}

/** List and watch, for ever: a cache of one kind that keeps itself up to date whatever the network does. */
export class Informer<T extends KubeObject> implements ObjectCache<T> {
  readonly #options: InformerOptions<T>;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #logger: Logger;
  readonly #store: Store<T>;
  readonly #handlers: ChangeHandler<T>[] = [];
  readonly #abort = new AbortController();
  readonly #firstSync = Promise.withResolvers<void>();
  readonly #firstAnswer = Promise.withResolvers<void>();
  #refused = false;
  #refusedSince: number | undefined;
  #answered = false;
  #running: Promise<void> | undefined;
  #synced = false;
  #needsList = true;
  /** The next list asks for the newest state, instead of one that is not older than what we know. */
  #askNewest = true;
  #staleLists = 0;
  #listedAt = 0;
  #lastSyncAt = -Infinity;
  #failures = 0;
  /** The current watch has delivered something: an error after that is a first error. */
  #progress = false;
  #cancelResync = (): void => {};
  readonly #forgetMetrics: (() => void) | undefined;

  constructor(options: InformerOptions<T>) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#logger = options.logger.child({ resource: options.resource.plural, namespace: options.namespace });
    this.#store = options.passing
      ? new PassingStore<T>((key, current) => this.#tell(key, current, undefined))
      : new ObjectStore<T>((key, current, previous) => this.#deliver(key, current, previous));
    this.#firstSync.promise.catch(() => {});
    this.#firstAnswer.promise.catch(() => {});
    // Of one that is refused, in a namespace that is gone for instance, there is nothing to be behind of: as readiness has it.
    const age = (): number => (this.#refused ? 0 : this.lastSyncAgeSeconds());
    this.#forgetMetrics = options.metrics?.initInformer(options.resource.plural, age);
  }

  onChange(handler: ChangeHandler<T>): void {
    this.#handlers.push(handler);
    if (this.#synced) for (const [key, object] of this.#store.entries()) this.#call(handler, key, object, undefined);
  }

  start(): void {
    if (this.#running !== undefined)
      throw new Error(`informer of ${this.#options.resource.plural} was started already`);
    if (this.#abort.signal.aborted) throw new Error(`informer of ${this.#options.resource.plural} was stopped`);
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    this.#cancelResync();
    const stopped = new KubeError({ code: 0, reason: 'Aborted', message: 'informer stopped' });
    for (const waiting of [this.#firstSync, this.#firstAnswer]) waiting.reject(stopped);
    await this.#running;
    this.#forgetMetrics?.();
  }

  async waitForSync(signal?: AbortSignal): Promise<void> {
    await orAborted(this.#firstSync.promise, signal);
  }

  /** Resolves when the first list has been delivered, or refused for so long that it is meant. */
  async waitForAnswer(signal?: AbortSignal): Promise<void> {
    await orAborted(this.#firstAnswer.promise, signal);
  }

  /** We may not look there (any more): what is in the cache is what was seen until then, or nothing where that is known to be gone. */
  get refused(): boolean {
    return this.#refused;
  }

  get synced(): boolean {
    return this.#synced;
  }

  get answered(): boolean {
    return this.#answered;
  }

  get size(): number {
    return this.#store.size;
  }

  get(key: string): T | undefined {
    return this.#store.get(key);
  }

  list(): T[] {
    return this.#store.list();
  }

  lastSyncAgeSeconds(): number {
    return (this.#clock.monotonic() - this.#lastSyncAt) / 1000;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      this.#progress = false;
      const end = await this.#cycle();
      if (signal.aborted) return;
      this.#noteRefusal(end.error?.code === 403);
      if (end.relist) this.#needsList = true;
      this.#failures = end.clean ? 0 : this.#progress ? 1 : this.#failures + 1;
      this.#options.metrics?.restarts.inc({ resource: this.#options.resource.plural, reason: end.reason });
      if (end.clean) continue;
      const waitMs = Math.max(
        backoffMs(this.#failures - 1, BASE_BACKOFF_MS, MAX_BACKOFF_MS, this.#random),
        (end.error?.retryAfterSeconds ?? 0) * 1000,
      );
      // Of what the API server does not cache, events for one, a watch without news is too old after some minutes.
      const expected = this.#options.passing === true && end.reason === 'gone';
      this.#logger[expected ? 'debug' : 'warn'](
        { reason: end.reason, failures: this.#failures, waitMs: Math.round(waitMs), err: end.error },
        'watch interrupted',
      );
      await sleep(this.#clock, waitMs, signal);
    }
  }

  async #cycle(): Promise<End> {
    try {
      if (this.#needsList) await this.#relist();
    } catch (error) {
      return { ...this.#endOf(error, 'http'), relist: true };
    }
    return this.#watch();
  }

  async #relist(): Promise<void> {
    const { client, resource, namespace, labelSelector, fieldSelector, pageSize } = this.#options;
    const known = this.#store.version;
    // "Not older than what we saw" comes from the API server's memory, and it guards against a server that lags behind.
    const notOlder = this.#askNewest ? {} : { resourceVersion: known, resourceVersionMatch: 'NotOlderThan' as const };
    const list = await client
      .list<T>(resource, {
        namespace,
        labelSelector,
        fieldSelector,
        limit: pageSize,
        ...notOlder,
        signal: this.#abort.signal,
        transform: (raw) => this.#transform(raw),
      })
      .catch((error: unknown) => {
        this.#askNewest = true;
        throw error;
      });
    if ((compareVersions(list.resourceVersion, known) ?? 0) < 0 && (this.#staleLists += 1) <= MAX_STALE_LISTS) {
      this.#askNewest = true;
      throw new KubeError({
        code: 0,
        reason: 'InvalidResponse',
        message: `list at ${list.resourceVersion} is older than ${known}`,
      });
    }
    this.#staleLists = 0;
    this.#askNewest = false;
    this.#needsList = false;
    this.#listedAt = this.#clock.monotonic();
    this.#lastSyncAt = this.#listedAt;
    this.#store.replace(list.items, list.resourceVersion);
    if (!this.#synced && !this.#abort.signal.aborted) {
      this.#synced = true;
      this.#firstSync.resolve();
      this.#scheduleResync();
    }
    this.#refused = false;
    this.#answer();
  }

  #noteRefusal(refused: boolean): void {
    if (refused) this.#refused = true;
    if (refused && this.#options.gone?.() === true) this.#empty();
    this.#refusedSince = refused ? (this.#refusedSince ?? this.#clock.monotonic()) : undefined;
    if (this.#refusedSince === undefined || this.#options.needed === true) return;
    if (this.#clock.monotonic() - this.#refusedSince >= REFUSAL_MS) this.#answer();
  }

  #empty(): void {
    this.#store.replace([], this.#store.version);
    this.#needsList = true;
  }

  #answer(): void {
    this.#answered = true;
    this.#firstAnswer.resolve();
  }

  async #watch(): Promise<End> {
    const { client, resource, namespace, labelSelector, fieldSelector } = this.#options;
    const startedAt = this.#clock.monotonic();
    const timeoutSeconds = Math.round(WATCH_SECONDS * (1 + this.#random()));
    const relistMs = this.#options.relistMs ?? RELIST_MS;
    const guard = new WatchGuard(this.#clock, this.#abort.signal, {
      idleMs: this.#options.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
      timeoutSeconds,
      relistInMs: relistMs > 0 ? this.#listedAt + relistMs * (1 + 0.1 * this.#random()) - startedAt : undefined,
    });
    let connected = false;
    try {
      const events = await client.watch<T>(resource, {
        namespace,
        labelSelector,
        fieldSelector,
        timeoutSeconds,
        resourceVersion: this.#store.version,
        signal: guard.signal,
        onActivity: () => {
          guard.alive();
          this.#lastSyncAt = this.#clock.monotonic();
        },
      });
      connected = true;
      this.#refused = false;
      guard.alive();
      for await (const event of events) {
        if (event.type === 'BOOKMARK') this.#store.advance(event.object.metadata.resourceVersion ?? '');
        else if (this.#store.apply(event.type, this.#transform(event.object)) === 'disorder')
          return { reason: 'disorder', relist: true };
        this.#progress = true;
      }
      this.#lastSyncAt = this.#clock.monotonic();
      return { reason: 'ended', relist: false, clean: this.#clock.monotonic() - startedAt >= SHORT_WATCH_MS };
    } catch (error) {
      if (guard.verdict === 'relist') return { reason: 'relist', relist: true, clean: true };
      if (guard.verdict === 'idle') return { reason: 'idle', relist: false, clean: true };
      return this.#endOf(error, connected ? 'error-event' : 'http');
    } finally {
      guard.close();
    }
  }

  /** `phase`: what an error with a status code is: an answer to our request, or an event within the stream. */
  #endOf(error: unknown, phase: 'http' | 'error-event'): End {
    if (!(error instanceof KubeError)) {
      this.#logger.error({ err: error }, 'informer failed unexpectedly');
      return { reason: 'connection', relist: true };
    }
    if (error.code === 410) return { reason: 'gone', relist: true, error };
    // The server has given up on this watch; whether it skipped something it does not say.
    if (error.code > 0 && phase === 'error-event') return { reason: 'error-event', relist: true, error };
    // Refuses our resourceVersion: unknown to it (400), or from the future (504, after a restore).
    if (error.code === 400 || error.code === 504) return { reason: 'http', relist: true, error };
    if (error.code > 0) return { reason: 'http', relist: false, error };
    // The line is sent again to the next watch. If it does not get better, a list may go around it.
    if (error.reason === 'InvalidResponse') return { reason: 'malformed', relist: this.#failures >= 1, error };
    return { reason: 'connection', relist: false, error };
  }

  #transform(raw: KubeObject): T {
    try {
      return (this.#options.transform ?? trim)(raw) as T;
    } catch (error) {
      this.#options.metrics?.handlerErrors.inc({ resource: this.#options.resource.plural });
      this.#logger.error({ err: error, key: keyOf(raw) }, 'transform failed');
      return trim(raw) as T;
    }
  }

  #deliver(key: string, current: T | undefined, previous: T | undefined): void {
    const { metrics, resource } = this.#options;
    if (current === undefined) metrics?.objects.dec({ resource: resource.plural });
    else if (previous === undefined) metrics?.objects.inc({ resource: resource.plural });
    this.#tell(key, current, previous);
  }

  #tell(key: string, current: T | undefined, previous: T | undefined): void {
    for (const handler of this.#handlers) this.#call(handler, key, current, previous);
  }

  #call(handler: ChangeHandler<T>, key: string, current: T | undefined, previous: T | undefined): void {
    if (this.#abort.signal.aborted) return;
    const failed = (error: unknown): void => {
      this.#options.metrics?.handlerErrors.inc({ resource: this.#options.resource.plural });
      this.#logger.error({ err: error, key }, 'change handler failed');
    };
    try {
      // An async function fits the type too; its rejection would end the process.
      const result = handler(key, current, previous) as unknown;
      if (result instanceof Promise) result.catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  #scheduleResync(): void {
    const resyncMs = this.#options.resyncMs ?? RESYNC_MS;
    if (resyncMs <= 0 || this.#abort.signal.aborted) return;
    this.#cancelResync = this.#clock.after(resyncMs * (1 + 0.1 * this.#random()), () => {
      for (const [key, object] of this.#store.entries()) {
        for (const handler of this.#handlers) this.#call(handler, key, object, object);
      }
      this.#scheduleResync();
    });
  }
}

async function orAborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return promise;
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(new KubeError({ code: 0, reason: 'Aborted', message: 'not synced in time' }));
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** Without what nobody reads: the two can be larger than the object itself. */
export function trim(raw: KubeObject): KubeObject {
  delete raw.metadata.managedFields;
  if (raw.metadata.annotations !== undefined) delete raw.metadata.annotations[LAST_APPLIED];
  return raw;
}
