import type { InformerOptions } from './informer.ts';
import type { KubeObject } from './resources.ts';
import type { ChangeHandler, ObjectCache } from './types.ts';
/** One informer for each namespace, seen as one: for RBAC that grants namespaces one by one. */
export declare class InformerSet<T extends KubeObject> implements ObjectCache<T> {
  constructor(options: Omit<InformerOptions<T>, 'namespace'> & { namespaces: readonly string[] });
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
