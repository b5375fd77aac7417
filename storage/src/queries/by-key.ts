import { SLICE } from '../output.ts';
import { ATTEMPTS, EVALUATION, OWNER, STATE } from './evaluation-detail.ts';
import { NEWEST, NEWEST_OF_ALL } from './evaluation-list.ts';
import { RUN_EVENTS } from './event-log.ts';
import { RUN_KUBERNETES_EVENTS } from './kubernetes-events.ts';
import { STREAM } from './run-output.ts';
import { PARTS_OF_RUN } from './storage-locations.ts';

/**
 * The most frequent reads, for the `prepared` of connect(): by the key of one run, and the newest runs of a scope. One plan
 * is right whatever the values are, and to find it takes Postgres several times as long as to run it where months of events
 * are concerned. Other lists are not among them: their best plan depends on what is asked.
 */
export const READS_BY_KEY: ReadonlySet<string> = new Set([
  OWNER, STATE, EVALUATION, ATTEMPTS, RUN_EVENTS, RUN_KUBERNETES_EVENTS, STREAM, SLICE, PARTS_OF_RUN, NEWEST, NEWEST_OF_ALL,
]);
