import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { Problem, problem, type ProblemDocument } from '../problems.ts';
import type { App } from '../routes/route.ts';
import { securityHeaders } from './security-headers.ts';

// What is refused before any route is found has a problem document too.

const PROBLEM_TYPE = 'application/problem+json';
const HEADERS = securityHeaders();

/** Not a string: to those Fastify adds a charset, which JSON does not have. */
export const problemBytes = (document: ProblemDocument): Buffer => Buffer.from(JSON.stringify(document));

/** An address that cannot be read. It is not repeated: it may be long, and hold what is secret. */
export function refuseAddress(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const status = error.statusCode ?? 400;
  const detail = status === 414 ? 'a part of the address is too long' : 'the address cannot be read: write each % that stands for itself as %25';
  void reply.code(status).headers({ ...HEADERS, 'x-request-id': request.id }).header('content-type', PROBLEM_TYPE).send(problemBytes({ ...problem(status, detail), instance: request.id }));
}

const UNREADABLE: Record<string, readonly [status: number, detail: string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'the request did not come in time'],
  HPE_HEADER_OVERFLOW: [431, 'the headers are larger than 32 KiB'],
};

/** Bytes that are no request, or one that is too large or too slow to become one. The connection ends. */
export function refuseConnection(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const [status, detail] = UNREADABLE[error.code ?? ''] ?? [400, 'this is not HTTP/1.1, or not a request that can be read'];
  const body = problemBytes(problem(status, detail));
  const headers = { ...HEADERS, 'content-type': PROBLEM_TYPE, 'content-length': String(body.length), connection: 'close' };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');
  if (socket.writable) socket.write(Buffer.concat([Buffer.from(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines}\r\n`, 'latin1'), body]));
  socket.destroy(error);
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;

/** Call it before the routes; what it returns after them: each path then says which methods it has to who uses another. */
export function otherMethods(app: App): () => void {
  const known = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    const methods = known.get(url) ?? new Set();
    for (const one of [method].flat()) methods.add(one);
    known.set(url, methods);
  });
  return () => {
    for (const [url, methods] of [...known]) {
      const allow = [...methods].sort().join(', ');
      app.route({
        method: METHODS.filter((method) => !methods.has(method)), url, config: { access: 'public', limit: 'read' }, schema: { hide: true },
        // Before a body is read.
        onRequest: async ({ method }) => { throw new Problem(405, `there is no ${method} here, only ${allow}`, { headers: { allow } }); },
        handler: async () => undefined,
      });
    }
  };
}

/** Bodies are taken as they come: one that is packed would only be found to be no JSON. */
export function refusePackedBodies(app: App): void {
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const encoding = request.headers['content-encoding'];
    if (encoding === undefined || encoding === 'identity') return done(null, payload);
    done(new Problem(415, 'send the body as it is, without content-encoding', { headers: { 'accept-encoding': 'identity' } }));
  });
}
