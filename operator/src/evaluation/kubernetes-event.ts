import type { ToldEvent } from '@crucible/storage';
import type { KubeObject } from '../kube/index.ts';

// Event objects as they come from the API server, which checks next to nothing about them: whoever may create events can
// write any text of any length, any time, and the UID of anything. So they are cut down before anything is done with them.

/** An event as long as it waits to be kept. Whose run it is about is found out later. */
export interface HeardEvent extends KubeObject {
  /** Absent: it is about nothing that can be of a run. */
  readonly heard?: Heard;
}

export interface Heard extends Omit<ToldEvent, 'namespaceUid' | 'jobUid' | 'podUid'> {
  readonly objectKind: 'Job' | 'Pod';
  readonly objectUid: string;
}

interface RawEvent extends KubeObject {
  involvedObject?: Record<'kind' | 'name' | 'uid', unknown>;
  type?: unknown;
  reason?: unknown;
  message?: unknown;
  source?: { component?: unknown };
  reportingComponent?: unknown;
  count?: unknown;
  firstTimestamp?: unknown;
  lastTimestamp?: unknown;
  eventTime?: unknown;
  series?: { count?: unknown; lastObservedTime?: unknown };
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MAX_COUNT = 1_000_000_000;
/** What an event says of its time is believed as far from the API server's own: it collects events over minutes, and clocks differ. */
const BELIEVED_MS = 3_600_000;

/** As the transform of an informer: of an event of megabytes little more than a kilobyte stays. */
export function hear(raw: KubeObject, now: number): HeardEvent {
  const { apiVersion, kind } = raw;
  const { name, namespace, uid, resourceVersion } = raw.metadata;
  const heard = essence(raw, now);
  return { apiVersion, kind, metadata: { name, namespace, uid, resourceVersion } as KubeObject['metadata'], ...(heard && { heard }) };
}

function essence(raw: RawEvent, now: number): Heard | undefined {
  const { kind, name, uid } = raw.involvedObject ?? {};
  if ((kind !== 'Job' && kind !== 'Pod') || !isUuid(uid) || !isUuid(raw.metadata.uid)) return undefined;
  return {
    uid: raw.metadata.uid,
    objectKind: kind,
    objectName: cut(name, 253),
    objectUid: uid,
    type: cut(raw.type, 16),
    reason: cut(raw.reason, 128),
    message: cut(raw.message, 1024),
    component: cut(raw.source?.component || raw.reportingComponent, 128),
    count: countOf(raw),
    ...timesOf(raw, now),
  };
}

function countOf({ count, series }: RawEvent): number {
  const number = Number(series?.count ?? count ?? 1);
  return Number.isSafeInteger(number) ? Math.min(Math.max(number, 1), MAX_COUNT) : 1;
}

/** The API server's own time of creation is the measure; never in the future, never the last before the first. */
function timesOf(raw: RawEvent, now: number): { firstSeenAt: Date; lastSeenAt: Date } {
  const created = timeOf(raw.metadata.creationTimestamp) ?? now;
  const told = timeOf(raw.firstTimestamp) ?? timeOf(raw.eventTime) ?? created;
  const first = Math.abs(told - created) <= BELIEVED_MS ? told : created;
  const last = timeOf(raw.series?.lastObservedTime) ?? timeOf(raw.lastTimestamp) ?? first;
  return { firstSeenAt: new Date(first), lastSeenAt: new Date(Math.max(first, Math.min(last, now))) };
}

function timeOf(value: unknown): number | undefined {
  const time = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(time) ? undefined : time;
}

function isUuid(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value);
}

/** A copy: a slice of a large text would hold all of it in memory. */
function cut(value: unknown, most: number): string {
  const text = typeof value === 'string' ? value : '';
  return text.length <= most ? text : `${Buffer.from(text.slice(0, most - 1)).toString()}…`;
}
