// What goes into and comes out of storage. Times are Date (UTC, millisecond precision), sizes are bytes, sequence
// numbers and epochs are plain numbers below 2^53. Nothing here depends on Postgres.

export type StreamName = 'stdout' | 'stderr';
export const STREAM_NAMES: readonly StreamName[] = ['stdout', 'stderr'];

/** An inclusive range of frame sequence numbers. */
export interface SeqRange {
  from: number;
  to: number;
}

/** The verdict as stored: what happened, whose fault it was, how sure we are, and why. */
export interface VerdictRecord {
  class: string;
  attributableTo?: string | undefined;
  confidence?: string | undefined;
  message?: string | undefined;
  evidence?: readonly unknown[] | undefined;
}

// ---------------------------------------------------------------------------------------------- evaluations

export interface AcceptedEvaluation {
  uid: string;
  namespace: string;
  /** UID of the namespace: one recreated under an old name inherits nothing. */
  namespaceUid: string;
  name: string;
  generation: number;
  /** Stored verbatim. */
  spec: object;
  labels?: Readonly<Record<string, string>>;
  /** metadata.creationTimestamp of the resource. */
  createdAt: Date;
  phase: string;
  /** The leader's lease epoch (leaseTransitions); a lower one than the row has seen is refused. */
  epoch: number;
}

export interface EvaluationRecord {
  uid: string;
  namespace: string;
  namespaceUid: string;
  name: string;
  generation: number;
  spec: object;
  labels: Record<string, string>;
  phase: string;
  verdict: VerdictRecord | null;
  passed: boolean | null;
  /** Why, both or neither. */
  passedReason: string | null;
  passedMessage: string | null;
  createdAt: Date;
  acceptedAt: Date;
  finishedAt: Date | null;
  acceptedAttempt: number | null;
  eventSeq: number;
  epoch: number;
}

/** What became of it so far, without what was asked for. */
export type EvaluationProgress = Omit<EvaluationRecord, 'spec' | 'labels'>;

export interface FinishEvaluation {
  uid: string;
  epoch: number;
  phase: string;
  verdict: VerdictRecord;
  /** null when the Evaluation has no `expect`, or was ended without being scored. */
  passed: boolean | null;
  /** Why it passed or did not; only with `passed`. */
  score?: { reason: string; message: string } | undefined;
  finishedAt: Date;
}

/** `already`: the row holds the same phase, verdict and passed. `conflict`: it holds another one, or a newer leader wrote it. */
export type FinishOutcome = 'finished' | 'already' | 'conflict';

// ---------------------------------------------------------------------------------------------- attempts

/** Whether its output is captured is said by the capture's state alone. */
export type AttemptState = 'created' | 'running' | 'finalized';

export interface NewAttempt {
  evaluationUid: string;
  /** From 1. */
  number: number;
  jobName: string;
  image: string;
  runtimeClass: string | null;
  /** What the code is allowed, with the defaults and limits of its runtime at that time. */
  timeoutSeconds?: number;
  /** Weaknesses of the sandbox that were accepted by name when it was made. */
  acceptedRisks?: readonly AcceptedRiskRecord[];
  /** What it is given from ConfigMaps. */
  inputs?: readonly InputRecord[];
  epoch: number;
}

/** A file from a ConfigMap, by what was in it at that time. */
export interface InputRecord {
  path: string;
  configMap: string;
  key: string;
  bytes: number;
  sha256: string;
}

export interface AcceptedRiskRecord {
  rules: readonly number[];
  reason: string;
}

export interface AttemptPod {
  podUid: string;
  podName: string;
  node: string | null;
  imageDigest?: string | null;
  startedAt?: Date | null;
}

export interface FinalAttempt {
  evaluationUid: string;
  number: number;
  epoch: number;
  /** null when no pod ever existed (refused, unschedulable); then none may have been recorded. */
  podUid: string | null;
  startedAt: Date | null;
  finishedAt: Date | null;
  exitCode: number | null;
  signal: string | null;
  verdict: VerdictRecord;
  /** What is known of its containment; null when its code never ran. */
  receipt?: object | null;
}

/** `already`: finalized before with the same pod, exit code, signal and verdict. `conflict`: other content, another pod, or a newer leader. */
export type FinalizeOutcome = 'finalized' | 'already' | 'conflict';

