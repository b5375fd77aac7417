import { randomUUID } from 'node:crypto';
import cookie from '@fastify/cookie';
import { LogController, fastify, type FastifyError } from 'fastify';
import { hasZodFastifySchemaValidationErrors, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import { installAccess } from './auth/plugin.ts';
import { installAccessLog, type HttpMetrics } from './http/access-log.ts';
import { otherMethods, problemBytes, refuseAddress, refuseConnection, refusePackedBodies } from './http/refusals.ts';
import { securityHeaders } from './http/security-headers.ts';
import { serializers } from './http/serializer.ts';
import { describeContract } from './openapi.ts';
import { Problem, problem, toProblem, type ProblemDocument } from './problems.ts';
import { artifactRoutes } from './routes/artifacts.ts';
import { bundleRoutes } from './routes/bundle.ts';
import { catalogRoutes } from './routes/catalog.ts';
import { evaluationRoutes } from './routes/evaluations.ts';
import { drillRoutes } from './routes/drills.ts';
import { eventRoutes } from './routes/events.ts';
import { healthRoutes } from './routes/health.ts';
import { outputRoutes } from './routes/output.ts';
import { planRoutes } from './routes/plans.ts';
import { queueRoutes } from './routes/queue.ts';
import type { App, Routes } from './routes/route.ts';
import { sessionRoutes } from './routes/session.ts';
import { storageRoutes } from './routes/storage.ts';
import { suiteRoutes } from './routes/suites.ts';
import type { Services } from './services.ts';
import type { Submission } from './schemas/submission.ts';

export interface AppOptions {
  /** Certificate and key (PEM); undefined for plain HTTP. */
  readonly https: { readonly cert: string; readonly key: string } | undefined;
  readonly logger: Logger;
  readonly metrics: HttpMetrics | undefined;
  readonly trustedProxies: readonly string[];
  /** For tests: each answer is compared with the contract. */
  readonly checkAnswers: boolean;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The body as it came: what is validated here drops fields that the API server has to refuse. */
    submitted: Submission;
  }
}

const ROUTES: readonly Routes[] = [
  healthRoutes, sessionRoutes, evaluationRoutes, planRoutes, outputRoutes, artifactRoutes, bundleRoutes, eventRoutes, queueRoutes, suiteRoutes, drillRoutes, catalogRoutes,
  storageRoutes,
];

/** 128 KiB of source is six times as much when JSON has to escape all of it. */
const MAX_BODY_BYTES = 1024 * 1024;
/** Tokens may have 16 KiB, and come in a header or in a cookie. */
const MAX_HEADER_BYTES = 32 * 1024;
/** A client that takes longer to send a request is cut off, and so is one that reads nothing of an answer. */
const REQUEST_MILLISECONDS = 30_000;
const HEADERS_MILLISECONDS = 15_000;
const SILENCE_MILLISECONDS = 120_000;
const KEEP_ALIVE_MILLISECONDS = 75_000;

export async function buildApp(services: Services, options: AppOptions): Promise<App> {
  const app = createServer(options);
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializers(options.checkAnswers) as never);
  // JSON only: anything else is a 415.
  app.removeContentTypeParser('text/plain');
  installProblems(app);
  // Cookies are parsed where they are asked for: most callers have none.
  await app.register(cookie, { hook: false });
  installAccessLog(app, options.metrics);
  installAccess(app as never, services);
  refusePackedBodies(app);
  const refuseOtherMethods = otherMethods(app);
  await describeContract(app);
  app.decorateRequest('submitted');
  app.addHook('preValidation', (request, _reply, done) => {
    request.submitted = request.body as Submission;
    done();
  });
  app.addHook('preClose', async () => services.streams.drain());
  for (const add of ROUTES) add(app, services);
  refuseOtherMethods();
  return app;
}

function createServer({ https, logger, trustedProxies }: AppOptions): App {
  const limits = { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: HEADERS_MILLISECONDS, requestTimeout: REQUEST_MILLISECONDS };
  return fastify({
    ...(https === undefined ? { http: limits } : { https: { ...https, ...limits, minVersion: 'TLSv1.2' as const } }),
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    // No logger for each request: lines say the request's id themselves.
    childLoggerFactory: (logger: unknown) => logger,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: REQUEST_MILLISECONDS,
    connectionTimeout: SILENCE_MILLISECONDS,
    keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
    exposeHeadRoutes: false,
    trustProxy: trustedProxies.length > 0 ? [...trustedProxies] : false,
    requestIdHeader: false,
    frameworkErrors: refuseAddress,
    clientErrorHandler: refuseConnection,
    genReqId: (request: { headers: Record<string, string | string[] | undefined> }) => requestId(request.headers['x-request-id']),
    routerOptions: { maxParamLength: 20_000, ignoreTrailingSlash: false },
  } as never).withTypeProvider<ZodTypeProvider>() as unknown as App;
}

/** The caller's own, so that it can be followed through several systems, if it is harmless. */
const requestId = (given: string | string[] | undefined): string =>
  typeof given === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(given) ? given : randomUUID();

function installProblems(app: App): void {
  const headers = securityHeaders();
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(headers).header('x-request-id', request.id);
    done();
  });
  app.setNotFoundHandler((request, reply) => {
    const detail = `there is nothing at ${request.method} ${request.url.split('?')[0]?.slice(0, 200)}`;
    void reply.code(404).header('content-type', 'application/problem+json').send(problemBytes({ ...problem(404, detail), instance: request.id }));
  });
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const found = describe(error);
    if (found.status >= 500 && found.status !== 503) request.log.error({ err: error, requestId: request.id }, 'request failed');
    const document: ProblemDocument = { ...problem(found.status, found.message), instance: request.id, ...(found.errors && { errors: found.errors }) };
    void reply.code(found.status).headers({ 'cache-control': 'no-store', ...found.headers }).header('content-type', 'application/problem+json').send(problemBytes(document));
  });
}

function describe(error: FastifyError): Problem {
  if (hasZodFastifySchemaValidationErrors(error)) {
    const errors = error.validation.map(({ instancePath, message }) => ({
      field: `${error.validationContext ?? 'request'}${instancePath.replaceAll('/', '.')}`, message: message === undefined ? 'is not valid' : missing(message),
    }));
    const summary = errors.slice(0, 3).map(({ field, message }) => `${field}: ${message}`).join('; ');
    return new Problem(400, `the request is not valid: ${summary}`, { errors });
  }
  const known = toProblem(error);
  if (known !== undefined) return known;
  const status = error.statusCode ?? 500;
  if (status === 415) return new Problem(415, 'this is not JSON: send it with content-type: application/json');
  return status < 500 ? new Problem(status, error.message) : internal(error);
}

/** In words of an API, not of a language. */
const missing = (message: string): string => message.replace(/^Invalid input: expected .+, received undefined$/, 'is missing');

/** What went wrong inside is for the log; the client learns that it did. */
const internal = (cause: unknown): Problem => new Problem(500, 'the request failed inside of Crucible; its log says why, under the id in `instance`', { cause });
