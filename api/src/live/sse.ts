import { once } from 'node:events';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem, unavailable } from '../problems.ts';

/** A client that reads nothing for so long is cut off; it comes back with the last id that it has seen. */
const STALLED_MILLISECONDS = 60_000;
const HEARTBEAT_MILLISECONDS = 15_000;
const HEARTBEAT = ': still here\n\n';
/** What a browser waits before it connects again. */
const RETRY = 'retry: 1000\n\n';

/** One stream of server-sent events. Writes are plain strings on the socket: nothing is kept for a client that reads. */
export class EventStream {
  readonly #reply: FastifyReply;
  readonly #closed = Promise.withResolvers<void>();
  #open = true;

  constructor(reply: FastifyReply) {
    this.#reply = reply;
    const ended = () => this.#ended();
    reply.raw.once('close', ended);
    reply.raw.once('error', ended);
  }

  get open(): boolean {
    return this.#open;
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  begin(): void {
    const headers = this.#reply.getHeaders() as Record<string, string>;
    this.#reply.hijack();
    this.#reply.raw.writeHead(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      // nginx would collect events otherwise.
      'x-accel-buffering': 'no',
    });
    this.#reply.raw.write(RETRY);
  }

  /** For a few bytes that nobody waits for. */
  write(text: string): void {
    if (this.#open) this.#reply.raw.write(text);
  }

  /** Returns when the client has taken it, so that nobody's backlog is in our memory. False: the client is gone. */
  async send(pieces: string | readonly Buffer[]): Promise<boolean> {
    if (!this.#open) return false;
    if (!this.#write(pieces)) {
      const taken = once(this.#reply.raw, 'drain', { signal: AbortSignal.timeout(STALLED_MILLISECONDS) });
      await Promise.race([taken, this.#closed.promise]).catch(() => this.destroy());
    }
    return this.#open;
  }

  /** In one go. False: the client has not taken all of it yet. */
  #write(pieces: string | readonly Buffer[]): boolean {
    const { raw } = this.#reply;
    if (typeof pieces === 'string') return raw.write(pieces);
    raw.cork();
    let taken = true;
    for (const piece of pieces) taken = raw.write(piece);
    raw.uncork();
    return taken;
  }

  end(): void {
    if (this.#open) this.#reply.raw.end();
  }

  destroy(): void {
    this.#reply.raw.destroy();
    this.#ended();
  }

  #ended(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#closed.resolve();
  }
}

/** All open streams of the process: one heartbeat for all, limits, and an end to all of them at shutdown. */
export class Streams {
  readonly #max: { readonly total: number; readonly each: number };
  readonly #open = new Set<EventStream>();
  readonly #byCaller = new Map<string, number>();
  readonly #heartbeat: NodeJS.Timeout;
  #draining = false;

  constructor(max: { readonly total: number; readonly each: number }) {
    this.#max = max;
    this.#heartbeat = setInterval(() => {
      for (const stream of this.#open) stream.write(HEARTBEAT);
    }, HEARTBEAT_MILLISECONDS).unref();
  }

  get size(): number {
    return this.#open.size;
  }

  begin(reply: FastifyReply, who: string): EventStream {
    if (this.#draining) throw unavailable('this replica is shutting down; connect again', '1');
    const own = this.#byCaller.get(who) ?? 0;
    if (own >= this.#max.each)
      throw new Problem(429, `${own} event streams of yours are open on this replica, which is as many as one caller may have: close one first`, { headers: { 'retry-after': '10' } });
    if (this.#open.size >= this.#max.total) throw unavailable('too many event streams are open; try again later', '10');
    const stream = new EventStream(reply);
    this.#open.add(stream);
    this.#byCaller.set(who, own + 1);
    void stream.closed.then(() => this.#ended(stream, who));
    stream.begin();
    return stream;
  }

  #ended(stream: EventStream, who: string): void {
    this.#open.delete(stream);
    const left = (this.#byCaller.get(who) ?? 1) - 1;
    if (left > 0) this.#byCaller.set(who, left);
    else this.#byCaller.delete(who);
  }

  /** Clients connect again, to another replica or to this one's successor, with the last id that they saw. */
  drain(): void {
    this.#draining = true;
    clearInterval(this.#heartbeat);
    for (const stream of this.#open) stream.end();
  }
}

/** Data on one line, as JSON is; `id` is what the client sends back as Last-Event-ID. */
export const sseEvent = (id: string | number, event: string, data: unknown): string =>
  `id: ${id}\nevent: ${event}\ndata: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;

/** What the client has seen. The header of a reconnecting browser wins over the address that it was first given. */
export function lastEventId(request: FastifyRequest, query: number | undefined): number | undefined {
  const header = request.headers['last-event-id'];
  if (typeof header === 'string' && /^\d{1,15}$/.test(header)) return Number(header);
  return query;
}
