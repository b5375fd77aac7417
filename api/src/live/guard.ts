import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';
import type { Services } from '../services.ts';
import type { EventStream } from './sse.ts';

/**
 * Begins a stream of events that ends when the client is gone or may not see it any more. `recheck` looks at what else it
 * depends on, and throws a 403 when that is over.
 */
export function openStream(services: Services, request: FastifyRequest, reply: FastifyReply, recheck?: () => Promise<void>): EventStream {
  const { authenticator, authorizer } = services;
  return services.streams.begin(reply, request.caller.who, async (stream) => {
    try {
      const caller = await authenticator.authenticate(request.caller.token);
      const own = request.evaluation;
      if (caller === undefined || (own !== undefined && !(await authorizer.mayGet(caller, own)))) return stream.end();
      await recheck?.();
    } catch (error) {
      if (error instanceof Problem && error.status === 403) return stream.end();
      // The API server cannot be asked: what was allowed stays so until it can.
      request.log.debug({ err: error, requestId: request.id }, 'rights of a stream could not be checked');
    }
  });
}

/** How a stream ends on our side; its client comes back with the last id that it saw. */
export function endStream(stream: EventStream, request: FastifyRequest, error?: unknown): void {
  if (error !== undefined) request.log.warn({ err: error, requestId: request.id }, 'an event stream was broken off; its client comes back');
  stream.end();
}
