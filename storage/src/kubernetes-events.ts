import type { Queryable } from './database.ts';
import { jsonbText } from './json.ts';

/** What an event is about, and what it says. Untrusted: whoever may create events in the namespace can have written any of its texts. */
export interface ToldEvent {
  /** Of the event object. */
  uid: string;
  /** Of the namespace that it is in: what it is about must be in the same. */
  namespaceUid: string;
  /** Of the Job that it is about, or whose pod it is; null when that is not known. */
  jobUid: string | null;
  /** Of the pod that it is about; null when it is about a Job. */
  podUid: string | null;
  objectKind: string;
  objectName: string;
  /** `Normal` or `Warning`. */
  type: string;
  reason: string;
  message: string;
  /** Who says that it told. */
  component: string;
  count: number;
  firstSeenAt: Date;
  lastSeenAt: Date;
}

/** Which of a run's events are kept: the first so many. The others are counted. */
export const MAX_KUBERNETES_EVENTS = 100;

/** Events of Kubernetes about runs, which the cluster itself forgets after an hour. Never the ground of a verdict. */
export class KubernetesEventRepository {
  readonly #db: Queryable;

  constructor(db: Queryable) {
    this.#db = db;
  }

  /**
   * Keeps what is about a run, once each, in one statement. Idempotent: told again, only a higher count and a later time
   * change anything. Answers, in their order, which of them are about a run that is recorded. None may be there twice.
   */
  async keep(events: readonly ToldEvent[]): Promise<boolean[]> {
    const rows = events.map((event, n) => ({
      n, namespace: event.namespaceUid, job: event.jobUid, pod: event.podUid, uid: event.uid, kind: event.objectKind, name: event.objectName,
      type: event.type, reason: event.reason, message: event.message, component: event.component, count: event.count,
      first: event.firstSeenAt, last: event.lastSeenAt,
    }));
    const kept = await this.#db.query<{ n: number }>('SELECT n FROM crucible.keep_kubernetes_events($1) AS n', [jsonbText(rows)]);
    const known = new Set(kept.rows.map(({ n }) => n));
    return events.map((_, n) => known.has(n));
  }
}
