import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

const RESULTS = ['success', 'error', 'requeue', 'requeue_after'] as const;
export type ReconcileResult = (typeof RESULTS)[number];

// The buckets of client-go's workqueue and controller-runtime's reconcile time, so that existing dashboards fit.
const QUEUE_BUCKETS = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100, 1000];
const RECONCILE_BUCKETS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 1.75, 2,
  2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60,
];

/** What a queue tells when it is scraped. */
export interface QueueGauges {
  unfinishedSeconds(): number;
  longestRunningSeconds(): number;
}

/** The metrics of all queues and controllers of a process, named as controller-runtime names them. */
export class ControllerMetrics {
  readonly depth: Gauge<'name' | 'controller'>;
  readonly adds: Counter<'name' | 'controller'>;
  readonly retries: Counter<'name' | 'controller'>;
  readonly queueDuration: Histogram<'name' | 'controller'>;
  readonly workDuration: Histogram<'name' | 'controller'>;
  readonly reconciles: Counter<'controller' | 'result'>;
  readonly errors: Counter<'controller'>;
  readonly terminalErrors: Counter<'controller'>;
  readonly time: Histogram<'controller'>;
  readonly activeWorkers: Gauge<'controller'>;
  readonly maxConcurrent: Gauge<'controller'>;
  readonly #queues = new Map<string, QueueGauges>();

  constructor(registry: Registry) {
    const registers = [registry];
    const queueLabels = ['name', 'controller'] as const;
    const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> =>
      new Counter({ name, help, labelNames, registers });
    const histogram = <L extends string>(
      name: string,
      help: string,
      labelNames: readonly L[],
      buckets: number[],
    ): Histogram<L> => new Histogram({ name, help, labelNames, buckets, registers });
    this.depth = new Gauge({
      name: 'workqueue_depth',
      help: 'Keys waiting in the queue',
      labelNames: queueLabels,
      registers,
    });
    this.adds = counter('workqueue_adds_total', 'Keys added to the queue', queueLabels);
    this.retries = counter('workqueue_retries_total', 'Keys added again after a failure', queueLabels);
    this.queueDuration = histogram(
      'workqueue_queue_duration_seconds',
      'Time a key waits in the queue',
      queueLabels,
      QUEUE_BUCKETS,
    );
    this.workDuration = histogram(
      'workqueue_work_duration_seconds',
      'Time a key takes to process',
      queueLabels,
      QUEUE_BUCKETS,
    );
    this.reconciles = counter('controller_runtime_reconcile_total', 'Reconciliations', ['controller', 'result']);
    this.errors = counter('controller_runtime_reconcile_errors_total', 'Failed reconciliations', ['controller']);
    this.terminalErrors = counter(
      'controller_runtime_terminal_reconcile_errors_total',
      'Failed reconciliations that are not retried',
      ['controller'],
    );
    this.time = histogram(
      'controller_runtime_reconcile_time_seconds',
      'Time of a reconciliation',
      ['controller'],
      RECONCILE_BUCKETS,
    );
    this.activeWorkers = new Gauge({
      name: 'controller_runtime_active_workers',
      help: 'Workers that are reconciling',
      labelNames: ['controller'],
      registers,
    });
    this.maxConcurrent = new Gauge({
      name: 'controller_runtime_max_concurrent_reconciles',
      help: 'Number of workers',
      labelNames: ['controller'],
      registers,
    });
    this.#registerAges(registers);
  }

  #registerAges(registers: Registry[]): void {
    const queues = this.#queues;
    const age = (name: string, help: string, read: (queue: QueueGauges) => number): void => {
      new Gauge({
        name,
        help,
        labelNames: ['name', 'controller'],
        registers,
        collect() {
          for (const [queue, gauges] of queues) this.set({ name: queue, controller: queue }, read(gauges));
        },
      });
    };
    age('workqueue_unfinished_work_seconds', 'Sum of the time of keys in processing', (queue) =>
      queue.unfinishedSeconds(),
    );
    age('workqueue_longest_running_processor_seconds', 'Time of the oldest key in processing', (queue) =>
      queue.longestRunningSeconds(),
    );
  }

  /** Series exist from the start: a rate over a counter that appears with its first increment misses that increment. */
  initQueue(name: string, gauges: QueueGauges): void {
    const labels = { name, controller: name };
    this.depth.set(labels, 0);
    this.adds.inc(labels, 0);
    this.retries.inc(labels, 0);
    this.queueDuration.zero(labels);
    this.workDuration.zero(labels);
    this.#queues.set(name, gauges);
  }

  initController(controller: string, workers: number): void {
    for (const result of RESULTS) this.reconciles.inc({ controller, result }, 0);
    this.errors.inc({ controller }, 0);
    this.terminalErrors.inc({ controller }, 0);
    this.time.zero({ controller });
    this.activeWorkers.set({ controller }, 0);
    this.maxConcurrent.set({ controller }, workers);
  }
}
