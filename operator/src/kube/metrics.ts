import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

export type RestartReason =
  'ended' | 'gone' | 'error-event' | 'malformed' | 'idle' | 'disorder' | 'http' | 'connection' | 'relist';
const RESTART_REASONS: RestartReason[] = [
  'ended',
  'gone',
  'error-event',
  'malformed',
  'idle',
  'disorder',
  'http',
  'connection',
  'relist',
];

const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** One per process; labels are verbs, kinds and reasons, never names. */
export class KubeMetrics {
  readonly requests: Counter<'verb' | 'resource' | 'code'>;
  readonly requestDuration: Histogram<'verb'>;
  readonly requestRetries: Counter<'verb'>;
  readonly restarts: Counter<'resource' | 'reason'>;
  readonly handlerErrors: Counter<'resource'>;
  readonly objects: Gauge<'resource'>;
  readonly leader: Gauge<'lease'>;
  readonly leaderEpoch: Gauge<'lease'>;
  readonly eventsDropped: Counter<'reason'>;
  readonly #ages = new Map<string, Set<() => number>>();

  constructor(registry: Registry) {
    const registers = [registry];
    this.requests = new Counter({
      name: 'crucible_kube_requests_total',
      help: 'Requests to the API server; code 0: no answer',
      labelNames: ['verb', 'resource', 'code'],
      registers,
    });
    this.requestDuration = new Histogram({
      name: 'crucible_kube_request_duration_seconds',
      help: 'Time to the end of an answer, of a watch or log to its headers',
      labelNames: ['verb'],
      buckets: DURATION_BUCKETS,
      registers,
    });
    this.requestRetries = new Counter({
      name: 'crucible_kube_request_retries_total',
      help: 'Requests sent again after throttling, 401 or a lost connection',
      labelNames: ['verb'],
      registers,
    });
    this.restarts = new Counter({
      name: 'crucible_informer_restarts_total',
      help: 'Watches that ended, by reason',
      labelNames: ['resource', 'reason'],
      registers,
    });
    this.handlerErrors = new Counter({
      name: 'crucible_informer_handler_errors_total',
      help: 'Change handlers that threw',
      labelNames: ['resource'],
      registers,
    });
    this.objects = new Gauge({
      name: 'crucible_informer_objects',
      help: 'Objects in the cache',
      labelNames: ['resource'],
      registers,
    });
    this.leader = new Gauge({
      name: 'crucible_leader',
      help: '1 while this process leads',
      labelNames: ['lease'],
      registers,
    });
    this.leaderEpoch = new Gauge({
      name: 'crucible_leader_epoch',
      help: "Epoch of this process's last term",
      labelNames: ['lease'],
      registers,
    });
    this.eventsDropped = new Counter({
      name: 'crucible_events_dropped_total',
      help: 'Kubernetes events not sent',
      labelNames: ['reason'],
      registers,
    });
    for (const reason of ['rate', 'queue', 'error']) this.eventsDropped.inc({ reason }, 0);
    const ages = this.#ages;
    new Gauge({
      name: 'crucible_informer_last_sync_age_seconds',
      help: 'Since the last sign of life of the watch, the oldest of its kind',
      labelNames: ['resource'],
      registers,
      collect() {
        for (const [resource, reads] of ages) this.set({ resource }, Math.max(0, ...[...reads].map((read) => read())));
      },
    });
  }

  /** Returns what takes the informer out again. */
  initInformer(resource: string, lastSyncAgeSeconds: () => number): () => void {
    for (const reason of RESTART_REASONS) this.restarts.inc({ resource, reason }, 0);
    this.handlerErrors.inc({ resource }, 0);
    this.objects.inc({ resource }, 0);
    const ages = this.#ages.get(resource) ?? new Set();
    this.#ages.set(resource, ages.add(lastSyncAgeSeconds));
    return () => void ages.delete(lastSyncAgeSeconds);
  }

  initLeader(lease: string): void {
    this.leader.set({ lease }, 0);
    this.leaderEpoch.set({ lease }, 0);
  }
}
