import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { sleep, systemClock, type Clock } from '../kube/clock.ts';
import { outcomeOfError, type Outcome } from './errors.ts';
import type { ControllerMetrics, ReconcileResult } from './metrics.ts';
import type { WorkQueue } from './queue.ts';

/** What a reconcile wants next: nothing, or to be run again after some time. */
export type Result = { requeueAfterSeconds?: number | undefined };

export interface ReconcileContext {
  /** Joins the log lines of one run. */
  readonly reconcileId: string;
  /** With `controller`, `key` and `reconcileId` bound. */
  readonly logger: Logger;
}

/** Brings the world towards what the object says. Stops early when the signal aborts. */
export type Reconcile = (key: string, signal: AbortSignal, context: ReconcileContext) => Promise<Result | void>;

export interface ControllerOptions {
  name: string;
  workers: number;
  reconcile: Reconcile;
  queue: WorkQueue;
  logger: Logger;
  metrics?: ControllerMetrics | undefined;
  clock?: Clock | undefined;
}

/** After its signal was aborted, a reconcile gets this long to notice before it is left behind. */
const ABORT_GRACE_MS = 1000;

/** Runs the keys of a queue with a number of workers. */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  #workers: Promise<unknown> | undefined;
  #stopped: Promise<boolean> | undefined;

  constructor(options: ControllerOptions) {
    if (!Number.isInteger(options.workers) || options.workers < 1) throw new RangeError('workers must be at least 1');
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    options.metrics?.initController(options.name, options.workers);
  }

  start(): void {
    if (this.#workers !== undefined) throw new Error(`controller ${this.#options.name} was started already`);
    this.#workers = Promise.all(Array.from({ length: this.#options.workers }, () => this.#work()));
  }

  /** Takes no more keys, waits for the running ones, aborts them after `limitSeconds`. True: all ended in time. */
  stop(limitSeconds: number): Promise<boolean> {
    this.#stopped ??= this.#stop(limitSeconds * 1000);
    return this.#stopped;
  }

  async #stop(limitMs: number): Promise<boolean> {
    this.#options.queue.shutDown();
    if (await this.#endWithin(limitMs)) return true;
    this.#options.logger.warn(
      { controller: this.#options.name, running: this.#options.queue.running },
      'reconciles aborted at shutdown',
    );
    this.#abort.abort(new Error('shutting down'));
    await this.#endWithin(ABORT_GRACE_MS);
    return false;
  }

  async #endWithin(limitMs: number): Promise<boolean> {
    const timer = new AbortController();
    const ended = (this.#workers ?? Promise.resolve()).then(() => true);
    const late = sleep(this.#clock, limitMs, timer.signal).then(() => false);
    const result = await Promise.race([ended, late]);
    timer.abort();
    return result;
  }

  async #work(): Promise<void> {
    for (;;) {
      const key = await this.#options.queue.get();
      if (key === undefined) return;
      await this.#process(key);
    }
  }

  async #process(key: string): Promise<void> {
    const { name, queue, metrics } = this.#options;
    const reconcileId = randomUUID();
    const logger = this.#options.logger.child({ controller: name, key, reconcileId });
    const startedAt = this.#clock.monotonic();
    metrics?.activeWorkers.inc({ controller: name });
    const outcome = await this.#run(key, { reconcileId, logger });
    metrics?.activeWorkers.dec({ controller: name });
    metrics?.time.observe({ controller: name }, (this.#clock.monotonic() - startedAt) / 1000);
    this.#settle(key, outcome, logger);
    queue.done(key);
  }

  async #run(key: string, context: ReconcileContext): Promise<Outcome> {
    try {
      const after = (await this.#options.reconcile(key, this.#abort.signal, context))?.requeueAfterSeconds;
      return after === undefined ? { kind: 'done' } : { kind: 'after', seconds: after };
    } catch (error) {
      return outcomeOfError(error);
    }
  }

  #settle(key: string, outcome: Outcome, logger: Logger): void {
    const { name, queue, metrics } = this.#options;
    const count = (result: ReconcileResult): void => metrics?.reconciles.inc({ controller: name, result });
    if (outcome.kind !== 'failed') queue.forget(key);
    switch (outcome.kind) {
      case 'done':
        return count('success');
      case 'after':
        queue.addAfter(key, outcome.seconds);
        return count('requeue_after');
      case 'waiting':
        logger.debug(
          { reason: outcome.error.reason, afterSeconds: outcome.seconds, err: outcome.error },
          'reconcile waits',
        );
        queue.addAfter(key, outcome.seconds);
        return count('requeue_after');
      case 'stalled':
        logger.warn({ reason: outcome.error.reason, err: outcome.error }, 'reconcile stalled');
        metrics?.errors.inc({ controller: name });
        metrics?.terminalErrors.inc({ controller: name });
        return count('error');
      case 'failed': {
        metrics?.errors.inc({ controller: name });
        count('error');
        // An aborted run at shutdown is no news, and its retry would be dropped.
        if (this.#abort.signal.aborted) return;
        const retryAfterSeconds = queue.addRateLimited(key, outcome.atLeastSeconds);
        logger.error({ retries: queue.retries(key), retryAfterSeconds, err: outcome.error }, 'reconcile failed');
      }
    }
  }
}