/** `already`: this attempt was accepted before. `conflict`: another one was, or a newer leader wrote the row. */
export type AcceptOutcome = 'accepted' | 'already' | 'conflict';

export interface AttemptRecord {
  evaluationUid: string;
  number: number;
  jobName: string;
  jobUid: string | null;
  podName: string | null;
  podUid: string | null;
  node: string | null;
  runtimeClass: string | null;
  image: string;
  imageDigest: string | null;
  /** null in rows from before it was recorded. */
  timeoutSeconds: number | null;
  /** The verdict with which its start was given up, before the pod was ended; it may have started all the same. */
  ending: VerdictRecord | null;
  acceptedRisks: readonly AcceptedRiskRecord[] | null;
  inputs: readonly InputRecord[] | null;
  state: AttemptState;
  epoch: number;
  createdAt: Date;
  startedAt: Date | null;
  finishedAt: Date | null;
  finalizedAt: Date | null;
  exitCode: number | null;
  signal: string | null;
  verdict: VerdictRecord | null;
  /** null until it is finalized, when its code never ran, and in rows from before it was recorded. */
  receipt: unknown;
}

/** What the recorder may know of an attempt: enough to trust a pod, no verdict and no code. */
export interface AttemptIdentity {
  evaluationUid: string;
  number: number;
  namespace: string;
  name: string;
  jobName: string;
  jobUid: string;
  podUid: string | null;
  state: AttemptState;
}

// ---------------------------------------------------------------------------------------------- captures

export interface CaptureKey {
  evaluationUid: string;
  attempt: number;
}

export interface BeginCapture extends CaptureKey {
  podUid: string;
  /** Which recorder replica; informational (the compare-and-set on lastSeq decides). */
  recorder: string;
}

export interface CapturePosition {
  /** The highest frame sequence number that has been stored or declared missing; 0 at the start. */
  lastSeq: number;
  /** Sequence numbers ≤ lastSeq that were declared missing and have not been filled. */
  missing: SeqRange[];
  /** Stored so far. */
  streams: Record<StreamName, { bytes: number; lines: number }>;
}

export type BeginOutcome =
  | { outcome: 'begun' | 'resumed'; position: CapturePosition }
  /** Nothing left to do. */
  | { outcome: 'captured'; position: CapturePosition }
  /** The attempt belongs to another pod: this one's output must not be stored under it. */
  | { outcome: 'foreignPod' }
  /** No such attempt (yet): retry for some seconds. */
  | { outcome: 'unknownAttempt' };

export interface OutputChunk {
  stream: StreamName;
  /** Sequence numbers of the first and the last frame in it. A chunk does not reach across missing ones. */
  firstSeq: number;
  lastSeq: number;
  /** 1 to 65536 bytes, any values. */
  data: Uint8Array;
  /** Lines that end in this chunk. */
  lines: number;
}

export interface AppendChunks extends CaptureKey {
  podUid: string;
  recorder: string;
  /** The lastSeq that this batch continues; compare-and-set. */
  afterSeq: number;
  /** The lastSeq after it: also counts frames that are no output (artifacts, receipt, summary). */
  lastSeq: number;
  /** Sequence numbers in (afterSeq, lastSeq] that are known to be lost. */
  missing?: readonly SeqRange[];
  /** Ascending by firstSeq within each stream; may be empty. */
  chunks: readonly OutputChunk[];
}

/** `stale`: someone else advanced it: continue from the position. `captured`: finished, nothing more is taken. */
export interface AppendOutcome {
  outcome: 'appended' | 'stale' | 'captured';
  position: CapturePosition;
}

export interface Reconcile extends CaptureKey {
  podUid: string;
  recorder: string;
  /** Ranges, each inside a stored missing range, that the final read did contain. */
  found: readonly SeqRange[];
  /** Their output; every chunk lies inside one of `found`. */
  chunks: readonly OutputChunk[];
}

/** A hole in one stream: `afterByte` is where in the stored bytes it lies. */
export interface StreamGap {
  fromSeq: number;
  toSeq: number;
  afterByte: number;
}

