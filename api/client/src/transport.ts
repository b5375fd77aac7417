import { ProblemError, UnreachableError, problemOf } from './errors.ts';
import { DEFAULT_PATIENCE, pause, pauseBefore, type Patience } from './patience.ts';
import { linked, unlessAborted } from './signals.ts';

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

export interface SendOptions {
  /** Besides the request's own, which Node.js forgets when it likes to. */
  readonly signal?: AbortSignal | undefined;
  /** False when asking again could do something twice. */
  readonly repeatable?: boolean | undefined;
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
  readonly send = async (request: Request, { signal, repeatable = true }: SendOptions = {}): Promise<Response> => {
    const giveUp = linked(signal, request.signal);
    try {
      return await this.#send(request, repeatable, giveUp.signal);
    } finally {
      giveUp.release();
    }
  };

  async #send(request: Request, repeatable: boolean, signal: AbortSignal): Promise<Response> {
    const begun = Date.now();
    for (let tries = 1; ; tries += 1) {
      let error: ProblemError | UnreachableError;
      try {
        return await this.#try(request, signal);
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
      this.#options.onWait?.({
        reason: error.message,
        status: error instanceof ProblemError ? error.status : undefined,
        seconds,
        elapsedSeconds,
        windowSeconds,
      });
      await pause(seconds, signal);
    }
  }

  async #try(request: Request, signal: AbortSignal): Promise<Response> {
    const { controller, release } = linked(signal);
    const silence = new UnreachableError(this.origin, new Error(`nothing came for ${ANSWER_SECONDS} s`));
    const timer = setTimeout(() => controller.abort(silence), ANSWER_SECONDS * 1000);
    try {
      return await unlessAborted(this.#fetch(request, controller.signal), controller.signal);
    } catch (error) {
      signal.throwIfAborted();
      // TypeError is what fetch throws for everything that happens on the network.
      throw error instanceof TypeError ? new UnreachableError(this.origin, error) : error;
    } finally {
      clearTimeout(timer);
      release();
    }
  }

  async #fetch(request: Request, signal: AbortSignal): Promise<Response> {
    const headers = await this.#headers(request);
    const fetch = this.#options.fetch ?? globalThis.fetch;
    // A clone: the body of a request can be sent once. Never along a redirect: the token is for this server alone.
    const response = await fetch(new Request(request.clone(), { headers, signal, redirect: 'error' }));
    this.#known = true;
    if (!response.ok) throw await problemOf(response);
    return await whole(response);
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
