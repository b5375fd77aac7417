import { STATUS_CODES } from 'node:http';
import { fastify, type FastifyInstance } from 'fastify';

export interface AppOptions {
  /** Certificate and key (PEM). */
  readonly https: { readonly cert: string | Buffer; readonly key: string | Buffer } | undefined;
  readonly logger: { readonly level: string };
  /** Why requests cannot be served yet, or undefined when they can. */
  readonly notReady: () => Promise<string | undefined>;
}

/** An RFC 9457 problem document. */
export const problem = (status: number, detail: string) => ({ type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, detail });

export function buildApp({ https, logger, notReady }: AppOptions): FastifyInstance {
  const app = fastify({ ...(https && { https }), logger, bodyLimit: 1024 * 1024, requestTimeout: 30_000 }) as unknown as FastifyInstance;

  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    const reason = await notReady();
    if (reason === undefined) return { status: 'ok' };
    return reply.code(503).header('retry-after', '2').type('application/problem+json').send(problem(503, reason));
  });

  app.setNotFoundHandler((request, reply) => {
    void reply.code(404).type('application/problem+json').send(problem(404, `there is nothing at ${request.method} ${request.url.split('?')[0]}`));
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
    const status = error.statusCode ?? 500;
    if (status >= 500) request.log.error({ err: error }, 'request failed');
    // What went wrong inside is for the log; the client learns that it did.
    const detail = status >= 500 ? 'the request failed inside of Crucible; its log says why' : error.message;
    void reply.code(status).type('application/problem+json').send(problem(status, detail));
  });
  return app;
}
