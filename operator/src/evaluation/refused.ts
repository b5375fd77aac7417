import type { View } from './actions.ts';
import type { Settings } from './settings.ts';
import { currentAttempt } from './snapshot.ts';
import type { Snapshot } from './snapshot.ts';
import { judgeRefusal } from './start.ts';
import { ADMITTED, attemptViews } from './view.ts';

/**
 * What the status says when the API server has just refused to create an attempt's objects, the same at every try.
 * Undefined when that has lasted too long: the next decision ends the attempt. Pure.
 */
export function refusedView(snapshot: Snapshot, said: string, now: number, settings: Settings): View | undefined {
  const attempt = currentAttempt(snapshot);
  // An attempt that has not begun, or the first try of the next one.
  const fresh = attempt === undefined || attempt.state === 'finalized';
  const age = fresh ? 0 : (now - (snapshot.launchRefusal?.since ?? now)) / 1000;
  const refused = judgeRefusal('Job', said, age, settings.patience);
  if (refused.kind === 'failed') return undefined;
  const { reason, message } = refused;
  return {
    phase: 'Queued',
    accepted: ADMITTED,
    started: { status: 'False', reason, message },
    queue: { reason, message },
    attempts: attemptViews(snapshot),
  };
}
