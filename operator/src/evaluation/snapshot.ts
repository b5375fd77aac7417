import type { Evaluation, EvaluationStatus } from '@crucible/crds';
import type { AttemptRecord, CaptureRecord, EvaluationProgress } from '@crucible/storage';
import type { Gate } from '../drill/gate.ts';
import type { InputMap } from './inputs.ts';
import type { KubeObject } from '../kube/index.ts';
import type { ClusterFacts } from './admission.ts';
import type { Swept } from './config-map-sweep.ts';
import type { Score } from './expect.ts';
import type { Job, KubeEvent, Pod } from './objects.ts';
import type { Workload } from './kueue.ts';
import type { HeldBack } from './queue.ts';

export interface RawEvaluation extends KubeObject {
  spec?: unknown;
  status?: EvaluationStatus;
  /** Its content was left out of the cache; see slim.ts. */
  slim?: boolean;
}

/** What Postgres knows. */
export interface RecordState {
  readonly evaluation: EvaluationProgress | undefined;
  /** By number, ascending. */
  readonly attempts: readonly AttemptRecord[];
  /** Not read: nothing can be there, or next to nothing. What is written on that ground must find that it is so. */
  readonly assumed?: true;
}

/** Stored output of the current attempt, read once it is captured. */
export interface StoredOutput {
  readonly capture: CaptureRecord;
  /** Of stdout, or of stderr when that is all there is. */
  readonly tail: Uint8Array;
  /** When there is something on both: a traceback is what people look for first. */
  readonly stderrTail?: Uint8Array;
}

/** Everything one decision is made from, gathered at one moment. */
export interface Snapshot {
  readonly key: string;
  readonly raw: RawEvaluation;
  /** The parsed resource, or what is wrong with it. */
  readonly evaluation: Evaluation | undefined;
  readonly invalid: string | undefined;
  readonly cluster: ClusterFacts;
  readonly record: RecordState | 'unavailable';
  /** Milliseconds since the epoch; since when the record cannot be reached, if it cannot. */
  readonly unavailableSince: number | undefined;
  /** Of the current attempt, that is the last one in the record. */
  readonly job: Job | undefined;
  readonly pod: Pod | undefined;
  /** Every other pod that carries the evaluation's uid: of earlier attempts, or a second one of this Job. */
  readonly others: readonly Pod[];
  readonly warnings: readonly KubeEvent[];
  /** Since when its container is seen to fail before it runs, in milliseconds. */
  readonly failingSince: number | undefined;
  /** Kueue's, of the attempt's Job. */
  readonly workload: Workload | undefined;
  /** Of the current attempt, finished or not. */
  readonly capture: CaptureRecord | undefined;
  /** Only once the capture is finished. */
  readonly output: StoredOutput | undefined;
  /** What scoring the output of one attempt gave, once that is done and until it is in the record. */
  readonly scored: { readonly attempt: number; readonly score: Score } | undefined;
  /** The ConfigMaps of spec.files, by name, as they are now; empty while an attempt is under way. */
  readonly inputs: ReadonlyMap<string, InputMap | undefined>;
  /** What the API server said to the last try to create the attempt's Job, when it refused. */
  readonly launchRefusal: LaunchRefusal | undefined;
  /** Whether the drill lets a sandbox be started. */
  readonly gate: Gate;
  /** It has a place among the running ones. */
  readonly turn: boolean;
  /** Why it has none, once it has asked for one. */
  readonly heldBack: HeldBack | undefined;
  /** The status says Finished, and this leader has seen it unfinished and has not ended it: then the record is asked. */
  readonly doubted: boolean;
  /** What became of its ConfigMaps, once it has finished. */
  readonly configMaps: Swept | undefined;
  /** The output of too many ended runs is not stored yet. */
  readonly backlogged: boolean;
  /** Why nothing new is started, while somebody has paused the operator or its namespace. */
  readonly paused: string | undefined;
}

export interface LaunchRefusal {
  readonly said: string;
  /** Since when it has been refused at every try, in milliseconds: the attempt may be older, and have waited for the drill. */
  readonly since: number;
}

export function currentAttempt(snapshot: Snapshot): AttemptRecord | undefined {
  return snapshot.record === 'unavailable' ? undefined : snapshot.record.attempts.at(-1);
}

/**
 * Cancelled or being deleted, itself or with its namespace: nothing new starts and what runs is ended. A namespace deletes its
 * pods first (KEP-5080), while the Evaluation still looks as ever.
 */
export function wantsEnd(snapshot: Snapshot): boolean {
  const namespaceGoes = snapshot.cluster.namespace?.metadata.deletionTimestamp !== undefined;
  return isDeletingSnapshot(snapshot) || namespaceGoes || wasCancelled(snapshot);
}

/** By its owner's word in the spec, also in one that cannot be read otherwise; not by being deleted. */
export function wasCancelled(snapshot: Snapshot): boolean {
  const { cancel } = (snapshot.raw.spec ?? {}) as { cancel?: unknown };
  return !isDeletingSnapshot(snapshot) && cancel === true;
}

export function isDeletingSnapshot(snapshot: Snapshot): boolean {
  return snapshot.raw.metadata.deletionTimestamp !== undefined;
}

export function conditionOf(
  raw: RawEvaluation,
  type: string,
): { status: string; reason: string; lastTransitionTime: string } | undefined {
  return raw.status?.conditions?.find((condition) => condition.type === type);
}

export function isFinished(raw: RawEvaluation): boolean {
  return conditionOf(raw, 'Finished')?.status === 'True';
}
