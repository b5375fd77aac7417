import { toCloudEvent, type PublishedEvent } from '@crucible/storage';
import type { EventHub } from './event-hub.ts';
import { sseEvent, type EventStream } from './sse.ts';

const PAGE = 200;

export interface ReplayPage {
  /** Ascending, of what is followed, none of them after `seen`. */
  readonly events: readonly PublishedEvent[];
  /** Up to here nothing is left to read; always further than before. */
  readonly seen: number;
}

export interface FollowOptions {
  readonly hub: EventHub;
  readonly stream: EventStream;
  /** From the record, for what the hub does not remember. */
  readonly replay: (after: number, upTo: number) => Promise<ReplayPage>;
  readonly wanted: (event: PublishedEvent) => boolean;
  /** The position that the client has seen. */
  readonly after: number;
}

// All clients get the same text: it is made once.
const TEXTS = new WeakMap<PublishedEvent, string>();
function eventText(event: PublishedEvent): string {
  let text = TEXTS.get(event);
  if (text === undefined) TEXTS.set(event, (text = sseEvent(event.position, event.type, toCloudEvent(event))));
  return text;
}

/**
 * Sends one client everything after what it has seen, at the client's pace: what it missed and what comes are the same
 * thing here, a position that moves on. Ends when the client is gone. Throws what `replay` throws.
 */
export async function followEvents({ hub, stream, replay, wanted, after }: FollowOptions): Promise<void> {
  let seen = after;
  let more = Promise.withResolvers<void>();
  const unsubscribe = hub.subscribe(() => more.resolve());
  void stream.closed.then(() => more.resolve());
  try {
    while (stream.open) {
      const known = hub.next(seen, PAGE);
      if (known?.length === 0) {
        await more.promise;
        more = Promise.withResolvers();
        continue;
      }
      const page = known === undefined ? await replay(seen, hub.head) : { events: known.filter(wanted), seen: known.at(-1)?.position ?? seen };
      if (page.events.length > 0 && !(await stream.send(page.events.map(eventText).join('')))) return;
      ({ seen } = page);
    }
  } finally {
    unsubscribe();
  }
}
