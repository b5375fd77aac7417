import { listEventsAfter, listRunEvents } from '@crucible/storage';
import type { Database, EvaluationOwner, PublishedEvent } from '@crucible/storage';
import type { Scope } from '../auth/authorizer.ts';
import type { ReplayPage } from './follow-events.ts';

/** Of everything in the scope: looks at a bounded number of events, and says how far it came. */
export async function replayAll(database: Database, scope: Scope, after: number, upTo: number): Promise<ReplayPage> {
  const { events, last } = await listEventsAfter(database, after, scope);
  return { events: events.filter(({ position }) => position <= upTo), seen: last === after ? upTo : Math.min(last, upTo) };
}

/** Of one run: all of them, which are few. */
export async function replayRun(database: Database, owner: EvaluationOwner, after: number, upTo: number): Promise<ReplayPage> {
  const { namespace, namespaceUid, name, uid } = owner;
  const events: PublishedEvent[] = [];
  for (let seq = 0; ; ) {
    const page = await listRunEvents(database, uid, [namespaceUid], { after: seq });
    for (const event of page) {
      const { position } = event;
      if (position !== null && position > after && position <= upTo) events.push({ ...event, position, namespace, namespaceUid, name });
    }
    const last = page.at(-1)?.seq;
    if (last === undefined || page.length < 1000) return { events, seen: upTo };
    seq = last;
  }
}
