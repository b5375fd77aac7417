import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem, unavailable } from '../problems.ts';

/** A client that reads nothing for so long is cut off; it comes back with the last id that it has seen. */
const STALLED_MILLISECONDS = 60_000;
const HEARTBEAT_MILLISECONDS = 15_000;
const CHECK_MILLISECONDS = 30_000;
/** Between two looks at which of them are to be checked. */
const LOOK_MILLISECONDS = 1_000;
/** With what HTTP and TLS add, less than a page of 4 KiB. */
const PIECE_BYTES = 3_900;
const HEARTBEAT = ': still here\n\n';
/** What a browser waits before it connects again. */
const RETRY = 'retry: 1000\n\n';

/** Looks whether a client may still see what it is sent; ends the stream if not. */
type Check = (stream: EventStream) => Promise<void>;

/**
 * One stream of server-sent events. What is sent goes to the socket at once: nothing is kept for a client that reads. There
 * are thousands, and most of them wait: then each is these few fields, without timers or promises of its own.
 */
export class EventStream {
  readonly #reply: FastifyReply;
  readonly #check: Check;
  readonly #whenEnded: (() => void)[] = [];
  /** While the client has not taken what was sent. */
  #waiting: { readonly since: number; readonly taken: () => void } | undefined;
  #sending = false;
  #checkedAt = performance.now();
  #open = true;

  constructor(reply: FastifyReply, check: Check) {
    this.#reply = reply;
    this.#check = check;
    const ended = () => this.#ended();
    reply.raw.on('close', ended).on('error', ended);
    // Who left while rights were looked up has closed already: nothing more will tell of it.
    if (reply.raw.destroyed) this.#ended();
  }

  get open(): boolean {
    return this.#open;
  }

  /** At once if it has ended. */
  whenEnded(call: () => void): void {
    if (this.#open) this.#whenEnded.push(call);
    else call();
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

  /**
   * Returns when the client has taken it, so that nobody's backlog is in our memory. False: the client is gone. In small
   * pieces, one at a time: as much as TLS ever has to encrypt at once it keeps for as long as the connection is open.
   */
  async send(bytes: Buffer): Promise<boolean> {
    this.#sending = true;
    for (let at = 0; at < bytes.length && this.#open; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      await new Promise<void>((taken) => {
        this.#waiting = { since: performance.now(), taken };
        this.#reply.raw.write(piece, () => this.#taken());
      });
    }
    this.#sending = false;
    return this.#open;
  }

  /** Now and then. No timer for each of thousands that wait. */
  beat(now: number): void {
    if (!this.#sending) this.write(HEARTBEAT);
    else if (this.#waiting !== undefined && now - this.#waiting.since > STALLED_MILLISECONDS) this.destroy();
  }

  /** A stream outlives tokens and rights: both are looked at again while it is open. */
  checkIfDue(now: number): void {
    if (now - this.#checkedAt < CHECK_MILLISECONDS) return;
    this.#checkedAt = now;
    void this.#check(this);
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
    this.#taken();
    for (const call of this.#whenEnded) call();
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
  readonly #timers: readonly NodeJS.Timeout[];
  #draining = false;

  constructor(max: { readonly total: number; readonly each: number }) {
    this.#max = max;
    this.#timers = [
      setInterval(() => this.#each((stream, now) => stream.beat(now)), HEARTBEAT_MILLISECONDS).unref(),
      setInterval(() => this.#each((stream, now) => stream.checkIfDue(now)), LOOK_MILLISECONDS).unref(),
    ];
  }

  get size(): number {
    return this.#open.size;
  }

  begin(reply: FastifyReply, who: string, check: Check): EventStream {
    if (this.#draining) throw unavailable('this replica is shutting down; connect again', '1');
    const own = this.#byCaller.get(who) ?? 0;
    if (own >= this.#max.each)
      throw new Problem(429, `${own} event streams of yours are open on this replica, which is as many as one caller may have: close one first`, { headers: { 'retry-after': '10' } });
    if (this.#open.size >= this.#max.total) throw unavailable('too many event streams are open; try again later', '10');
    const stream = new EventStream(reply, check);
    this.#open.add(stream);
    this.#byCaller.set(who, own + 1);
    stream.whenEnded(() => this.#ended(stream, who));
    stream.begin();
    return stream;
  }

  #each(call: (stream: EventStream, now: number) => void): void {
    const now = performance.now();
    for (const stream of this.#open) call(stream, now);
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
    for (const timer of this.#timers) clearInterval(timer);
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
