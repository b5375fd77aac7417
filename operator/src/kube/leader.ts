import type { Logger } from 'pino';
import type { KubeClient } from './client.ts';
import type { Clock } from './clock.ts';
import type { KubeMetrics } from './metrics.ts';
import type { LeaderStopReason, LeaderTerm } from './types.ts';
export interface LeaderElectorOptions {
  client: KubeClient; namespace: string; name: string; identity: string; logger: Logger;
  clock?: Clock | undefined; random?: (() => number) | undefined; metrics?: KubeMetrics | undefined;
  leaseDurationMs?: number | undefined; renewDeadlineMs?: number | undefined; retryPeriodMs?: number | undefined;
  /** The highest epoch known elsewhere (the database): keeps epochs growing when somebody deletes the Lease. */
  epochFloor?: (() => Promise<number>) | undefined;
  /** The term's work. A rejection ends the term. */
  onStarted: (term: LeaderTerm) => void | Promise<void>;
  /** Awaited before the lease is released or competed for again. */
  onStopped: (reason: LeaderStopReason) => void | Promise<void>;
}
export declare class LeaderElector {
  constructor(options: LeaderElectorOptions);
  start(): void;
  /** Ends the term, waits for onStopped, releases the lease. */
  stop(): Promise<void>;
  /** Checked against the clock, so a process that was paused past its lease gets false at once. */
  isLeader(): boolean;
  readonly epoch: number | undefined;
}
