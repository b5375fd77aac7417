import type { KubernetesEventRepository, ToldEvent } from '@crucible/storage';
import { isUnavailable } from '@crucible/storage';
import type { Logger } from 'pino';
import { Counter, Gauge } from 'prom-client';
import type { Registry } from 'prom-client';
import { EVENTS, InformerSet, backoffMs, sleep, systemClock } from '../kube/index.ts';
import type { Clock, KubeClient, KubeObject, ObjectCache } from '../kube/index.ts';
import { hear } from './kubernetes-event.ts';
import type { Heard, HeardEvent } from './kubernetes-event.ts';
import type { Pod } from './objects.ts';

export interface KeeperOptions {
  readonly client: KubeClient;
  readonly namespaces: readonly string[];
  readonly caches: { readonly podCache: Pick<ObjectCache<Pod>, 'get'>; readonly namespaces: Pick<ObjectCache<KubeObject>, 'get'> };
  readonly repository: Pick<KubernetesEventRepository, 'keep'>;
  readonly metrics?: KeeperMetrics | undefined;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
}

const DROPPED = ['full', 'refused', 'unknown'] as const;

export class KeeperMetrics {
  readonly #kept: Counter;
  readonly #dropped: Counter<'reason'>;
  readonly #waiting: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#kept = new Counter({ name: 'crucible_kubernetes_events_kept_total', help: 'Events about runs that were told to Postgres; an event that comes again counts again.', registers });
    this.#dropped = new Counter({
      name: 'crucible_kubernetes_events_dropped_total',
      help: 'Events that no timeline has: too many at once, refused by Postgres, or of no run that is recorded.',
      labelNames: ['reason'],
      registers,
    });
    this.#waiting = new Gauge({ name: 'crucible_kubernetes_events_waiting', help: 'Events that wait for Postgres or for their run.', registers });
    for (const reason of DROPPED) this.#dropped.inc({ reason }, 0);
  }

  kept(count: number): void {
    this.#kept.inc(count);
  }

  dropped(reason: (typeof DROPPED)[number]): void {
    this.#dropped.inc({ reason });
  }

  waiting(count: number): void {
    this.#waiting.set(count);
  }
}

/**
 * Half of a run's events say in other words what the record has anyway: our own, about the Evaluation, and that the Job
 * controller made the pod and saw its end, and the kubelet the container. What the API server need not send costs it less.
 */
const SELECTED = ['involvedObject.kind!=Evaluation', ...['SuccessfulCreate', 'Completed', 'Created'].map((reason) => `reason!=${reason}`)].join();
/** Together, not one by one: a run has about ten events, within seconds. */
const GATHER_MS = 1000;
const MAX_BATCH = 500;
/** About half a kilobyte each, two at most. */
const MAX_WAITING = 20_000;
/** How long one waits for its run to be recorded: the Job's UID is, a moment after the Job is made. */
const PATIENCE_MS = 60_000;
const MAX_BACKOFF_MS = 30_000;

interface Waiting {
  readonly heard: Heard;
  readonly namespace: string;
  /** Since when it is known, however often it was told again. */
  readonly since: number;
  dueAt: number;
}

/**
 * Brings what Kubernetes tells about Jobs and pods of runs into the record, before the cluster forgets it. A courtesy to
 * whoever reads timelines: nothing waits for it, nothing is decided by it, and it gives up rather than become a burden. While
 * this replica leads; whoever takes over lists what the cluster still has.
 */
