import { createParser } from 'eventsource-parser';
import { ProblemError, UnreachableError } from './errors.ts';
import { pause } from './patience.ts';
import { linked } from './signals.ts';
import type { Transport } from './transport.ts';

export interface StreamEvent {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

export interface StreamOptions {
  /** Below the base URL. */
  readonly path: string;
  /** The id of the last event that is known: goes on after it. */
  readonly lastEventId?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called when the stream broke off, before it is opened again. */
  readonly onReconnect?: ((lastEventId: string | undefined) => void) | undefined;
}

/** What a caller may have open at once, and in a minute, is limited: whoever reads one of many waits for its turn. */
const TURN_SECONDS = 10;
/** The API sends a comment every 15 s: three of them missing mean that nobody is there. */
const SILENCE_MILLISECONDS = 45_000;
const LONGEST_PAUSE_SECONDS = 10;

/**
 * Server-sent events, each once: whenever the stream ends it is opened again after the last id, for as long as somebody reads.
 * Throws what opening it throws: a right that has gone, a server that stays away for longer than the start-up window. Too many
 * streams at once (429) are waited for without end.
 */
export async function* readEvents(
  transport: Transport,
  options: StreamOptions,
): AsyncGenerator<StreamEvent, void, undefined> {
  const { controller: left, signal, release } = linked(options.signal);
  let { lastEventId } = options;
  let retrySeconds = 1;
  try {
    for (let fruitless = 0; ; fruitless += 1) {
      const response = await open(transport, options.path, lastEventId, signal);
      try {
        const told = {
          onRetry: (milliseconds: number) => (retrySeconds = milliseconds / 1000),
          // Also without an event: where the stream of all events begins.
          onId: (id: string) => (lastEventId = id),
        };
        for await (const message of parse(response, signal, told)) {
          fruitless = -1;
          yield { id: message.id, event: message.event, data: message.data };
        }
      } catch (error) {
        // Broken off: TypeError in every fetch there is. What the reader throws does not come here.
        if (!(error instanceof TypeError || error instanceof UnreachableError)) throw error;
      }
      signal.throwIfAborted();
      options.onReconnect?.(lastEventId);
      await pause(Math.min(retrySeconds * 2 ** Math.max(0, fruitless), LONGEST_PAUSE_SECONDS), signal);
    }
  } finally {
    release();
    left.abort(new DOMException('nobody reads it any more', 'AbortError'));
  }
}

async function open(
  transport: Transport,
  path: string,
  lastEventId: string | undefined,
  signal: AbortSignal,
): Promise<Response> {
  const headers = { accept: 'text/event-stream', ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) };
  for (;;) {
    try {
      return await transport.send(new Request(transport.baseUrl + path, { headers, cache: 'no-store' }), { signal });
    } catch (error) {
      if (!(error instanceof ProblemError && error.status === 429)) throw error;
      await pause(error.retryAfterSeconds ?? TURN_SECONDS, signal);
    }
  }
}

async function* parse(
  response: Response,
  signal: AbortSignal,
  told: { onRetry: (milliseconds: number) => void; onId: (id: string) => void },
): AsyncGenerator<StreamEvent, void, undefined> {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const complete: StreamEvent[] = [];
  const parser = createParser({ onEvent: ({ id, event, data }) => void complete.push({ id, event, data }), ...told });
  // A connection whose other end has vanished never ends by itself. Cancelled, the reader is at its end.
  let silence: ReturnType<typeof setTimeout> | undefined;
  const cancel = (): void => void reader.cancel().catch(() => undefined);
  signal.addEventListener('abort', cancel, { once: true });
  try {
    for (;;) {
      silence = setTimeout(cancel, SILENCE_MILLISECONDS);
      const { done, value } = await reader.read();
      clearTimeout(silence);
      if (done) return;
      parser.feed(decoder.decode(value, { stream: true }));
      yield* complete.splice(0);
    }
  } finally {
    clearTimeout(silence);
    signal.removeEventListener('abort', cancel);
    cancel();
  }
}
