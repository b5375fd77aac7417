import type { Attempt, Condition, EvaluationStatus, Phase, Verdict } from '@crucible/crds';
import type { AttemptPod, FinalAttempt, InputRecord } from '@crucible/storage';
import type { AcceptedRisk } from '../drill/gate.ts';
import type { Run } from './admission.ts';
import type { Score, StdoutExpectation } from './expect.ts';

/** The only things that reconciling an Evaluation does to the world, carried out in the order of the plan. */
export type Action =
  | { readonly type: 'addFinalizer' }
  /** Of a status that cannot be ours: then it is written as of one that has none yet. */
  | { readonly type: 'clearStatus' }
  | { readonly type: 'recordEvaluation'; readonly phase: Phase }
  /** Rows of the evaluation and its attempt, before anything of it can be in the cluster. */
  | {
      readonly type: 'recordAttempt';
      readonly number: number;
      readonly run: Run;
      readonly risks: readonly AcceptedRisk[];
      readonly inputs: readonly InputRecord[];
    }
  /** What the attempt's pod mounts: code and settings. `recorded`: it holds what the attempt's row has the digests of. */
  | { readonly type: 'createConfigMap'; readonly number: number; readonly run: Run; readonly recorded: boolean }
  /** The Job of an attempt, and its uid in the row. */
  | { readonly type: 'launch'; readonly number: number; readonly run: Run }
  | { readonly type: 'recordJob'; readonly number: number; readonly jobUid: string }
  | { readonly type: 'recordPod'; readonly number: number; readonly pod: AttemptPod }
  | { readonly type: 'recordPhase'; readonly phase: Phase }
  /** Why it waits, for readers of the queue: with its row, or, when it is not admitted and has none, among the submissions. */
  | { readonly type: 'recordWaiting'; readonly queue: QueueView | undefined; readonly notAdmitted: NotAdmittedView | undefined }
  /** Why the start is given up, before it is: the pod will not say. */
  | { readonly type: 'recordEnding'; readonly number: number; readonly verdict: Verdict }
  | { readonly type: 'lowerDeadline'; readonly podName: string; readonly podUid: string; readonly seconds: number }
  | {
      readonly type: 'recordEnd';
      readonly attempt: AttemptEnd | undefined;
      readonly evaluation: EvaluationEnd | undefined;
    }
  /** Deletes a Job none of whose pods has a node. Fails when one has got it meanwhile: that one may have run. */
  | { readonly type: 'withdraw'; readonly number: number; readonly jobName: string; readonly jobUid: string }
  /** Fails unless the API server says that the Evaluation, or its namespace, is going. */
  | { readonly type: 'confirmGoing' }
  /** What of it is worth keeping must be captured: this deletes the pod and its log. */
  | { readonly type: 'deleteJob'; readonly jobName: string; readonly jobUid: string }
  /** Hands the Job over to the garbage collector: owner reference and time to live. */
  | { readonly type: 'settleJob'; readonly jobName: string; readonly jobUid: string }
  /** Soon, and with those of others. */
  | { readonly type: 'sweepConfigMaps' }
  | { readonly type: 'deleteConfigMap'; readonly name: string }
  | { readonly type: 'releasePod'; readonly podName: string; readonly podUid: string }
  | { readonly type: 'removeFinalizer' }
  | { readonly type: 'deleteEvaluation' };

export type AttemptEnd = Omit<FinalAttempt, 'evaluationUid' | 'epoch'> & { readonly pod: AttemptPod | undefined };

export interface EvaluationEnd {
  readonly phase: Phase;
  readonly verdict: Verdict;
  readonly passed: boolean | null;
  /** Why, with `passed`. */
  readonly score: Score | undefined;
  readonly finishedAt: Date;
  readonly acceptedAttempt: number | undefined;
}

/** What a condition says, apart from when it began to. */
export type Claim = Pick<Condition, 'status' | 'reason' | 'message'>;

/** What it waits for before its code can start: one word, and the same in a sentence. */
export interface QueueView {
  readonly reason: string;
  readonly message: string;
}

/** Why it has no row yet. `refused`: its owner has to change something; otherwise the sandbox is not shown to hold. */
export interface NotAdmittedView extends QueueView {
  readonly refused: boolean;
}

/** What the status is to say. Conditions that are left out are left out of the status. */
export interface View {
  readonly phase: Phase;
  readonly accepted: Claim;
  readonly started?: Claim;
  readonly captured?: Claim;
  readonly contained?: Claim;
  readonly end?: { readonly verdict: Verdict; readonly passed?: Claim };
  readonly queue?: QueueView;
  readonly attempts: readonly Attempt[];
  readonly output?: NonNullable<EvaluationStatus['output']>;
  readonly artifacts?: NonNullable<EvaluationStatus['artifacts']>;
  readonly receipt?: NonNullable<EvaluationStatus['receipt']>;
}

export interface Plan {
  readonly actions: readonly Action[];
  /** Undefined: the status stays as it is. */
  readonly view: View | undefined;
  /** The code has ended and its output is not stored yet; undefined: as before. */
  readonly capturing?: boolean;
  /** It stays, and counts for the current generation. */
  readonly observe?: boolean;
  readonly requeueAfterSeconds?: number;
  /** It waits for this RuntimeClass (undefined: the default one) to be drilled. */
  readonly drill?: { readonly runtimeClass: string | undefined };
  /** The end waits for this to be scored. It takes its time, elsewhere; then this is decided again. */
  readonly scoring?: { readonly attempt: number; readonly expected: StdoutExpectation };
  /**
   * Its place among the running: `hold` it has one by having a Job; `request` it needs one to go on; `release` it needs
   * none (any more).
   */
  readonly turn: 'hold' | 'request' | 'release';
}
