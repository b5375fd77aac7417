import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem, unavailable } from '../problems.ts';

/** A client that reads nothing for so long is cut off; it comes back with the last id that it has seen. */
const STALLED_MILLISECONDS = 60_000;
const HEARTBEAT_MILLISECONDS = 15_000;
const HEARTBEAT = ': still here\n\n';
/** What a browser waits before it connects again. */
const RETRY = 'retry: 1000\n\n';

/** One stream of server-sent events. What is sent goes to the socket at once: nothing is kept for a client that reads. */
export class EventStream {
  readonly #reply: FastifyReply;
  readonly #closed = Promise.withResolvers<void>();
  /** While the client has not taken what was sent. */
  #waiting: { readonly since: number; readonly taken: () => void } | undefined;
  #open = true;

  constructor(reply: FastifyReply) {
    this.#reply = reply;
    reply.raw.on('drain', () => this.#taken());
    const ended = () => this.#ended();
    reply.raw.once('close', ended);
    reply.raw.once('error', ended);
    // Who left while rights were looked up has closed already: nothing more will tell of it.
    if (reply.raw.destroyed) this.#ended();
  }

  get open(): boolean {
    return this.#open;
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  begin(): void {
    if (!this.#open) return void this.#reply.hijack();
    const headers = this.#reply.getHeaders() as Record<string, string>;
    this.#reply.hijack();
    this.#reply.raw.writeHead(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      // nginx would collect events otherwise.
      'x-accel-buffering': 'no',
    });
    // By themselves: joined with what follows, the lines of the head stay in memory one by one, for as long as the stream is open.
    this.#reply.raw.flushHeaders();
    this.#reply.raw.write(RETRY);
  }

  /** For a few bytes that nobody waits for. */
  write(text: string): void {
    if (this.#open) this.#reply.raw.write(text);
  }

  /** Returns when the client has taken it, so that nobody's backlog is in our memory. False: the client is gone. */
  async send(piece: string | Buffer): Promise<boolean> {
    if (this.#open && !this.#reply.raw.write(piece))
      await new Promise<void>((taken) => (this.#waiting = { since: performance.now(), taken }));
    return this.#open;
  }

  /** Now and then. No timer for each of thousands that wait. */
  beat(): void {
    if (this.#waiting === undefined) this.write(HEARTBEAT);
    else if (performance.now() - this.#waiting.since > STALLED_MILLISECONDS) this.destroy();
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
    this.#taken();
  }

  #taken(): void {
    this.#waiting?.taken();
    this.#waiting = undefined;
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
      for (const stream of this.#open) stream.beat();
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

/** No event: only what the client sends back as Last-Event-ID from now on. */
export const ssePosition = (id: number): string => `id: ${id}\n\n`;

/** What the client has seen. The header of a reconnecting browser wins over the address that it was first given. */
export function lastEventId(request: FastifyRequest, query: number | undefined): number | undefined {
  const header = request.headers['last-event-id'];
  if (typeof header === 'string' && /^\d{1,15}$/.test(header)) return Number(header);
  return query;
}
