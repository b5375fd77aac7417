import type { Action } from './actions.ts';

/**
 * Whose turn an action is, where those of others need not wait for it: each of these is another object, or the record. Not
 * removeFinalizer, which waits for all of them: by the finalizer it is known that something is left.
 */
const LANES: Partial<Record<Action['type'], string>> = {
  addFinalizer: 'evaluation',
  recordAttempt: 'record',
  createConfigMap: 'configmap',
  settleJob: 'run',
  releasePod: 'run',
  sweepConfigMaps: 'configmap',
  deleteConfigMap: 'configmap',
};

/** A copy of what others may change is made only once it is recorded of what. */
function laneOf(action: Action): string | undefined {
  return action.type === 'createConfigMap' && action.recorded ? LANES.recordAttempt : LANES[action.type];
}

/** Actions one after the other, and beside other such lanes. */
export type Lane = readonly Action[];

/**
 * A plan in steps: the lanes of one step may be carried out at the same time, each step when the one before is done. In
 * the order of the plan otherwise. What goes with the run it belongs to (`inOrder`) leaves strictly in order, so that the
 * Evaluation is what goes last. Pure.
 */
export function inSteps(actions: readonly Action[], inOrder: boolean): Lane[][] {
  const steps: Map<string, Action[]>[] = [];
  let open = false;
  for (const action of actions) {
    const lane = inOrder ? undefined : laneOf(action);
    if (lane === undefined || !open) steps.push(new Map());
    const step = steps.at(-1)!;
    step.set(lane ?? '', [...(step.get(lane ?? '') ?? []), action]);
    open = lane !== undefined;
  }
  return steps.map((step) => [...step.values()]);
}
