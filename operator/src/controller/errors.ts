/** Nothing to do until the object changes: not retried. */
export class StalledError extends Error {
  readonly reason: string;

  constructor(reason: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StalledError';
    this.reason = reason;
  }
}

/** Not an error in the end: something else has to happen first, look again after a delay. */
export class WaitingError extends Error {
  readonly afterSeconds: number;
  readonly reason: string;

  constructor(afterSeconds: number, reason: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'WaitingError';
    this.afterSeconds = afterSeconds;
    this.reason = reason;
  }
}

/** What the queue does with a key after its run; pure. */
export type Outcome =
  | { kind: 'done' }
  | { kind: 'after'; seconds: number }
  | { kind: 'stalled'; error: StalledError }
  | { kind: 'waiting'; seconds: number; error: WaitingError }
  | { kind: 'failed'; error: unknown; atLeastSeconds: number };

/** The one place where errors of a reconcile become decisions. */
export function outcomeOfError(error: unknown): Outcome {
  if (error instanceof StalledError) return { kind: 'stalled', error };
  if (error instanceof WaitingError) return { kind: 'waiting', seconds: Math.max(0, error.afterSeconds), error };
  // A throttling server said when to come back; the backoff may only be longer.
  const hint = error instanceof Error && 'retryAfterSeconds' in error ? error.retryAfterSeconds : undefined;
  return { kind: 'failed', error, atLeastSeconds: typeof hint === 'number' && hint > 0 ? hint : 0 };
}