export interface StreamLedgerInput {
  /** What the recorder counted; compared with what is stored. */
  bytes: number;
  lines: number;
  gaps: readonly StreamGap[];
  truncated: boolean;
  complete: boolean;
  /** Bytes the program wrote according to the launcher's summary (advisory), null when unknown. */
  producedBytes?: number | null;
  /** Compared with what is stored when given; else computed from it. */
  sha256?: string;
}

export interface StreamLedger {
  stream: StreamName;
  bytes: number;
  lines: number;
  gaps: StreamGap[];
  truncated: boolean;
  complete: boolean;
  producedBytes: number | null;
  /** Hex, of the stored bytes; null until captured. */
  sha256: string | null;
}

export interface ArtifactInput {
  /** Position in the launcher's list, from 0. */
  index: number;
  /** Hostile data, never a path to open. NUL and lone surrogates are stored as visible escapes. */
  path: string;
  size: number;
  /** Hex, of content in the file store; null when refused or incomplete. */
  sha256: string | null;
  complete: boolean;
  refused?: string | null;
  mode?: number | null;
}

export interface ArtifactRecord {
  evaluationUid: string;
  attempt: number;
  index: number;
  path: string;
  size: number;
  sha256: string | null;
  complete: boolean;
  refused: string | null;
  mode: number | null;
}

export interface FinishCapture extends CaptureKey {
  podUid: string;
  recorder: string;
  /** Compare-and-set, as in append. */
  lastSeq: number;
  streams: Record<StreamName, StreamLedgerInput>;
  artifacts: readonly ArtifactInput[];
  /** false when the launcher's final artifact frame never came. */
  artifactsComplete: boolean;
  /** The launcher's own summary and receipt: advisory, written by the sandbox. */
  summary: unknown;
  receipt: unknown;
  /** Everything that the sandbox emitted is stored. */
  complete: boolean;
  /** Why not, as a CamelCase reason; null when complete. */
  reason: string | null;
}

export interface FinishCaptureOutcome {
  outcome: 'captured' | 'already' | 'stale';
  position: CapturePosition;
}

export interface CaptureRecord extends CaptureKey {
  podUid: string;
  recorder: string;
  state: 'following' | 'captured';
  lastSeq: number;
  missing: SeqRange[];
  startedAt: Date;
  capturedAt: Date | null;
  complete: boolean | null;
  reason: string | null;
  summary: unknown;
  receipt: unknown;
  streams: Record<StreamName, StreamLedger>;
  artifacts: { count: number; bytes: number; refused: number; complete: boolean };
}

export interface FollowingCapture extends CaptureKey {
  podUid: string;
  namespace: string;
  name: string;
  lastSeq: number;
  startedAt: Date;
  /** Its attempt is judged: nobody waits for what it still stores. */
  finalized: boolean;
}

export interface OutputSlice {
  /** Offset of the first byte of `data` in the stream. */
  offset: number;
  data: Buffer;
  /** Stored bytes of the whole stream at this moment; grows while following. */
  totalBytes: number;
}

// ---------------------------------------------------------------------------------------------- events

export interface NewEvent {
  /** Dotted lower camel case, e.g. `evaluation.accepted`. */
  type: string;
  data?: object;
}

export interface EventRecord {
  evaluationUid: string;
  /** From 1, without gaps, per evaluation. */
  seq: number;
  type: string;
  data: Record<string, unknown>;
  at: Date;
  /** Global position, given by the relay when it publishes; null before. */
  position: number | null;
}

/** Types that storage itself writes with the change they tell of. */
export const EVENT_TYPES = {
  evaluationAccepted: 'evaluation.accepted',
  evaluationPhase: 'evaluation.phase',
  evaluationFinished: 'evaluation.finished',
  attemptCreated: 'attempt.created',
  attemptStarted: 'attempt.started',
  attemptFinalized: 'attempt.finalized',
  attemptAccepted: 'attempt.accepted',
  captureFinished: 'capture.finished',
} as const;

/** Payload: `<namespace>/<name>`. */
export const CAPTURED_CHANNEL = 'crucible_captured';
/** Payload: `<evaluation uid>`. */
export const EVENTS_CHANNEL = 'crucible_events';
/** Payload: the highest position that was given: every event up to it can be read. */
export const POSITIONS_CHANNEL = 'crucible_positions';

export type SchemaState = 'ok' | 'behind' | 'ahead';
