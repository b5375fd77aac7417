import type { Action, Plan } from '../actions.ts';
import { plan } from '../plan.ts';
import type { RawEvaluation, Snapshot } from '../snapshot.ts';
import { NOW, at, rawEvaluation, settings } from './builders.ts';

// What is decided about a snapshot at NOW, for tests of plan.ts and plan-attempt.ts.

export const decide = (subject: Snapshot): Plan => plan(subject, NOW, settings());
export const types = (subject: Snapshot): string[] => decide(subject).actions.map(({ type }) => type);
export const find = <T extends Action['type']>(subject: Snapshot, type: T): Extract<Action, { type: T }> | undefined =>
  decide(subject).actions.find((action) => action.type === type) as Extract<Action, { type: T }> | undefined;

export const finalizers = ['crucible.dev/capture'];
export const deleting = (extra: object = {}): RawEvaluation =>
  rawEvaluation({}, { metadata: { deletionTimestamp: at(-5), finalizers, ...extra } });
export const accepted = {
  type: 'Accepted',
  status: 'True',
  reason: 'Admitted',
  message: '',
  lastTransitionTime: at(-50),
} as const;
export const finished = {
  type: 'Finished',
  status: 'True',
  reason: 'Succeeded',
  message: '',
  lastTransitionTime: at(-20),
} as const;
export const finalized = {
  state: 'finalized',
  finalizedAt: new Date(NOW - 3600_000),
  verdict: { class: 'Evicted', attributableTo: 'Infrastructure', confidence: 'Confirmed', message: 'm', evidence: [] },
} as const;
