import * as z from 'zod';
import { SESSION_COOKIE, setSessionCookie } from '../auth/plugin.ts';
import { Problem, unauthorized } from '../problems.ts';
import { problems, timestamp } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const sessionSchema = z
  .object({
    username: z.string(),
    groups: z.array(z.string()).readonly(),
    csrfToken: z.string().nullable().describe('For the header x-csrf-token of every change. null without a session.'),
    expiresAt: timestamp.nullable(),
  })
  .meta({ id: 'Session' });

export const sessionRoutes: Routes = (app, services) => {
  app.post('/api/session', {
    config: { access: 'public', limit: 'session' },
    schema: {
      operationId: 'createSession', tags: ['session'], summary: 'Exchange a token for a browser session',
      description: 'Sets an encrypted cookie that scripts cannot read. It ends with the token, after 8 hours at the latest.',
      body: z.strictObject({ token: z.string().min(1).max(16_384) }),
      response: { 201: sessionSchema, ...problems(401, 413, 415) },
    },
  }, async (request, reply) => {
    const caller = await services.authenticator.authenticate(request.body.token.trim());
    if (caller === undefined) throw unauthorized('the cluster does not accept this token');
    const sealed = await services.sealer.seal(caller.token, caller.expiresAt);
    if (sealed === undefined) throw new Problem(413, 'this token is too large for a browser’s cookie: use it as a bearer token');
    const { cookie, session } = sealed;
    setSessionCookie(reply, cookie, Math.max(0, Math.floor((session.expiresAt - services.now()) / 1000)));
    const { username, groups } = caller.identity;
    return reply.code(201).send({ username, groups, csrfToken: session.csrf, expiresAt: new Date(session.expiresAt) });
  });

  app.get('/api/session', {
    config: { access: 'caller', limit: 'read' },
    schema: {
      operationId: 'getSession', tags: ['session'], summary: 'Who am I?',
      response: { 200: sessionSchema, ...problems(401) },
    },
  }, async ({ caller: { identity, expiresAt }, session }) => {
    const until = session?.expiresAt ?? expiresAt;
    const { username, groups } = identity;
    return { username, groups, csrfToken: session?.csrf ?? null, expiresAt: until === undefined ? null : new Date(until) };
  });

  app.delete('/api/session', {
    config: { access: 'public', limit: 'session' },
    schema: {
      operationId: 'deleteSession', tags: ['session'], summary: 'Forget the session',
      response: { 204: z.null().describe('Gone, or there was none.'), ...problems() },
    },
  }, async (_request, reply) => reply.clearCookie(SESSION_COOKIE, { path: '/' }).code(204).send(null));
};
