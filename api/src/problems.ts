import { STATUS_CODES } from 'node:http';
import { isUnavailable } from '@crucible/storage';
import { KubeError } from '@crucible/operator/kube';

export interface ProblemDocument {
  type: string;
  title: string;
  status: number;
  detail: string;
  /** The request's id, which the log has too. */
  instance?: string | undefined;
  /** What is wrong with a body or a parameter, field by field. */
  errors?: { field: string; message: string }[] | undefined;
}

export interface ProblemOptions {
  headers?: Record<string, string>;
  errors?: ProblemDocument['errors'];
  cause?: unknown;
}

/** Throw it anywhere below a route: it becomes an RFC 9457 problem document. */
export class Problem extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly errors: ProblemDocument['errors'];

  constructor(status: number, detail: string, more: ProblemOptions = {}) {
    super(detail, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'Problem';
    this.status = status;
    this.headers = more.headers ?? {};
    this.errors = more.errors;
  }
}

export const problem = (status: number, detail: string): ProblemDocument => ({
  type: 'about:blank',
  title: STATUS_CODES[status] ?? 'Error',
  status,
  detail,
});

const RETRY_SECONDS = '2';
const UNAUTHORIZED =
  'this needs a bearer token of the cluster (Authorization: Bearer …) or a session; see docs/api.md for which tokens work';

export const unauthorized = (detail = UNAUTHORIZED): Problem =>
  new Problem(401, detail, { headers: { 'www-authenticate': 'Bearer realm="crucible"' } });
export const forbidden = (detail: string): Problem => new Problem(403, detail);
/** One sentence for what does not exist and for what the caller may not see: the two cannot be told apart. */
export const notFound = (what = 'evaluation'): Problem =>
  new Problem(404, `there is no such ${what}, or you may not see it`);
export const unavailable = (detail: string, seconds = RETRY_SECONDS): Problem =>
  new Problem(503, detail, { headers: { 'retry-after': seconds } });

/** What a caller is told of an error, whatever threw it; undefined: a defect of ours, which is for the log alone. */
export function toProblem(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  if (error instanceof KubeError) return fromKubernetes(error);
  if (isUnavailable(error)) return unavailable('the record (Postgres or the file store) does not answer; try again shortly');
  return undefined;
}

/** An answer of the API server to a call with the caller's own token. Its words are for the caller. */
function fromKubernetes(error: KubeError): Problem {
  // The client's own prefix ("POST /apis/…: 403 ") is no use to anyone here.
  const words = error.message.replace(/^[A-Z]+ \S+: (\d{3} ?)?/, '') || error.reason;
  if (error.code === 401) return unauthorized('the cluster no longer accepts this token');
  if ([400, 403, 409, 413].includes(error.code)) return new Problem(error.code, `the cluster refused it: ${words}`);
  if (error.code === 404) return notFound('object');
  if (error.code === 422) {
    const errors = error.causes.map(({ field = '', message = '' }) => ({ field, message: withoutValue(message) }));
    return new Problem(422, `the cluster refused it: ${words}`, errors.length > 0 ? { errors } : {});
  }
  if (error.code === 429) {
    const seconds = String(error.retryAfterSeconds ?? 1);
    return new Problem(429, 'the cluster is too busy; try again later', { headers: { 'retry-after': seconds } });
  }
  return unavailable('the cluster’s API server does not answer; try again shortly');
}

const withoutValue = (message: string): string => message.replace(/(Invalid value: )("(?:[^"\\]|\\.)*"|\{.*?\}(?=: ))/gs, '$1…');
