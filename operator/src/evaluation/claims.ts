import type { AttemptRecord } from '@crucible/storage';
import type { Claim } from './actions.ts';
import type { Pod } from './objects.ts';
import { hasNode, hasStarted, isDoubtful } from './pod.ts';
import type { Snapshot, StoredOutput } from './snapshot.ts';
import { NO_OUTPUT, POD_LOST, STARTED, asVerdict, capturedClaim } from './view.ts';

// What may be said about whether the code has started and where its output is. Saying that it never ran is a promise
// that nothing is missing, so it takes evidence; not knowing is said as such.

export const ENDING: Claim = {
  status: 'Unknown',
  reason: 'Ending',
  message: 'It is being ended; whether the code has started is not known yet.',
};
export const START_UNKNOWN: Claim = {
  status: 'Unknown',
  reason: 'PodGone',
  message: 'The pod was gone before it was seen whether the code had started.',
};

/** The kubelet saw the container run, or something that it wrote is stored. */
export function hasRun(snapshot: Snapshot, pod: Pod | undefined): boolean {
  return (pod !== undefined && hasStarted(pod)) || (snapshot.capture?.lastSeq ?? 0) > 0;
}

/** Of an attempt whose output is stored as far as it ever will be. */
export function capturedOf(output: StoredOutput, ran: boolean, pod: Pod | undefined): Claim {
  if (ran || output.capture.lastSeq > 0) return capturedClaim(output);
  // No frame is stored, and the recorder found that none can be missing, or the kubelet knows that nothing ran.
  const none = output.capture.complete !== false || (pod !== undefined && !isDoubtful(pod));
  return none ? NO_OUTPUT : capturedClaim(output);
}

/** The same for an attempt that is final already, from the record: the operator may have stopped before it said so. */
export function capturedAfterwards(snapshot: Snapshot, last: AttemptRecord | undefined): Claim {
  if (last === undefined) return NO_OUTPUT;
  const ran = last.startedAt !== null || hasRun(snapshot, snapshot.pod);
  if (snapshot.output !== undefined) return capturedOf(snapshot.output, ran, snapshot.pod);
  const placed = last.node !== null || (snapshot.pod !== undefined && hasNode(snapshot.pod));
  // Never launched; withdrawn before it had a pod; or its pod never had a node.
  const [ending, judged] = [asVerdict(last.ending), asVerdict(last.verdict)];
  const withdrawn = ending !== undefined && ending.class === judged?.class && ending.message === judged.message;
  const none = last.jobUid === null || (!placed && (last.podUid !== null || withdrawn));
  return ran || !none ? POD_LOST : NO_OUTPUT;
}

/** Whether it has started, once its attempt is over. */
export function startedAfterwards(ran: boolean, captured: Claim, never: Claim): Claim {
  if (ran) return STARTED;
  return captured === NO_OUTPUT ? never : START_UNKNOWN;
}
