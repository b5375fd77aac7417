import type { Cell, EvaluationSuite, EvaluationSuiteStatus } from '@crucible/crds';
import type { RunPlace, RunResult, SuiteRecord } from '@crucible/storage';
import type { Refusal } from '../evaluation/admission.ts';
import type { KubeObject } from '../kube/index.ts';

export interface RawSuite extends KubeObject {
  spec?: unknown;
  status?: EvaluationSuiteStatus;
}

/** One run of one cell, and how far it is. `recorded`: the record says the same already. */
export interface Run extends RunPlace {
  /** Of its Evaluation, also before there is one. */
  readonly name: string;
  readonly state: RunState;
}

export type RunState =
  | { readonly kind: 'absent' }
  | {
      readonly kind: 'unfinished';
      readonly uid: string;
      readonly recorded: boolean;
      readonly createdAt: Date | undefined;
      /** Cancelled, being deleted or gone: nothing more is asked of it. */
      readonly ending: boolean;
      /** It is in the cluster and not being deleted. */
      readonly deletable: boolean;
    }
  | {
      readonly kind: 'finished';
      readonly uid: string;
      /** `added`: which Evaluation it is, `ended`: how it ended as well. */
      readonly recorded: 'no' | 'added' | 'ended';
      readonly createdAt: Date | undefined;
      readonly result: RunResult;
    };

/** Something that keeps runs from being created and may pass by itself. */
export interface Obstacle {
  readonly reason: string;
  readonly message: string;
}

/** Everything one decision is made from, gathered at one moment. */
export interface SuiteSnapshot {
  readonly key: string;
  readonly raw: RawSuite;
  /** The parsed resource, or what is wrong with it. */
  readonly suite: EvaluationSuite | undefined;
  readonly invalid: string | undefined;
  readonly cells: readonly Cell[];
  /** Every run of every cell, in order. */
  readonly runs: readonly Run[];
  readonly record: SuiteRecord | undefined | 'unavailable';
  /** Milliseconds since the epoch; since when the record cannot be reached, if it cannot. */
  readonly unavailableSince: number | undefined;
  /** Why none of its Evaluations would be admitted now. */
  readonly refusal: Refusal | undefined;
  /** What the last try to create an Evaluation met. */
  readonly obstacle: Obstacle | undefined;
}

export function conditionOf(raw: RawSuite, type: string): { status: string; reason: string } | undefined {
  return raw.status?.conditions?.find((condition) => condition.type === type);
}

export function isFinished(raw: RawSuite): boolean {
  return conditionOf(raw, 'Finished')?.status === 'True';
}
