import type { Clock } from '../kube/clock.ts';
import type { ControllerMetrics } from './metrics.ts';
export interface WorkQueueOptions {
  name: string; clock?: Clock | undefined; random?: (() => number) | undefined; metrics?: ControllerMetrics | undefined;
  baseDelayMs?: number | undefined; maxDelayMs?: number | undefined;
  /** Keys of one group wait for each other, groups take turns. The namespace by default. */
  groupOf?: ((key: string) => string) | undefined;
}
export declare class WorkQueue {
  constructor(options: WorkQueueOptions);
  add(key: string): void;
  /** The earliest of several delays counts. */
  addAfter(key: string, seconds: number): void;
  /** After this key's backoff; returns the delay in seconds. */
  addRateLimited(key: string, atLeastSeconds?: number): number;
  forget(key: string): void;
  retries(key: string): number;
  /** The next key, or undefined once shut down. Every key must be given back with `done`. */
  get(): Promise<string | undefined>;
  done(key: string): void;
  shutDown(): void;
  readonly length: number;
}
