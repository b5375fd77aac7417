import { after, type Awaitable, type EvaluationOwner } from '@crucible/storage';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { forbidden, notFound, unauthorized, unavailable } from '../problems.ts';
import type { RouteClass } from '../http/rate-limit.ts';
import type { Services } from '../services.ts';
import type { Caller } from './authenticator.ts';
import { CSRF_HEADER, sameSecret, type Session } from './session.ts';

/**
 * Who may use a route, decided before its handler runs. Every route has one, or the process does not start.
 *   public           anyone
 *   caller           whoever the cluster knows; the handler narrows what is shown to what the caller may list, or acts
 *                    in the cluster with the caller's own token
 *   evaluation       who may get the evaluation {id}; `request.evaluation` is it. Everyone else is told 404
 */
export type Access = 'public' | 'caller' | 'evaluation';

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
    limit?: RouteClass;
  }
  interface FastifyRequest {
    /** Not on public routes. */
    caller: Caller;
    session: Session | undefined;
    /** On routes of access `evaluation`. */
    evaluation: EvaluationOwner;
  }
}

export const SESSION_COOKIE = 'crucible_session';
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Limits by address, authenticates, limits by caller, authorises: in that order, for every route. */
export function installAccess(app: FastifyInstance, services: Services): void {
  app.decorateRequest('caller');
  app.decorateRequest('session');
  app.decorateRequest('evaluation');
  app.decorateRequest('rateLimits');
  app.addHook('onRoute', ({ config, method, url }) => {
    if (config?.access === undefined || (config.access !== 'public' && config.limit === undefined))
      throw new Error(`${String(method)} ${url}: a route says who may use it (config.access) and how it is limited (config.limit)`);
  });
  // A hook that returns no promise: most callers are known and have permits, and are let in at once.
  app.addHook('onRequest', (request, reply, done) => {
    try {
      const entering = enter(request, reply, services);
      if (entering instanceof Promise) entering.then(() => done(), done);
      else done();
    } catch (error) {
      done(error as Error);
    }
  });
}

function enter(request: FastifyRequest, reply: FastifyReply, services: Services): Awaitable<void> {
  request.rateLimits = [];
  const { access, limit } = request.routeOptions.config;
  if (access === 'public' && limit === undefined) return undefined;
  // Nothing is there: who looks for it is counted all the same.
  if (access === undefined) return services.rateLimiter.take(request, reply, [['client', request.ip]]);
  const reason = services.notReady();
  if (reason !== undefined) throw unavailable(`Crucible is starting: ${reason}`);
  const { authenticator, rateLimiter } = services;
  // By address first, so that nobody makes us ask the cluster too often. Who is known already is not asked about: both at once.
  const known = access === 'public' ? undefined : authenticator.known(bearerToken(request.headers.authorization));
  if (known === undefined || limit === undefined)
    return after(rateLimiter.take(request, reply, [['client', request.ip]]), () => enterUnknown(request, reply, services));
  request.caller = known;
  return after(rateLimiter.take(request, reply, [['client', request.ip], [limit, known.who]]), () => authorise(request, services));
}

async function enterUnknown(request: FastifyRequest, reply: FastifyReply, services: Services): Promise<void> {
  const { access, limit } = request.routeOptions.config;
  if (access !== 'public') await authenticate(request, services);
  if (limit !== undefined) await services.rateLimiter.take(request, reply, [[limit, request.caller?.who ?? request.ip]]);
  await authorise(request, services);
}

async function authenticate(request: FastifyRequest, { authenticator, sealer }: Services): Promise<void> {
  const header = request.headers.authorization;
  const { cookie: cookies } = request.headers;
  const cookie = header === undefined && cookies !== undefined ? request.server.parseCookie(cookies)[SESSION_COOKIE] : undefined;
  if (cookie !== undefined) request.session = await sealer.open(cookie);
  const token = request.session?.token ?? bearerToken(header);
  if (token === undefined) throw unauthorized();
  const caller = await authenticator.authenticate(token);
  if (caller === undefined) throw unauthorized('the cluster does not accept this token: it may have expired, or be meant for another audience');
  request.caller = caller;
  if (request.session !== undefined) checkCsrf(request, request.session);
}

function bearerToken(header: string | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(header ?? '')?.[1];
}

/** A browser sends the cookie with every request to us, whoever made it ask; this value only our own pages know. */
function checkCsrf(request: FastifyRequest, session: Session): void {
  if (SAFE_METHODS.has(request.method)) return;
  const given = request.headers[CSRF_HEADER];
  if (typeof given !== 'string' || !sameSecret(given, session.csrf))
    throw forbidden(`a change with a session needs the header ${CSRF_HEADER} with the csrfToken that POST /api/session gave`);
}

function authorise(request: FastifyRequest, { snapshots, authorizer }: Services): Awaitable<void> {
  if (request.routeOptions.config.access !== 'evaluation') return undefined;
  const { id } = request.params as { id: string };
  return after(snapshots.owner(id), (owner) => {
    if (owner === undefined) throw notFound();
    return after(authorizer.mayGet(request.caller, owner), (may) => {
      if (!may) throw notFound();
      request.evaluation = owner;
    });
  });
}

export function setSessionCookie(reply: FastifyReply, value: string, maxAgeSeconds: number): void {
  void reply.setCookie(SESSION_COOKIE, value, { path: '/', httpOnly: true, secure: true, sameSite: 'strict', maxAge: maxAgeSeconds });
}
