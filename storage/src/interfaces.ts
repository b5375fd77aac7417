import type * as t from './types.ts';

/** Something that runs statements: the pool, or one transaction. */
export interface Queryable {
  query<R extends object = Record<string, unknown>>(
    text: string,
    values?: readonly unknown[],
  ): Promise<{ rows: R[]; rowCount: number }>;
}

/** Handed to the callback of Database.transaction(). Pass it to repository methods to make them part of it. */
export interface Transaction extends Queryable {
  readonly transaction: true;
}

export interface Database extends Queryable {
  /** One transaction; deadlocks are repeated. Throws UnavailableError, ConflictError, … and what `work` throws. */
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
  listen(channel: string, onSignal: (signal: ListenSignal) => void): Listener;
  close(): Promise<void>;
}

/** `connected` comes once after the first connect and every reconnect: look at everything, something may be missed. */
export type ListenSignal = { type: 'connected' } | { type: 'notification'; payload: string };

export interface Listener {
  close(): Promise<void>;
}

export interface EvaluationRepository {
  upsertAccepted(input: t.AcceptedEvaluation, tx?: Transaction): Promise<{ created: boolean }>;
  setPhase(input: { uid: string; phase: string; epoch: number }, tx?: Transaction): Promise<{ changed: boolean }>;
  finish(input: t.FinishEvaluation, tx?: Transaction): Promise<t.FinishOutcome>;
  get(uid: string, tx?: Transaction): Promise<t.EvaluationRecord | undefined>;
  /** The newest one of that name. */
  findByName(namespace: string, name: string): Promise<t.EvaluationRecord | undefined>;
  /** By uid, ascending, for janitors: pages of `limit` after `after`. */
  listUnfinished(options?: { after?: string; limit?: number }): Promise<t.EvaluationRecord[]>;
}

export interface AttemptRepository {
  create(input: t.NewAttempt, tx?: Transaction): Promise<{ created: boolean; attempt: t.AttemptRecord }>;
  setJob(input: { evaluationUid: string; number: number; jobUid: string; epoch: number }, tx?: Transaction): Promise<void>;
  setPod(input: { evaluationUid: string; number: number; epoch: number } & t.AttemptPod, tx?: Transaction): Promise<void>;
  finalize(input: t.FinalAttempt, tx?: Transaction): Promise<t.FinalizeOutcome>;
  accept(input: { evaluationUid: string; number: number; epoch: number }, tx?: Transaction): Promise<t.AcceptOutcome>;
  get(evaluationUid: string, number: number): Promise<t.AttemptRecord | undefined>;
  list(evaluationUid: string): Promise<t.AttemptRecord[]>;
  findByJobUid(jobUid: string): Promise<t.AttemptIdentity | undefined>;
}

export interface CaptureRepository {
  begin(input: t.BeginCapture): Promise<t.BeginOutcome>;
  append(input: t.AppendChunks): Promise<t.AppendOutcome>;
  reconcile(input: t.Reconcile): Promise<t.AppendOutcome>;
  finish(input: t.FinishCapture): Promise<t.FinishCaptureOutcome>;
  get(evaluationUid: string, attempt: number): Promise<t.CaptureRecord | undefined>;
  listFollowing(options?: { after?: t.CaptureKey; limit?: number }): Promise<t.FollowingCapture[]>;
  readOutput(
    evaluationUid: string,
    attempt: number,
    stream: t.StreamName,
    range?: { offset?: number; length?: number },
  ): Promise<t.OutputSlice>;
  readTail(evaluationUid: string, attempt: number, stream: t.StreamName, maxBytes: number): Promise<t.OutputSlice>;
}

export interface ArtifactRepository {
  list(evaluationUid: string, attempt: number): Promise<t.ArtifactRecord[]>;
  get(evaluationUid: string, attempt: number, index: number): Promise<t.ArtifactRecord | undefined>;
}

export interface EventRepository {
  append(tx: Transaction, evaluationUid: string, event: t.NewEvent): Promise<number>;
  list(evaluationUid: string, options?: { after?: number; limit?: number }): Promise<t.EventRecord[]>;
}

export interface FileStore {
  put(content: Uint8Array | AsyncIterable<Uint8Array>, options?: { sha256?: string }): Promise<{ sha256: string; size: number }>;
  /** The whole content, verified. Throws NotFoundError, IntegrityError, LimitError. */
  read(sha256: string): Promise<Buffer>;
  /** In pieces; throws IntegrityError at the end when the bytes do not match the name. */
  stream(sha256: string): AsyncIterable<Buffer>;
  stat(sha256: string): Promise<{ size: number; modifiedAt: Date } | undefined>;
  has(sha256: string): Promise<boolean>;
  delete(sha256: string): Promise<boolean>;
  list(): AsyncIterable<{ sha256: string; size: number; modifiedAt: Date }>;
}
