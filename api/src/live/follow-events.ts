import type { CloudEvent, EventFeed, FeedEvent, FeedReader } from '@crucible/storage';
import { ssePosition, sseEvent, type EventStream } from './sse.ts';

const TYPE_PREFIX = 'dev.crucible.';

export interface FollowOptions extends Pick<FeedReader, 'wanted' | 'replay' | 'ended'> {
  readonly feed: EventFeed;
  readonly stream: EventStream;
  /** The position that the client has seen. */
  readonly after: number;
}

// All clients get the same bytes: they are made once, and so is what most of them get at once.
const BATCHES = 4;
const batches = new Map<string, Buffer>();
const BYTES = new WeakMap<CloudEvent, Buffer>();
function eventBytes(event: CloudEvent): Buffer {
  let bytes = BYTES.get(event);
  if (bytes === undefined) BYTES.set(event, (bytes = Buffer.from(sseEvent(event.position, event.type.slice(TYPE_PREFIX.length), event))));
  return bytes;
}

function batchBytes(events: readonly FeedEvent[]): Buffer {
  const [first] = events;
  if (first !== undefined && events.length === 1) return eventBytes(first.event);
  const key = events.map(({ position }) => position).join();
  let bytes = batches.get(key);
  if (bytes === undefined) {
    batches.set(key, (bytes = Buffer.concat(events.map(({ event }) => eventBytes(event)))));
    if (batches.size > BATCHES) batches.delete(batches.keys().next().value as string);
  }
  return bytes;
}

/**
 * Sends one client everything after what it has seen, at the client's pace, until it is gone. First where it stands: a
 * client that is cut off before its first event comes back with that.
 */
export function followEvents({ feed, stream, after, ...reader }: FollowOptions): void {
  stream.write(ssePosition(after));
  const subscription = feed.subscribe(after, { ...reader, take: (events) => stream.send(batchBytes(events)) });
  stream.whenEnded(() => subscription.close());
}
