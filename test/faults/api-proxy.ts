import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Agent, createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

// In front of a real API server, for tests only. Rules see every call and decide what becomes of it.

export interface Call {
  /** Of mutating calls, from 1; Leases are not counted, because how often they are renewed is a matter of time. */
  readonly number: number | undefined;
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  /** With its query. */
  readonly url: string;
  readonly query: URLSearchParams;
  readonly mutating: boolean;
  readonly watch: boolean;
  /** `evaluations/status`, `pods`, `pods/log`… */
  readonly resource: string;
}

/**
 * What becomes of a call; `reached` says whether it gets to the API server first (then the write is done).
 * `answer`: an error instead of the real answer. `cut`: the connection breaks. `withhold`: it stays open without a word.
 * `twice`: the same request is sent again, and the second answer counts. `stale`: an answer of another time. `act` runs
 * before all that, or with `reached` between the write and the answer.
 */
export type CallFault =
  | { readonly kind: 'pass'; readonly act?: () => Promise<void> | void; readonly delayMs?: number }
  | {
      readonly kind: 'answer';
      readonly code: number;
      readonly retryAfterSeconds?: number;
      readonly reached: boolean;
      readonly act?: () => Promise<void> | void;
    }
  | { readonly kind: 'cut' | 'withhold'; readonly reached: boolean; readonly act?: () => Promise<void> | void }
  | { readonly kind: 'twice'; readonly act?: () => Promise<void> | void }
  | { readonly kind: 'stale'; readonly body: unknown; readonly act?: () => Promise<void> | void };

/** One line of a watch, with its object. */
export interface WatchLine {
  readonly resource: string;
  readonly type: string;
  readonly object: Record<string, any>;
  /** Within its watch, from 1. */
  readonly number: number;
}

/** `replay`: every line of this watch so far is sent again after it. `hold`: nothing more is ever sent, half-open. */
export type LineFault = 'pass' | 'drop' | 'duplicate' | 'replay' | 'cut' | 'hold' | 'malformed' | { readonly delayMs: number };

export interface ProxyTarget {
  readonly url: string;
  /** Of the API server, which is also used to serve: PEM. Without it both sides speak plain HTTP. */
  readonly tls?: { readonly certificate: Buffer; readonly key: Buffer };
}

const REASONS: Readonly<Record<number, string>> = {
  409: 'Conflict',
  410: 'Expired',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
};
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'host', 'upgrade']);

export class ApiProxy {
  onCall: (call: Call) => CallFault | undefined = () => undefined;
  onLine: (line: WatchLine) => LineFault | undefined = () => undefined;
  /** How many bytes of a log are let through before it is cut. */
  onLog: (call: Call) => number | undefined = () => undefined;
  readonly #target: ProxyTarget;
  readonly #agent: Agent;
  readonly #server: Server;
  readonly #open = new Set<ServerResponse>();
  readonly #mutations: Call[] = [];
  readonly #answers = new Map<number, number>();
  #unanswered = 0;
  #logsCut = 0;
  /** Calls under way, with the time they came; watches and logs are not waited for. */
  readonly #waiting = new Map<ServerResponse, number>();
  #url = '';

  constructor(target: ProxyTarget) {
    this.#target = target;
    this.#agent = new Agent({ keepAlive: true, ...(target.tls && { ca: target.tls.certificate }) });
    const handler = (incoming: IncomingMessage, response: ServerResponse): void => {
      this.#open.add(response);
      response.once('close', () => {
        this.#open.delete(response);
        this.#waiting.delete(response);
        if (!response.writableFinished) this.#unanswered += 1;
      });
      this.#serve(incoming, response).catch(() => response.destroy());
    };
    this.#server =
      target.tls === undefined
        ? createHttpServer(handler)
        : createServer({ cert: target.tls.certificate, key: target.tls.key }, handler);
  }

  get url(): string {
    return this.#url;
  }

  /** All counted calls so far: number n is at n - 1. */
  get mutations(): readonly Call[] {
    return this.#mutations;
  }

  /** How often the API server itself answered with this code. */
  answers(code: number): number {
    return this.#answers.get(code) ?? 0;
  }

  /** Calls without an answer, or with half of one: the API server broke them off or was not there, or nobody waited longer. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /** Logs that were cut, and not merely to be cut beyond their end. */
  get logsCut(): number {
    return this.#logsCut;
  }

