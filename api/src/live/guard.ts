import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';
import type { Services } from '../services.ts';
import type { EventStream } from './sse.ts';

const CHECK_MILLISECONDS = 30_000;

/**
 * Runs `send` on a stream of events for as long as the client is there and may see it: a stream outlives tokens and
 * rights, so both are looked at again while it is open. Returns when it has ended.
 */
export async function guarded(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  send: (stream: EventStream, signal: AbortSignal) => Promise<void>,
  recheck: () => Promise<void> = async () => undefined,
): Promise<void> {
  const stream = services.streams.begin(reply, request.caller.who);
  const gone = new AbortController();
  void stream.closed.then(() => gone.abort());
  const timer = setInterval(() => void check(), CHECK_MILLISECONDS);
  const check = async (): Promise<void> => {
    try {
      const caller = await services.authenticator.authenticate(request.caller.token);
      const own = request.evaluation;
      if (caller === undefined || (own !== undefined && !(await services.authorizer.mayGet(caller, own)))) return stream.end();
      await recheck();
    } catch (error) {
      if (error instanceof Problem && error.status === 403) return stream.end();
      // The API server cannot be asked: what was allowed stays so until it can.
      request.log.debug({ err: error, requestId: request.id }, 'rights of a stream could not be checked');
    }
  };
  try {
    await send(stream, gone.signal);
  } catch (error) {
    request.log.warn({ err: error, requestId: request.id }, 'an event stream was broken off; its client comes back');
  } finally {
    clearInterval(timer);
    stream.end();
  }
}
