import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { KubeClient } from './client.ts';
import { backoffMs, sleep, systemClock, type Clock } from './clock.ts';
import { isAlreadyExists, isNotFound, isTransient, KubeError } from './errors.ts';
import type { KubeMetrics } from './metrics.ts';
import { EVENTS, type KubeObject } from './resources.ts';

export interface EventRecorderOptions {
  client: KubeClient;
  /** Who reports: `crucible-operator`. */
  component: string;
  /** The pod. */
  instance: string;
  logger: Logger;
  clock?: Clock | undefined;
  random?: (() => number) | undefined;
  metrics?: KubeMetrics | undefined;
}

export interface EventInit {
  type: 'Normal' | 'Warning';
  reason: string;
  message: string;
}

interface Pending extends EventInit {
  key: string;
  regarding: Record<string, string | undefined>;
  count: number;
  firstAt: number;
  lastAt: number;
}

/** An event object of ours that still counts. */
interface Sent {
  name: string;
  count: number;
  at: number;
}

const MAX_PENDING = 1000;
const MAX_REMEMBERED = 4096;
/** As client-go: equal events within this time are one object with a count. */
const AGGREGATION_MS = 10 * 60_000;
/** As client-go's spam filter: 25 events at once for an object, then one in five minutes. */
const BURST = 25;
const REFILL_MS = 5 * 60_000;
/** The API server's limit. */
const MAX_MESSAGE = 1024;
const MAX_TRIES = 4;
const CALL_TIMEOUT_MS = 10_000;

/**
 * Tells users what happened, in core/v1 events, which `kubectl describe` shows with their count. An event is a
 * courtesy: it never throws, never waits, and is dropped before it becomes a burden.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #abort = new AbortController();
  readonly #pending = new Map<string, Pending>();
  readonly #sent = new Map<string, Sent>();
  readonly #budgets = new Map<string, { tokens: number; at: number }>();
  #pump: Promise<void> | undefined;
  #stopping = false;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
  }

  event(object: KubeObject, event: EventInit): void {
    try {
      this.#enqueue(object, event);
    } catch (error) {
      this.#options.logger.error({ err: error }, 'event cannot be recorded');
    }
  }

  /** Sends what is pending, for at most `limitMs`. */
  async stop(limitMs = 5000): Promise<void> {
    this.#stopping = true;
    const timer = new AbortController();
    if (limitMs > 0) await Promise.race([this.#pump, sleep(this.#clock, limitMs, timer.signal)]);
    timer.abort();
    this.#abort.abort();
    await this.#pump;
  }

  #enqueue(object: KubeObject, { type, reason, message }: EventInit): void {
    if (this.#stopping) return;
    const { uid, name, namespace, resourceVersion } = object.metadata;
    const key = JSON.stringify([uid ?? `${object.kind}/${namespace}/${name}`, type, reason, message]);
    const now = this.#clock.now();
    const waiting = this.#pending.get(key);
    if (waiting !== undefined) {
      waiting.count += 1;
      waiting.lastAt = now;
      return;
    }
    if (this.#pending.size >= MAX_PENDING) return this.#drop('queue', 1);
    this.#pending.set(key, {
      key,
      type,
      reason,
      message: cut(message),
      count: 1,
      firstAt: now,
      lastAt: now,
      regarding: { apiVersion: object.apiVersion, kind: object.kind, name, namespace, uid, resourceVersion },
    });
    this.#pump ??= this.#send();
  }

  async #send(): Promise<void> {
    // Not in the caller's own turn: what else it reports about the same thing is counted together.
    await Promise.resolve();
    for (const [key, entry] of this.#pending) {
      this.#pending.delete(key);
      if (!this.#spend(entry.regarding.uid ?? key)) this.#drop('rate', entry.count);
      else await this.#sendOne(entry);
    }
    // In the same turn as the last look at the map, or an event in between would wait for the next one.
    this.#pump = undefined;
  }

  async #sendOne(entry: Pending): Promise<void> {
    for (let tries = 0; ; tries += 1) {
      try {
        return await this.#write(entry);
      } catch (error) {
        const again = isTransient(error) || isAlreadyExists(error);
        if (!again || tries + 1 >= MAX_TRIES || this.#abort.signal.aborted) {
          this.#options.logger.debug({ err: error, reason: entry.reason }, 'event not sent');
          return this.#drop('error', entry.count);
        }
        const askedMs = error instanceof KubeError ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
        await sleep(this.#clock, Math.max(askedMs, backoffMs(tries, 200, 5000, this.#random)), this.#abort.signal);
      }
    }
  }

  async #write(entry: Pending): Promise<void> {
    const { client, component } = this.#options;
    const namespace = entry.regarding.namespace ?? 'default';
    const options = { fieldManager: component, metadataOnly: true, timeoutMs: CALL_TIMEOUT_MS, signal: this.#abort.signal };
    const earlier = this.#sent.get(entry.key);
    if (earlier !== undefined && this.#clock.monotonic() - earlier.at < AGGREGATION_MS) {
      const count = earlier.count + entry.count;
      try {
        await client.mergePatch(EVENTS, namespace, earlier.name, { count, lastTimestamp: time(entry.lastAt) }, options);
        return this.#remember(entry.key, { name: earlier.name, count, at: this.#clock.monotonic() });
      } catch (error) {
        // Events live an hour, and users may delete them.
        if (!isNotFound(error)) throw error;
      }
    }
    const about = (entry.regarding.name ?? 'unknown').slice(0, 200).replace(/[.-]+$/, '');
    const name = `${about}.${randomUUID().replaceAll('-', '').slice(0, 16)}`;
    await client.create(EVENTS, this.#object(entry, namespace, name), options);
    this.#remember(entry.key, { name, count: entry.count, at: this.#clock.monotonic() });
  }

  #object(entry: Pending, namespace: string, name: string): KubeObject {
    const { component, instance } = this.#options;
    const event = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name, namespace },
      involvedObject: entry.regarding,
      type: entry.type,
      reason: entry.reason,
      message: entry.message,
      count: entry.count,
      firstTimestamp: time(entry.firstAt),
      lastTimestamp: time(entry.lastAt),
      source: { component },
      reportingComponent: component,
      reportingInstance: instance,
    };
    return event;
  }

  #remember(key: string, sent: Sent): void {
    keepRecent(this.#sent, key, sent);
  }

  /** A token bucket for each object: one that flaps must not crowd out the others, nor etcd. */
  #spend(uid: string): boolean {
    const now = this.#clock.monotonic();
    const budget = this.#budgets.get(uid) ?? { tokens: BURST, at: now };
    const tokens = Math.min(BURST, budget.tokens + (now - budget.at) / REFILL_MS);
    const allowed = tokens >= 1;
    keepRecent(this.#budgets, uid, { tokens: allowed ? tokens - 1 : tokens, at: now });
    return allowed;
  }

  #drop(reason: 'rate' | 'queue' | 'error', count: number): void {
    this.#options.metrics?.eventsDropped.inc({ reason }, count);
  }
}

function keepRecent<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= MAX_REMEMBERED) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    break;
  }
}

function time(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** Counted in bytes by the server. */
function cut(message: string): string {
  const bytes = Buffer.from(message);
  if (bytes.length <= MAX_MESSAGE) return message;
  return `${bytes
    .subarray(0, MAX_MESSAGE - 3)
    .toString('utf8')
    .replace(/\uFFFD+$/, '')}…`;
}
