import type { SuiteCellStatus, SuitePhase, SuiteSummary } from '@crucible/crds';
import type { RunPlace, RunResult } from '@crucible/storage';
import type { Claim } from '../evaluation/actions.ts';
import type { Obstacle, Run } from './snapshot.ts';

export type SuiteAction =
  /** Asks the API server whether it would take a run, without creating it. */
  | { readonly type: 'tryTemplate'; readonly run: Run }
  | { readonly type: 'addFinalizer' }
  | { readonly type: 'recordSuite' }
  /** The Evaluation exists and the record does not know that it is this run. */
  | { readonly type: 'addRun'; readonly run: RunPlace; readonly name: string; readonly uid: string }
  | { readonly type: 'createRun'; readonly run: Run }
  | { readonly type: 'cancelRun'; readonly name: string; readonly uid: string }
  | { readonly type: 'deleteRun'; readonly name: string; readonly uid: string }
  /** Fails while the API server knows a run of these names: the record would end without it. */
  | { readonly type: 'confirmAbsent'; readonly names: readonly string[] }
  | { readonly type: 'removeFinalizer' };

export interface SuiteEnd {
  readonly phase: SuitePhase;
  readonly reason: string;
  readonly message: string;
  readonly finishedAt: Date;
}

/** What the status is to say. */
export interface SuiteView {
  readonly phase: SuitePhase;
  readonly accepted: Claim;
  /** Undefined before there is anything to count. */
  readonly summary: SuiteSummary | undefined;
  readonly cells: readonly SuiteCellStatus[];
  readonly startedAt: Date | undefined;
  /** What the creation of further runs waits for. */
  readonly obstacle: Obstacle | undefined;
  readonly end: SuiteEnd | undefined;
}

export interface SuitePlan {
  /** Before the record and the status are written. */
  readonly actions: readonly SuiteAction[];
  /** Ends that the record does not have yet. */
  readonly results: readonly RunResult[];
  /** Undefined: record and status stay as they are. */
  readonly view: SuiteView | undefined;
  /** The status is written only as far as the generation that was seen. */
  readonly observe?: true;
  /** After the record and the status are written: what changes the cluster further. */
  readonly then: readonly SuiteAction[];
  readonly requeueAfterSeconds?: number;
}