export class EventKeeper {
  readonly #options: KeeperOptions;
  readonly #clock: Clock;
  /** By namespace, then by the event's UID, oldest first. */
  readonly #waiting = new Map<string, Map<string, Waiting>>();
  #size = 0;
  #informers: InformerSet<HeardEvent> | undefined;
  #cancel: (() => void) | undefined;
  #flushing: Promise<void> | undefined;
  #failures = 0;
  #full = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  async start(): Promise<void> {
    const { client, namespaces, logger } = this.#options;
    this.#informers = new InformerSet<HeardEvent>({
      client,
      namespaces,
      logger,
      resource: EVENTS,
      passing: true,
      relistMs: 0,
      fieldSelector: SELECTED,
      transform: (raw) => hear(raw, this.#clock.now()),
      clock: this.#clock,
    });
    this.#informers.onChange((_, event) => this.#hear(event));
    this.#informers.start();
  }

  /** What waits is written as far as that is possible at once; the next leader lists the rest. */
  async stop(limitSeconds: number): Promise<void> {
    await this.#informers?.stop();
    this.#informers = undefined;
    this.#cancel?.();
    this.#cancel = undefined;
    const enough = new AbortController();
    if (limitSeconds > 0) await Promise.race([this.#flush(), sleep(this.#clock, limitSeconds * 1000, enough.signal)]);
    enough.abort();
    this.#waiting.clear();
    this.#size = 0;
    this.#options.metrics?.waiting(0);
  }

  #hear(event: HeardEvent | undefined): void {
    if (event?.heard === undefined || this.#informers === undefined) return;
    const { heard } = event;
    const namespace = event.metadata.namespace ?? '';
    const own = this.#waiting.get(namespace) ?? new Map<string, Waiting>();
    this.#waiting.set(namespace, own);
    const now = this.#clock.monotonic();
    const known = own.get(heard.uid);
    if (known === undefined) this.#makeRoom(namespace, own);
    else own.delete(heard.uid);
    own.set(heard.uid, { heard, namespace, since: known?.since ?? now, dueAt: known?.dueAt ?? now });
    this.#schedule(GATHER_MS);
  }

  /** A namespace has half of what is free, so one that floods leaves room for every other. Its oldest gives way: that may be kept already. */
  #makeRoom(namespace: string, own: Map<string, Waiting>): void {
    this.#size += 1;
    const [oldest] = own.keys();
    if (own.size + this.#size <= MAX_WAITING || oldest === undefined) return;
    own.delete(oldest);
    this.#size -= 1;
    const { metrics, logger } = this.#options;
    metrics?.dropped('full');
    if (!this.#full) logger.warn({ namespace, waiting: this.#size }, 'more Kubernetes events than can be kept: timelines will miss some');
    this.#full = true;
  }

  #forget({ heard, namespace }: Waiting): void {
    const own = this.#waiting.get(namespace);
    if (own?.delete(heard.uid) === true) this.#size -= 1;
    if (own?.size === 0) this.#waiting.delete(namespace);
  }

  #schedule(inMs: number): void {
    if (this.#cancel !== undefined || this.#informers === undefined) return;
    this.#cancel = this.#clock.after(inMs, () => {
      this.#cancel = undefined;
      void this.#flush();
    });
  }

  /** One at a time; never throws. */
  #flush(): Promise<void> {
    this.#flushing ??= this.#flushAll().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async #flushAll(): Promise<void> {
    const { logger, metrics } = this.#options;
    try {
      const now = this.#clock.monotonic();
      for (let batch = this.#due(now); batch.length > 0; batch = this.#due(now)) await this.#keep(batch, now);
      this.#failures = 0;
      this.#full = false;
    } catch (error) {
      this.#failures += 1;
      if (!isUnavailable(error) || this.#failures === 1) logger.warn({ err: error, waiting: this.#size }, 'Kubernetes events wait for Postgres');
    }
    metrics?.waiting(this.#size);
    const waitMs = this.#failures === 0 ? GATHER_MS : backoffMs(this.#failures, GATHER_MS, MAX_BACKOFF_MS, Math.random);
    if (this.#size > 0) this.#schedule(waitMs);
  }

  #due(now: number): Waiting[] {
    const due: Waiting[] = [];
    for (const own of this.#waiting.values()) {
      for (const waiting of own.values()) {
        if (waiting.dueAt <= now) due.push(waiting);
        if (due.length >= MAX_BATCH) return due;
      }
    }
    return due;
  }

  async #keep(batch: readonly Waiting[], now: number): Promise<void> {
    const told = batch.map((waiting) => this.#told(waiting));
    const ready = batch.filter((_, index) => told[index] !== undefined);
    const known = await this.#write(told.filter((event) => event !== undefined));
    const kept = new Set(ready.filter((_, index) => known[index] !== false));
    this.#options.metrics?.kept(known.filter((each) => each === true).length);
    for (const waiting of batch) {
      // Told again meanwhile: that one is still to come.
      const present = this.#waiting.get(waiting.namespace)?.get(waiting.heard.uid);
      const age = now - waiting.since;
      if (kept.has(waiting)) {
        if (present === waiting) this.#forget(waiting);
      } else if (age >= PATIENCE_MS) {
        this.#forget(waiting);
        this.#options.metrics?.dropped('unknown');
      } else if (present !== undefined) present.dueAt = now + Math.max(age, GATHER_MS);
    }
  }

  /** Of each whether its run is recorded; `refused` is said of one that Postgres does not take, whatever is wrong with it. */
  async #write(events: readonly ToldEvent[]): Promise<(boolean | 'refused')[]> {
    if (events.length === 0) return [];
    try {
      return await this.#options.repository.keep(events);
    } catch (error) {
      if (isUnavailable(error)) throw error;
      if (events.length > 1) {
        const half = Math.ceil(events.length / 2);
        return [...(await this.#write(events.slice(0, half))), ...(await this.#write(events.slice(half)))];
      }
      this.#options.metrics?.dropped('refused');
      this.#options.logger.error({ err: error, event: events[0]?.uid }, 'Postgres refuses a Kubernetes event');
      return ['refused'];
    }
  }

  /** Undefined while it is not known which namespace it is in: a name alone may mean another one tomorrow. */
  #told({ heard, namespace }: Waiting): ToldEvent | undefined {
    const { caches } = this.#options;
    const namespaceUid = caches.namespaces.get(namespace)?.metadata.uid;
    if (namespaceUid === undefined) return undefined;
    const { objectUid, ...event } = heard;
    if (heard.objectKind === 'Job') return { ...event, namespaceUid, jobUid: objectUid, podUid: null };
    const pod = caches.podCache.get(`${namespace}/${heard.objectName}`);
    const owner = pod?.metadata.uid === objectUid ? pod.metadata.ownerReferences?.find(({ controller }) => controller === true) : undefined;
    return { ...event, namespaceUid, jobUid: owner?.kind === 'Job' ? owner.uid : null, podUid: objectUid };
  }
}
