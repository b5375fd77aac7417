import { createSecureContext } from 'node:tls';
import type { Logger } from 'pino';
import { Agent, type Dispatcher } from 'undici';
import type { Clock } from './clock.ts';
import { KubeError } from './errors.ts';
import type { ClusterAccess, Credentials, TlsMaterial } from './types.ts';

export interface HttpRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With its query, without the server's own path prefix. */
  path: string;
  headers?: Record<string, string>;
  body?: string;
}

export interface HttpResponse {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Dispatcher.ResponseData['body'];
}

export interface TransportOptions {
  access: ClusterAccess;
  logger: Logger;
  clock: Clock;
  userAgent: string;
}

/** As often as client-go looks at token and certificate files; a bound token is replaced long before it ends. */
const CREDENTIALS_MS = 60_000;
/** Before trying to read credentials again that could not be read. */
const CREDENTIALS_RETRY_MS = 10_000;
/** Below the API server's own 90 s (apiserver `IdleTimeout`), so that no request meets a connection being closed. */
const KEEP_ALIVE_MS = 60_000;
/** Half-open connections are noticed by the kernel after this and some probes; the same as client-go. */
const TCP_PROBE_DELAY_MS = 30_000;
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * The one HTTP dispatcher of the process. client-node builds a new one for every call, which costs a TLS handshake each
 * time; here connections are kept, and a new dispatcher is made only when certificates change.
 */
export class Transport {
  readonly #options: TransportOptions;
  readonly #origin: string;
  readonly #prefix: string;
  #agent: Agent | undefined;
  #tls = '';
  #credentials: Credentials | undefined;
  #dueAt = -Infinity;
  #loading: Promise<void> | undefined;
  #closed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
    const url = new URL(options.access.server);
    this.#origin = url.origin;
    this.#prefix = url.pathname.replace(/\/+$/, '');
  }

  /** One exchange. Rejects with KubeError, or with the signal's reason. */
  async send(request: HttpRequest, signal: AbortSignal): Promise<HttpResponse> {
    signal.throwIfAborted();
    await this.#refresh();
    signal.throwIfAborted();
    const agent = this.#agent;
    if (agent === undefined || this.#closed)
      throw new KubeError({ code: 0, reason: 'Aborted', message: 'client is closed' });
    try {
      const response = await agent.request({
        origin: this.#origin,
        path: this.#prefix + request.path,
        method: request.method,
        headers: {
          accept: 'application/json',
          'user-agent': this.#options.userAgent,
          ...request.headers,
          ...this.#credentials?.headers,
        },
        body: request.body ?? null,
        signal,
        // The caller's deadline counts. undici's own 300 s would cut watches and logs that are merely silent.
        headersTimeout: 0,
        bodyTimeout: 0,
      });
      // A socket that drops while nobody reads must not become an uncaught error event; readers see the error anyway.
      response.body.on('error', () => {});
      return { status: response.statusCode, headers: response.headers, body: response.body };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw connectionError(error, `${request.method} ${pathOnly(request.path)}`);
    }
  }

  /** The server refused our credentials: read them again before the next request. */
  expireCredentials(): void {
    this.#dueAt = -Infinity;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#agent?.destroy();
  }

  async #refresh(): Promise<void> {
    if (this.#options.clock.monotonic() < this.#dueAt) return;
    this.#loading ??= this.#load().finally(() => {
      this.#loading = undefined;
    });
    await this.#loading;
  }

  async #load(): Promise<void> {
    const { access, clock, logger } = this.#options;
    try {
      const credentials = await access.load();
      this.#useTls(credentials.tls);
      this.#credentials = credentials;
      this.#dueAt = clock.monotonic() + CREDENTIALS_MS;
    } catch (error) {
      if (this.#credentials === undefined) throw error instanceof KubeError ? error : authenticationError(error);
      // The kubelet replaces files by switching a symlink: what cannot be read now can be in a moment.
      logger.warn(
        { reason: (error as NodeJS.ErrnoException).code ?? 'unknown' },
        'credentials could not be read again',
      );
      this.#dueAt = clock.monotonic() + CREDENTIALS_RETRY_MS;
    }
  }

  #useTls(tls: TlsMaterial): void {
    const defined = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
    const fingerprint = JSON.stringify(defined);
    if (this.#agent !== undefined && fingerprint === this.#tls) return;
    const old = this.#agent;
    this.#tls = fingerprint;
    this.#agent = new Agent({
      // HTTP/1.1: one connection for each watch, so that a stuck one cannot hold up the others.
      allowH2: false,
      connections: null,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      connect: {
        ...defined,
        // Once for all connections: else each parses the certificates anew, and keeps them.
        secureContext: createSecureContext(defined),
        timeout: CONNECT_TIMEOUT_MS,
        keepAlive: true,
        keepAliveInitialDelay: TCP_PROBE_DELAY_MS,
      },
    });
    // Lets what is under way finish: a watch ends by itself within its timeoutSeconds.
    void old?.close();
  }
}

export function pathOnly(path: string): string {
  const query = path.indexOf('?');
  return query < 0 ? path : path.slice(0, query);
}

export function connectionError(error: unknown, what: string): KubeError {
  if (error instanceof KubeError) return error;
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  const message = error instanceof Error ? error.message : String(error);
  // An AggregateError of several addresses has no message of its own.
  return new KubeError({
    code: 0,
    reason: 'ConnectionFailed',
    message: `${what}: ${message || code || 'connection failed'}`,
    cause: error,
  });
}

function authenticationError(error: unknown): KubeError {
  const { code, path } = error as NodeJS.ErrnoException;
  return new KubeError({
    code: 0,
    reason: 'AuthenticationFailed',
    message: `credentials cannot be loaded${code ? `: ${code} ${path ?? ''}`.trimEnd() : ''}`,
  });
}
