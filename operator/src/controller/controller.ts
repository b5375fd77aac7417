import type { Logger } from 'pino';
import type { Clock } from '../kube/clock.ts';
import type { ControllerMetrics } from './metrics.ts';
import type { WorkQueue } from './queue.ts';
export type Result = { requeueAfterSeconds?: number | undefined };
export interface ReconcileContext { readonly reconcileId: string; readonly logger: Logger; }
export type Reconcile = (key: string, signal: AbortSignal, context: ReconcileContext) => Promise<Result | void>;
export interface ControllerOptions {
  name: string; workers: number; reconcile: Reconcile; queue: WorkQueue; metrics?: ControllerMetrics | undefined; logger: Logger; clock?: Clock | undefined;
}
export declare class Controller {
  constructor(options: ControllerOptions);
  start(): void;
  /** Takes no more keys, waits for the running ones, aborts their signal after `limitSeconds`. True: all ended in time. */
  stop(limitSeconds: number): Promise<boolean>;
}
