import type { CloudEvent, EventFeed, FeedFilter } from '@crucible/storage';
import { sseEvent, type EventStream } from './sse.ts';

const TYPE_PREFIX = 'dev.crucible.';

export interface FollowOptions extends FeedFilter {
  readonly feed: EventFeed;
  readonly stream: EventStream;
  readonly signal: AbortSignal;
  /** The position that the client has seen. */
  readonly after: number;
}

// All clients get the same bytes: they are made once.
const BYTES = new WeakMap<CloudEvent, Buffer>();
function eventBytes(event: CloudEvent): Buffer {
  let bytes = BYTES.get(event);
  if (bytes === undefined) BYTES.set(event, (bytes = Buffer.from(sseEvent(event.position, event.type.slice(TYPE_PREFIX.length), event))));
  return bytes;
}

/** Sends one client everything after what it has seen, at the client's pace. Ends when the client is gone. */
export async function followEvents({ feed, stream, signal, after, ...filter }: FollowOptions): Promise<void> {
  for await (const events of feed.batches(after, signal, filter))
    if (!(await stream.send(events.map(({ event }) => eventBytes(event))))) return;
}
