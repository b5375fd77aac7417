import type { Logger } from 'pino';
import type { KubeClient } from './client.ts';
import type { Clock } from './clock.ts';
import type { KubeMetrics } from './metrics.ts';
import type { KubeObject } from './resources.ts';
export interface EventRecorderOptions {
  client: KubeClient; component: string; instance: string; logger: Logger;
  clock?: Clock | undefined; random?: (() => number) | undefined; metrics?: KubeMetrics | undefined;
}
export interface EventInit { type: 'Normal' | 'Warning'; reason: string; message: string; }
export declare class EventRecorder {
  constructor(options: EventRecorderOptions);
  /** Never throws and never waits; equal events are counted in one object. */
  event(object: KubeObject, event: EventInit): void;
  /** Sends what is pending, for at most `limitMs`. */
  stop(limitMs?: number): Promise<void>;
}
