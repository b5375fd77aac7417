import type { components } from './contract.ts';

export type ProblemDocument = components['schemas']['Problem'];

/** What the API answered instead of what was asked for: an RFC 9457 problem document, as an error. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';
  /** The HTTP status, to tell them apart: 401, 403, 404, 409, … */
  readonly status: number;
  readonly problem: ProblemDocument;
  /** How long the API asks to be left alone. */
  readonly retryAfterSeconds: number | undefined;

  constructor(problem: ProblemDocument, retryAfterSeconds?: number) {
    super(problem.detail);
    this.status = problem.status;
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** The request's id, which the API's log has too. */
  get requestId(): string | undefined {
    return this.problem.instance;
  }
}

/** No answer came: nothing listens there, the name is not known, its certificate is not trusted, the connection broke. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError';
  /** As Node.js calls it (ECONNREFUSED, CERT_HAS_EXPIRED, …); browsers do not tell. */
  readonly code: string | undefined;

  constructor(origin: string, cause: unknown) {
    const { code, message } = innermost(cause);
    super(`no answer from ${origin}: ${message}`, { cause });
    this.code = code;
  }
}

/** Whether an answer of the API or something else on the way; a proxy's HTML page becomes a problem as well. */
export async function problemOf(response: Response): Promise<ProblemError> {
  const text = await response.text().catch(() => '');
  return new ProblemError(
    parseProblem(text) ?? unknownProblem(response),
    retryAfterSeconds(response.headers.get('retry-after'), Date.now()),
  );
}

function parseProblem(text: string): ProblemDocument | undefined {
  try {
    const value = JSON.parse(text) as Partial<ProblemDocument> | null;
    return typeof value?.status === 'number' && typeof value.detail === 'string'
      ? (value as ProblemDocument)
      : undefined;
  } catch {
    return undefined;
  }
}

function unknownProblem({ status, statusText, url }: Response): ProblemDocument {
  const title = statusText === '' ? `HTTP status ${status}` : statusText;
  return {
    type: 'about:blank',
    title,
    status,
    detail: `${new URL(url).origin} answered ${status} and no problem document: is this Crucible’s API?`,
  };
}

/** RFC 9110: seconds, or a date. Undefined when there is none, or none that can be read. */
export function retryAfterSeconds(header: string | null, now: number): number | undefined {
  if (header === null) return undefined;
  if (/^\d{1,9}$/.test(header.trim())) return Number(header);
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil((date - now) / 1000));
}

/** fetch hides what went wrong in causes, and Node.js hides it once more when it tried several addresses. */
function innermost(error: unknown): { code: string | undefined; message: string } {
  let found = error as { code?: unknown; message?: unknown; cause?: unknown; errors?: unknown[] } | undefined;
  for (let depth = 0; depth < 5; depth += 1) {
    const inner = found?.cause ?? found?.errors?.[0];
    if (inner === undefined) break;
    found = inner as typeof found;
  }
  const { code, message } = found ?? {};
  return {
    code: typeof code === 'string' ? code : undefined,
    message: typeof message === 'string' && message !== '' ? message : String(code ?? error),
  };
}
