/** Reasons of our own, beside those of the API server's Status (`NotFound`, `AlreadyExists`, `Conflict`, …). */
export type LocalReason =
  'ConnectionFailed' | 'Timeout' | 'Aborted' | 'ResponseTooLarge' | 'InvalidResponse' | 'AuthenticationFailed';

export interface KubeErrorInit {
  /** HTTP status, or 0 when there was no answer: a write may then have happened or not. */
  code: number;
  reason: string;
  message: string;
  retryAfterSeconds?: number | undefined;
  causes?: StatusCause[] | undefined;
  cause?: unknown;
}

export interface StatusCause {
  reason?: string;
  message?: string;
  field?: string;
}

/** The one error that leaves `operator/src/kube`. It never carries request headers or bodies. */
export class KubeError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly retryAfterSeconds: number | undefined;
  readonly causes: readonly StatusCause[];

  constructor(init: KubeErrorInit) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    this.name = 'KubeError';
    this.code = init.code;
    this.reason = init.reason;
    this.retryAfterSeconds = init.retryAfterSeconds;
    this.causes = init.causes ?? [];
  }
}

function has(error: unknown, code: number, ...reasons: string[]): boolean {
  return error instanceof KubeError && error.code === code && (reasons.length === 0 || reasons.includes(error.reason));
}

export const isNotFound = (error: unknown): boolean => has(error, 404);
export const isAlreadyExists = (error: unknown): boolean => has(error, 409, 'AlreadyExists');
/** A stale resourceVersion, a failed precondition, or a field owned by another manager. Not AlreadyExists. */
export const isConflict = (error: unknown): boolean => has(error, 409) && !isAlreadyExists(error);
/** The resourceVersion or continue token is too old. */
export const isGone = (error: unknown): boolean => has(error, 410);
export const isForbidden = (error: unknown): boolean => has(error, 403);
export const isInvalid = (error: unknown): boolean => has(error, 422);
export const isAborted = (error: unknown): boolean => error instanceof KubeError && error.reason === 'Aborted';

/** The quota plug-in has no reason of its own: its wording is all there is ("exceeded quota"). */
export const isQuotaExceeded = (error: unknown): boolean =>
  isForbidden(error) && /exceeded quota|failed quota/.test((error as KubeError).message);

export const isNamespaceTerminating = (error: unknown): boolean =>
  isForbidden(error) && (error as KubeError).causes.some((cause) => cause.reason === 'NamespaceTerminating');

/** Worth trying again unchanged: no answer, throttled, or the server's own fault. */
export const isTransient = (error: unknown): boolean =>
  error instanceof KubeError && (error.code === 0 ? !isAborted(error) : error.code === 429 || error.code >= 500);

/** A server, or what stands before it, may say a day: whoever asks again after this long harms nobody. */
export const MAX_RETRY_AFTER_SECONDS = 60;

/**
 * Builds the error of an HTTP answer from its body, which is a Status object unless something in between answered. `onLong` hears of
 * a wait that is too long to be kept.
 */
export function errorFromStatus(
  code: number,
  body: string,
  what: string,
  retryAfterSeconds?: number,
  onLong?: (askedSeconds: number) => void,
): KubeError {
  const status = parseStatus(body);
  const asked = retryAfterSeconds ?? status?.details?.retryAfterSeconds;
  if (asked !== undefined && asked > MAX_RETRY_AFTER_SECONDS) onLong?.(asked);
  const detail = withoutValues(status?.message ?? body.slice(0, MAX_MESSAGE));
  return new KubeError({
    code,
    reason: status?.reason ?? REASONS[code] ?? 'Unknown',
    message: `${what}: ${code}${detail ? ` ${detail.slice(0, MAX_MESSAGE)}` : ''}`,
    retryAfterSeconds: asked === undefined ? undefined : Math.min(asked, MAX_RETRY_AFTER_SECONDS),
    causes: status?.details?.causes,
  });
}

const MAX_MESSAGE = 2048;

/** A refused object is quoted back at us, and messages end up in logs: users' values must not. */
function withoutValues(message: string): string {
  return message.replace(/(Invalid value: )("(?:[^"\\]|\\.)*"|\{.*?\}(?=: ))/gs, '$1…');
}

const REASONS: Record<number, string> = {
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  410: 'Expired',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

interface Status {
  message?: string;
  reason?: string;
  details?: { retryAfterSeconds?: number; causes?: StatusCause[] };
}

function parseStatus(body: string): Status | undefined {
  try {
    const value = JSON.parse(body) as { kind?: unknown } & Status;
    return value !== null && typeof value === 'object' && value.kind === 'Status' ? value : undefined;
  } catch {
    return undefined;
  }
}