  /** Whether a call has been without an answer for so long. */
  keptWaiting(forMs: number): boolean {
    return [...this.#waiting.values()].some((since) => performance.now() - since > forMs);
  }

  async open(): Promise<void> {
    await new Promise<void>((resolve, reject) => this.#server.once('error', reject).listen(0, '127.0.0.1', resolve));
    const { port } = this.#server.address() as AddressInfo;
    this.#url = `${this.#target.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#agent.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Breaks everything that is under way. */
  cut(): void {
    for (const response of this.#open) response.destroy();
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await whole(incoming);
    const call = this.#classify(incoming);
    if (!call.watch && call.resource !== 'pods/log') this.#waiting.set(response, performance.now());
    const fault = this.onCall(call) ?? { kind: 'pass' };
    if (fault.kind === 'twice') await whole(await this.#forward(incoming, body));
    if (fault.kind === 'pass') {
      await fault.act?.();
      if (fault.delayMs !== undefined) await pause(fault.delayMs);
    }
    if (fault.kind === 'pass' || fault.kind === 'twice') return await this.#pass(call, incoming, body, response);
    if (fault.kind === 'stale') {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(fault.body));
      return;
    }
    if (fault.reached) await whole(await this.#forward(incoming, body));
    await fault.act?.();
    if (fault.kind === 'cut') response.destroy();
    if (fault.kind === 'answer') answer(response, fault.code, fault.retryAfterSeconds);
  }

  #classify(incoming: IncomingMessage): Call {
    const { pathname, searchParams } = new URL(incoming.url ?? '/', 'http://x');
    const method = incoming.method ?? 'GET';
    const mutating = method !== 'GET' && method !== 'HEAD';
    const resource = resourceOf(pathname);
    const counted = mutating && resource !== 'leases';
    const call = {
      number: counted ? this.#mutations.length + 1 : undefined,
      method,
      path: pathname,
      url: incoming.url ?? '/',
      query: searchParams,
      mutating,
      watch: /^(1|true)$/.test(searchParams.get('watch') ?? ''),
      resource,
    };
    if (counted) this.#mutations.push(call);
    return call;
  }

  #forward(incoming: IncomingMessage, body: Buffer, signal?: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers = Object.fromEntries(Object.entries(incoming.headers).filter(([name]) => !HOP_BY_HOP.has(name)));
      const options = {
        method: incoming.method,
        headers: { ...headers, ...(body.length > 0 && { 'content-length': body.length }) },
        ...(signal && { signal }),
      };
      const url = new URL(incoming.url ?? '/', this.#target.url);
      const call =
        url.protocol === 'http:' ? httpRequest(url, options, resolve) : request(url, { ...options, agent: this.#agent }, resolve);
      call.once('error', reject);
      call.end(body);
    });
  }

  async #pass(call: Call, incoming: IncomingMessage, body: Buffer, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const upstream = await this.#forward(incoming, body, gone.signal);
    upstream.on('error', () => response.destroy());
    const code = upstream.statusCode ?? 502;
    this.#answers.set(code, this.answers(code) + 1);
    const headers = Object.fromEntries(Object.entries(upstream.headers).filter(([name]) => !HOP_BY_HOP.has(name)));
    response.writeHead(code, headers as Record<string, string>);
    response.flushHeaders();
    if (call.watch && code === 200) return await this.#watch(call, upstream, response);
    const limit = call.resource === 'pods/log' ? this.onLog(call) : undefined;
    if (limit !== undefined) {
      if (await cutAfter(limit, upstream, response)) this.#logsCut += 1;
      return;
    }
    upstream.pipe(response);
  }

  async #watch(call: Call, upstream: IncomingMessage, response: ServerResponse): Promise<void> {
    const sent: string[] = [];
    let rest = '';
    let number = 0;
    for await (const chunk of upstream.setEncoding('utf8') as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const { type, object } = JSON.parse(line) as { type: string; object: Record<string, any> };
        number += 1;
        const fault = this.onLine({ resource: call.resource, type, object, number }) ?? 'pass';
        if (typeof fault === 'object') await pause(fault.delayMs);
        if (fault === 'hold') return void upstream.resume();
        if (fault === 'cut') {
          response.destroy();
          upstream.destroy();
          return;
        }
        if (fault === 'drop') continue;
        if (fault === 'malformed') {
          response.write(`${line.slice(0, line.length / 2)}\n`);
          continue;
        }
        sent.push(line);
        const copies = fault === 'duplicate' ? [line, line] : fault === 'replay' ? [line, ...sent] : [line];
        response.write(`${copies.join('\n')}\n`);
      }
    }
    response.end();
  }
}

/** `/apis/g/v/namespaces/ns/plural/name/sub` and its shorter forms. */
export function resourceOf(path: string): string {
  const parts = path.split('/').filter((part) => part !== '');
  const rest = parts.slice(parts[0] === 'api' ? 2 : 3);
  const within = rest[0] === 'namespaces' && rest.length > 2 ? rest.slice(2) : rest;
  const [plural = '', , sub] = within;
  return sub === undefined ? plural : `${plural}/${sub}`;
}

/** False: the log was over before. */
async function cutAfter(limit: number, upstream: IncomingMessage, response: ServerResponse): Promise<boolean> {
  let left = limit;
  for await (const chunk of upstream as AsyncIterable<Buffer>) {
    await new Promise((resolve) => response.write(chunk.subarray(0, left), resolve));
    left -= Math.min(left, chunk.length);
    if (left > 0) continue;
    // Let what was written get out, so that the cut is where it was drawn.
    await pause(5);
    upstream.destroy();
    response.destroy();
    return true;
  }
  response.end();
  return false;
}

function answer(response: ServerResponse, code: number, retryAfterSeconds: number | undefined): void {
  const reason = REASONS[code] ?? 'Unknown';
  const retry = retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) };
  response.writeHead(code, { 'content-type': 'application/json', ...retry });
  const status = { apiVersion: 'v1', kind: 'Status', status: 'Failure', code, reason, message: 'injected by the test' };
  response.end(JSON.stringify(status));
}

async function whole(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}
