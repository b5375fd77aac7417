import type { Logger } from 'pino';
import { sleep, type Clock } from './clock.ts';
import { errorFromStatus, KubeError } from './errors.ts';
import type { Limiter } from './limiter.ts';
import type { KubeMetrics } from './metrics.ts';
import { connectionError, pathOnly, type HttpRequest, type HttpResponse, type Transport } from './transport.ts';
import type { CallOptions } from './types.ts';

/** A request with what is needed to count it and to decide whether to send it again. */
export interface ApiRequest extends HttpRequest {
  verb: string;
  resource: string;
  /** Sending it twice has the effect of sending it once. */
  idempotent: boolean;
}

/** How long a call may take: a deadline, the caller's signal, and which of the two it was. */
export class CallScope {
  readonly #abort = new AbortController();
  readonly #clock: Clock;
  readonly #what: string;
  readonly #outer: AbortSignal | undefined;
  readonly #deadline: number;
  #cancelTimer: () => void = () => {};

  constructor(clock: Clock, what: string, timeoutMs: number | undefined, outer: AbortSignal | undefined) {
    this.#clock = clock;
    this.#what = what;
    this.#outer = outer;
    this.#deadline = clock.monotonic() + (timeoutMs ?? Infinity);
    this.#startTimer(timeoutMs, 'no answer within');
    if (outer?.aborted) this.#onOuterAbort();
    else outer?.addEventListener('abort', this.#onOuterAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get remainingMs(): number {
    return this.#deadline - this.#clock.monotonic();
  }

  /** The answer has begun, or its next piece has come: from here on only the caller's signal ends it. */
  stopTimer(): void {
    this.#cancelTimer();
    this.#cancelTimer = () => {};
  }

  /** The next piece must come within `silenceMs`; undefined: whenever it comes. */
  expectPiece(silenceMs: number | undefined): void {
    this.stopTimer();
    this.#startTimer(silenceMs, 'silent for');
  }

  abort(): void {
    this.#end('Aborted', 'cancelled');
  }

  /** Must be called in the end: the caller's signal may live as long as the process. */
  close(): void {
    this.stopTimer();
    this.#outer?.removeEventListener('abort', this.#onOuterAbort);
  }

  /** What to throw for an error that came up within this scope. */
  errorOf(error: unknown): KubeError {
    if (this.signal.aborted) return this.signal.reason as KubeError;
    return connectionError(error, this.#what);
  }

  #startTimer(ms: number | undefined, what: string): void {
    if (ms !== undefined) this.#cancelTimer = this.#clock.after(ms, () => this.#end('Timeout', `${what} ${ms} ms`));
  }

  readonly #onOuterAbort = (): void => this.#end('Aborted', 'aborted by the caller');

  #end(reason: string, message: string): void {
    this.#abort.abort(new KubeError({ code: 0, reason, message: `${this.#what}: ${message}` }));
  }
}

export interface CallerOptions {
  transport: Transport;
  limiter: Limiter;
  clock: Clock;
  logger?: Logger | undefined;
  metrics: KubeMetrics | undefined;
  timeoutMs: number;
  maxResponseBytes: number;
}

/** Throttled this often in one call, the caller's own backoff is the better place to wait. */
const MAX_THROTTLED = 5;
/** Of an error's body. */
const MAX_ERROR_BYTES = 64 * 1024;

/** Sends requests, with deadline, retries and limits. */
export class Caller {
  readonly #options: CallerOptions;

  constructor(options: CallerOptions) {
    this.#options = options;
  }

