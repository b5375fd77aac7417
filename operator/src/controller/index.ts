export { StalledError, WaitingError, outcomeOfError, type Outcome } from './errors.ts';
export { ControllerMetrics } from './metrics.ts';
export { StatusWriter, type StatusWriterOptions } from './status-writer.ts';
export { WorkQueue, type WorkQueueOptions } from './queue.ts';
export {
  Controller,
  type ControllerOptions,
  type Reconcile,
  type ReconcileContext,
  type Result,
} from './controller.ts';
