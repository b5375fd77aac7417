import type { Logger } from 'pino';
import type { KubeClient } from './client.ts';
import type { Clock } from './clock.ts';
import type { KubeMetrics } from './metrics.ts';
import type { KubeObject, Resource } from './resources.ts';
import type { ChangeHandler, ObjectCache } from './types.ts';
export interface InformerOptions<T extends KubeObject> {
  client: KubeClient; resource: Resource; namespace?: string | undefined; labelSelector?: string | undefined; fieldSelector?: string | undefined;
  /** What is kept of an object; managedFields are dropped by default. */
  transform?: ((raw: KubeObject) => T) | undefined;
  logger: Logger; clock?: Clock | undefined; random?: (() => number) | undefined; metrics?: KubeMetrics | undefined;
  resyncMs?: number | undefined; relistMs?: number | undefined; idleTimeoutMs?: number | undefined; pageSize?: number | undefined;
}
export declare class Informer<T extends KubeObject> implements ObjectCache<T> {
  constructor(options: InformerOptions<T>);
  onChange(handler: ChangeHandler<T>): void;
  start(): void;
  stop(): Promise<void>;
  waitForSync(signal?: AbortSignal): Promise<void>;
  readonly synced: boolean;
  get(key: string): T | undefined;
  list(): T[];
  readonly size: number;
  lastSyncAgeSeconds(): number;
}