  /** A request whose whole answer is wanted. */
  async call(asked: ApiRequest, options: CallOptions = {}): Promise<string> {
    const request = options.token === undefined ? asked : signed(asked, options.token);
    const { clock, limiter } = this.#options;
    const scope = this.#scope(request, options.timeoutMs ?? this.#options.timeoutMs, options.signal);
    let release = (): void => {};
    try {
      if (!options.urgent) release = await limiter.acquire(scope.signal);
      const retries = new Retries(request);
      for (;;) {
        const startedAt = clock.monotonic();
        const answer = await this.#exchange(request, scope).catch((error: unknown) => scope.errorOf(error));
        const error = answer instanceof KubeError ? answer : undefined;
        this.#count(request, typeof answer === 'string' ? 200 : answer.code, startedAt);
        if (error === undefined) return answer as string;
        if (scope.signal.aborted || !(await this.#mayRetry(error, retries, scope))) throw error;
        this.#options.metrics?.requestRetries.inc({ verb: request.verb });
      }
    } catch (error) {
      throw error instanceof KubeError ? error : scope.errorOf(error);
    } finally {
      scope.close();
      release();
    }
  }

  /**
   * A request whose answer is read as it comes. `timeoutMs` counts until the headers, `silenceMs` while the reader waits
   * for a piece of the body; undefined waits for ever.
   */
  async open(
    request: ApiRequest,
    { timeoutMs, silenceMs, signal }: { timeoutMs?: number | undefined; silenceMs?: number | undefined; signal?: AbortSignal | undefined },
  ): Promise<ByteStream> {
    const scope = this.#scope(request, timeoutMs, signal);
    const startedAt = this.#options.clock.monotonic();
    try {
      let response = await this.#options.transport.send(request, scope.signal);
      if (response.status === 401) {
        await readBody(response, MAX_ERROR_BYTES);
        this.#options.transport.expireCredentials();
        response = await this.#options.transport.send(request, scope.signal);
      }
      this.#count(request, response.status, startedAt);
      if (response.status !== 200) throw await this.#error(request, response);
      scope.stopTimer();
      return new ByteStream(response.body, scope, silenceMs);
    } catch (error) {
      const mapped = scope.errorOf(error);
      if (mapped.code === 0) this.#count(request, 0, startedAt);
      scope.close();
      throw mapped;
    }
  }

  #scope(request: ApiRequest, timeoutMs: number | undefined, signal: AbortSignal | undefined): CallScope {
    return new CallScope(this.#options.clock, `${request.method} ${pathOnly(request.path)}`, timeoutMs, signal);
  }

  async #exchange(request: ApiRequest, scope: CallScope): Promise<string> {
    const response = await this.#options.transport.send(request, scope.signal);
    if (response.status < 200 || response.status > 299) throw await this.#error(request, response);
    return readBody(response, this.#options.maxResponseBytes);
  }

  async #error(request: ApiRequest, response: HttpResponse): Promise<KubeError> {
    const body = await readBody(response, MAX_ERROR_BYTES).catch(() => '');
    const retryAfter = parseRetryAfter(response.headers['retry-after'], this.#options.clock);
    const what = `${request.method} ${pathOnly(request.path)}`;
    const tell = (askedSeconds: number): void =>
      this.#options.logger?.warn({ request: what, code: response.status, askedSeconds }, 'the API server asks for a longer wait than is kept');
    return errorFromStatus(response.status, body, what, retryAfter, tell);
  }

  async #mayRetry(error: KubeError, retries: Retries, scope: CallScope): Promise<boolean> {
    const waitMs = retries.next(error);
    if (waitMs === undefined || waitMs >= scope.remainingMs) return false;
    if (error.code === 401) this.#options.transport.expireCredentials();
    if (waitMs > 0) await sleep(this.#options.clock, waitMs, scope.signal);
    if (scope.signal.aborted) throw scope.signal.reason;
    return true;
  }

  #count(request: ApiRequest, code: number, startedAt: number): void {
    const { metrics, clock } = this.#options;
    metrics?.requests.inc({ verb: request.verb, resource: request.resource, code: String(code) });
    metrics?.requestDuration.observe({ verb: request.verb }, (clock.monotonic() - startedAt) / 1000);
  }
}

function signed(request: ApiRequest, token: string): ApiRequest {
  return { ...request, headers: { ...request.headers, authorization: `Bearer ${token}` } };
}

/** Decides how long to wait before the same request goes out again; undefined: not again. */
class Retries {
  readonly #idempotent: boolean;
  #throttled = 0;
  #reauthenticated = false;
  #reconnected = false;

  constructor(request: ApiRequest) {
    this.#idempotent = request.idempotent;
  }

  next(error: KubeError): number | undefined {
    // Refused before it was looked at, so any method may try again, once, with fresh credentials.
    if (error.code === 401 && !this.#reauthenticated) {
      this.#reauthenticated = true;
      return 0;
    }
    if (!this.#idempotent) return undefined;
    if (
      (error.code === 429 || error.code === 503) &&
      error.retryAfterSeconds !== undefined &&
      this.#throttled < MAX_THROTTLED
    ) {
      this.#throttled += 1;
      return error.retryAfterSeconds * 1000;
    }
    // A kept connection that the server closed in the same moment; more than that is the caller's to back off from.
    if (error.reason === 'ConnectionFailed' && !this.#reconnected) {
      this.#reconnected = true;
      return 0;
    }
    return undefined;
  }
}

/** Bytes of an answer with back-pressure. Iterate once, or cancel. */
export class ByteStream implements AsyncIterable<Uint8Array> {
  readonly #body: HttpResponse['body'];
  readonly #scope: CallScope;
  readonly #silenceMs: number | undefined;

  constructor(body: HttpResponse['body'], scope: CallScope, silenceMs: number | undefined) {
    this.#body = body;
    this.#scope = scope;
    this.#silenceMs = silenceMs;
    body.once('close', () => scope.close());
  }

  cancel(): void {
    this.#scope.abort();
    this.#body.destroy();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      this.#scope.expectPiece(this.#silenceMs);
      for await (const chunk of this.#body) {
        // However long the reader takes: only the server's silence counts.
        this.#scope.stopTimer();
        yield chunk as Uint8Array;
        this.#scope.expectPiece(this.#silenceMs);
      }
      this.#scope.stopTimer();
      // An abort between the last chunk and the end is an abort: the reader cannot know that it has everything.
      if (this.#scope.signal.aborted) throw this.#scope.signal.reason;
    } catch (error) {
      throw this.#scope.errorOf(error);
    }
  }
}

async function readBody(response: HttpResponse, maxBytes: number): Promise<string> {
  // Most answers are short and say how long they are: those need not pass through a stream's iterator.
  if (Number(response.headers['content-length'] ?? Number.NaN) <= maxBytes) return await response.body.text();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body) {
    length += (chunk as Uint8Array).length;
    if (length > maxBytes) {
      throw new KubeError({
        code: response.status,
        reason: 'ResponseTooLarge',
        message: `answer larger than ${maxBytes} bytes`,
      });
    }
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks, length).toString('utf8');
}

/** Seconds, or a date: RFC 9110 allows both. */
export function parseRetryAfter(header: string | string[] | undefined, clock: Clock): number | undefined {
  const value = Array.isArray(header) ? header[0] : header;
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value.trim())) return Number(value);
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil((date - clock.now()) / 1000));
}
