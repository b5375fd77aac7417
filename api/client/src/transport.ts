import { ProblemError, UnreachableError, problemOf } from './errors.ts';
import { DEFAULT_PATIENCE, pause, pauseBefore, type Patience } from './patience.ts';

/** What is being waited for, for people to see. */
export interface Waiting {
  /** A sentence of the API, or of the network. */
  readonly reason: string;
  readonly status: number | undefined;
  /** Until the next try. */
  readonly seconds: number;
  /** Since this request was first tried. */
  readonly elapsedSeconds: number;
  readonly windowSeconds: number;
}

export interface TransportOptions {
  /** Of the API: https://crucible.example.com */
  readonly baseUrl: string;
  /** A bearer token, asked for before every request, so that it may be renewed. Browsers have a session instead. */
  readonly token?: (() => string | Promise<string>) | undefined;
  /** More headers, for instance x-csrf-token of a browser’s session. */
  readonly headers?: (() => Readonly<Record<string, string>>) | undefined;
  readonly fetch?: ((request: Request) => Promise<Response>) | undefined;
  readonly patience?: Partial<Patience> | undefined;
  /** Called before each wait. */
  readonly onWait?: ((waiting: Waiting) => void) | undefined;
}

/** Until the beginning of an answer. */
const ANSWER_SECONDS = 60;

/** Sends requests until there is an answer that is worth having: waits while the API starts, and as long as it asks for. */
export class Transport {
  readonly origin: string;
  readonly baseUrl: string;
  readonly #options: TransportOptions;
  readonly #patience: Patience;
  #known = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#patience = { ...DEFAULT_PATIENCE, ...options.patience };
    this.baseUrl = options.baseUrl.replace(/\/+$/, '');
    this.origin = new URL(options.baseUrl).origin;
  }

  /** A successful answer. Throws ProblemError, UnreachableError, or what the request's signal was aborted with. */
  readonly send = async (request: Request, repeatable = true): Promise<Response> => {
    const begun = Date.now();
    for (let tries = 1; ; tries += 1) {
      let error: ProblemError | UnreachableError;
      try {
        return await this.#try(request);
      } catch (thrown) {
        if (!(thrown instanceof ProblemError || thrown instanceof UnreachableError)) throw thrown;
        error = thrown;
      }
      const elapsedSeconds = (Date.now() - begun) / 1000;
      const known = this.#known;
      const seconds = pauseBefore({ error, tries, elapsedSeconds, known, repeatable }, this.#patience);
      if (seconds === undefined) throw error;
      const { startupWindowSeconds, connectWindowSeconds } = this.#patience;
      const windowSeconds = error instanceof UnreachableError && !known ? connectWindowSeconds : startupWindowSeconds;
      this.#options.onWait?.({ reason: error.message, status: error instanceof ProblemError ? error.status : undefined, seconds, elapsedSeconds, windowSeconds });
      await pause(seconds, request.signal);
    }
  };

  async #try(request: Request): Promise<Response> {
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(new Error(`nothing came for ${ANSWER_SECONDS} s`)), ANSWER_SECONDS * 1000);
    const signal = AbortSignal.any([request.signal, patience.signal]);
    const fetch = this.#options.fetch ?? globalThis.fetch;
    try {
      const headers = await this.#headers(request);
      // A clone: the body of a request can be sent once. Never along a redirect: the token is for this server alone.
      const response = await fetch(new Request(request.clone(), { headers, signal, redirect: 'error' }));
      this.#known = true;
      if (!response.ok) throw await problemOf(response);
      return await whole(response);
    } catch (error) {
      if (request.signal.aborted) throw request.signal.reason;
      // TypeError is what fetch throws for everything that happens on the network.
      if (patience.signal.aborted) throw new UnreachableError(this.origin, patience.signal.reason);
      throw error instanceof TypeError ? new UnreachableError(this.origin, error) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #headers(request: Request): Promise<Headers> {
    const headers = new Headers(request.headers);
    for (const [name, value] of Object.entries(this.#options.headers?.() ?? {})) headers.set(name, value);
    const token = await this.#options.token?.();
    if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
    return headers;
  }
}

/** A connection that breaks within a document is tried again like one that broke before it; what is long is streamed. */
async function whole(response: Response): Promise<Response> {
  if (!/^application\/(problem\+)?json\b/.test(response.headers.get('content-type') ?? '')) return response;
  const { status, headers } = response;
  return new Response(await response.arrayBuffer(), { status, headers });
}
