import type { PublishedEvent } from './positions.ts';

/** CloudEvents 1.0, JSON format. Extension attributes are strings: a CloudEvents Integer has 32 bits. */
export interface CloudEvent {
  specversion: '1.0';
  /** `<evaluation uid>/<seq>`: the same however often it is delivered. */
  id: string;
  source: string;
  /** `dev.crucible.` and the event's type. */
  type: string;
  /** The evaluation's UID. */
  subject: string;
  time: string;
  datacontenttype: 'application/json';
  /** Global position: dense, ascending in the order of publication; the Last-Event-ID of event streams. */
  position: string;
  /** Number within the evaluation: from 1, dense. */
  sequence: string;
  namespace: string;
  /** Who may see it is decided by this, not by the name, which may have been reused. */
  namespaceuid: string;
  name: string;
  data: Record<string, unknown>;
}

const TYPE_PREFIX = 'dev.crucible.';

export function toCloudEvent(event: PublishedEvent): CloudEvent {
  return {
    specversion: '1.0',
    id: eventId(event),
    source: `/namespaces/${event.namespace}/evaluations/${event.name}`,
    type: TYPE_PREFIX + event.type,
    subject: event.evaluationUid,
    time: event.at.toISOString(),
    datacontenttype: 'application/json',
    position: String(event.position),
    sequence: String(event.seq),
    namespace: event.namespace,
    namespaceuid: event.namespaceUid,
    name: event.name,
    data: event.data,
  };
}

export function eventId(event: { evaluationUid: string; seq: number }): string {
  return `${event.evaluationUid}/${event.seq}`;
}

/** Of a stream entry. Throws when it is none of ours: whoever wrote it, it is not an event. */
export function parseCloudEvent(text: string): CloudEvent {
  const value = JSON.parse(text) as Partial<CloudEvent> | null;
  const strings = [value?.id, value?.type, value?.subject, value?.position, value?.sequence];
  if (value?.specversion !== '1.0' || strings.some((field) => typeof field !== 'string')) throw new Error('not a CloudEvent of Crucible');
  return value as CloudEvent;
}
