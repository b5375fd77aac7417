import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { ClusterAccess } from './types.ts';

/** One request, answered by hand. */
export class Exchange {
  readonly method: string;
  readonly path: string;
  readonly query: Record<string, string>;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
  readonly response: ServerResponse;
  /** Resolves when the connection is gone or the answer complete. */
  readonly closed: Promise<void>;

  constructor(request: IncomingMessage, text: string, response: ServerResponse) {
    const url = new URL(request.url ?? '/', 'http://localhost');
    this.method = request.method ?? '';
    this.path = url.pathname;
    this.query = Object.fromEntries(url.searchParams);
    this.headers = request.headers;
    this.text = text;
    this.response = response;
    this.closed = new Promise((resolve) => response.once('close', () => resolve()));
  }

  get body(): any {
    return JSON.parse(this.text);
  }

  json(value: unknown, status = 200, headers: Record<string, string> = {}): void {
    this.response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
  }

  fail(code: number, reason: string, message = reason, headers: Record<string, string> = {}, details?: object): void {
    this.json({ kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message, details }, code, headers);
  }

  /** The headers of a stream. */
  open(): this {
    this.response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
    return this;
  }

  event(type: string, object: unknown): this {
    return this.raw(`${JSON.stringify({ type, object })}\n`);
  }

  raw(bytes: string | Uint8Array): this {
    this.response.write(bytes);
    return this;
  }

  end(): void {
    this.response.end();
  }

  /** Drops the connection without a word. */
  cut(): void {
    this.response.destroy();
  }
}

/** An HTTP server whose answers the test gives, one request at a time, or by a handler. */
export class ScriptedServer {
  readonly #server: Server;
  readonly #arrived: Exchange[] = [];
  readonly #waiting: ((exchange: Exchange) => void)[] = [];
  readonly #sockets = new Set<Socket>();
  handler: ((exchange: Exchange) => void) | undefined;
  /** TCP connections ever accepted. */
  connections = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.keepAliveTimeout = 0;
    server.on('connection', (socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('request', (request, response) => void this.#accept(request, response));
  }

  static async start(port = 0): Promise<ScriptedServer> {
    const server = createServer();
    const scripted = new ScriptedServer(server);
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    return scripted;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Requests that no `next` has taken. */
  get unclaimed(): number {
    return this.#arrived.length;
  }

  access(token = 'secret-token-value'): ClusterAccess {
    return {
      server: this.url,
      namespace: 'evals',
      load: async () => ({ headers: { authorization: `Bearer ${token}` }, tls: {} }),
    };
  }

  next(): Promise<Exchange> {
    const exchange = this.#arrived.shift();
    return exchange === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(exchange);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #accept(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {});
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const exchange = new Exchange(request, Buffer.concat(chunks).toString(), response);
    if (this.handler !== undefined) return this.handler(exchange);
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#arrived.push(exchange);
    else waiter(exchange);
  }
}
