import { listEventsAfter, listRunEvents, toCloudEvent } from '@crucible/storage';
import type { Database, EvaluationOwner, FeedEvent, FeedPage, PublishedEvent } from '@crucible/storage';
import type { Scope } from '../auth/authorizer.ts';

const PAGE = 1000;
const toFeed = (event: PublishedEvent): FeedEvent => ({ position: event.position, event: toCloudEvent(event) });

/** Of everything in the scope: looks at a bounded number of events, and says how far it came. */
export async function replayAll(database: Database, scope: Scope, after: number, upTo: number): Promise<FeedPage> {
  const { events, last } = await listEventsAfter(database, after, scope);
  return { events: events.filter(({ position }) => position <= upTo).map(toFeed), seen: last === after ? upTo : Math.min(last, upTo) };
}

/** Of one run: all of them, which are few. */
export async function replayRun(database: Database, owner: EvaluationOwner, after: number, upTo: number): Promise<FeedPage> {
  const { namespace, namespaceUid, name, uid } = owner;
  const events: FeedEvent[] = [];
  for (let seq = 0; ; ) {
    const page = await listRunEvents(database, uid, [namespaceUid], { after: seq });
    for (const event of page) {
      const { position } = event;
      if (position !== null && position > after && position <= upTo) events.push(toFeed({ ...event, position, namespace, namespaceUid, name }));
    }
    const last = page.at(-1)?.seq;
    if (last === undefined || page.length < PAGE) return { events, seen: upTo };
    seq = last;
  }
}
