import { ProblemError, UnreachableError } from './errors.ts';

// When to ask again, and when to give up: pure, so that every case can be looked at.

export interface Patience {
  /** How long 503, and a server that has gone away, are waited out. */
  readonly startupWindowSeconds: number;
  /** How long a server is waited for that has never answered: it may just as well be a wrong address. */
  readonly connectWindowSeconds: number;
}

export const DEFAULT_PATIENCE: Patience = { startupWindowSeconds: 120, connectWindowSeconds: 10 };

const FIRST_PAUSE_SECONDS = 0.5;
const LONGEST_PAUSE_SECONDS = 5;

/** Time does not mend these: names that do not exist, certificates that are not trusted, addresses that are none. */
const HOPELESS =
  /^(ENOTFOUND|ERR_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT|UNABLE_TO_|CERT_|HOSTNAME_MISMATCH|INVALID_CA|EPROTO|EACCES)/;

export interface Trouble {
  readonly error: ProblemError | UnreachableError;
  /** How many times this request has been tried. */
  readonly tries: number;
  readonly elapsedSeconds: number;
  /** Whether the server has answered anything before. */
  readonly known: boolean;
  /** False when asking again could do something twice. */
  readonly repeatable: boolean;
}

/** Seconds to wait before the next try; undefined: give up. */
export function pauseBefore(
  { error, tries, elapsedSeconds, known, repeatable }: Trouble,
  patience: Patience,
): number | undefined {
  const pause = Math.min(FIRST_PAUSE_SECONDS * 2 ** (tries - 1), LONGEST_PAUSE_SECONDS);
  if (error instanceof UnreachableError) {
    if (!repeatable || HOPELESS.test(error.code ?? '')) return undefined;
    return within(pause, elapsedSeconds, known ? patience.startupWindowSeconds : patience.connectWindowSeconds);
  }
  // Refused before anything was done: safe to repeat, whatever it is.
  if (error.status === 429)
    return within(error.retryAfterSeconds ?? pause, elapsedSeconds, patience.startupWindowSeconds);
  if (error.status === 503 && repeatable)
    return within(error.retryAfterSeconds ?? pause, elapsedSeconds, patience.startupWindowSeconds);
  return undefined;
}

/** Not beyond the window: what the server asks for is honoured, or not waited for at all. */
const within = (seconds: number, elapsed: number, window: number): number | undefined =>
  elapsed + seconds <= window ? seconds : undefined;

/** Resolves after a while; rejects with the signal's reason as soon as it aborts. */
export function pause(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const aborted = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', aborted);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener('abort', aborted, { once: true });
  });
}
