import * as z from 'zod';
import { inScope } from '../auth/authorizer.ts';
import { followEvents } from '../live/follow-events.ts';
import { endStream, openStream } from '../live/guard.ts';
import { lastEventId } from '../live/sse.ts';
import { replayAll, replayRun } from '../live/replay.ts';
import { idParams, namespaceName, problems } from '../schemas/common.ts';
import { eventStream, lastEventIdHeader } from '../schemas/content.ts';
import type { Routes } from './route.ts';

const after = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional()
  .describe('Position to go on after, for those who cannot send Last-Event-ID.');

export const eventRoutes: Routes = (app, services) => {
  const { feed, database, authorizer } = services;

  app.get('/api/events', {
    config: { access: 'caller', limit: 'stream' },
    schema: {
      operationId: 'streamEvents', tags: ['events'], summary: 'What happens, as it happens',
      description: 'CloudEvents as server-sent events, of all evaluations that the caller may list, from now on or after Last-Event-ID. Every event comes once, in the order of its id.',
      querystring: z.strictObject({ namespace: namespaceName.optional(), after }), headers: lastEventIdHeader,
      response: { 200: eventStream, ...problems(401, 403) },
    },
  }, async (request, reply) => {
    const look = () => authorizer.scopeOf(request.caller, request.query.namespace);
    let scope = await look();
    const recheck = async () => void (scope = await look());
    const from = await feed.resume(lastEventId(request, request.query.after) ?? feed.head);
    const stream = openStream(services, request, reply, recheck);
    followEvents({
      feed, stream, after: from,
      wanted: ({ namespaceuid }) => inScope(scope, namespaceuid),
      replay: (from, upTo) => replayAll(database, scope, from, upTo),
      ended: (error) => endStream(stream, request, error),
    });
  });

  app.get('/api/evaluations/:id/events', {
    config: { access: 'evaluation', limit: 'stream' },
    schema: {
      operationId: 'streamEvaluationEvents', tags: ['events'], summary: 'What happens with one evaluation',
      description: 'As /api/events, of one evaluation and from its beginning. The ids are those of /api/events.',
      params: idParams, querystring: z.strictObject({ after }), headers: lastEventIdHeader,
      response: { 200: eventStream, ...problems(401, 404) },
    },
  }, async (request, reply) => {
    const { evaluation } = request;
    const from = await feed.resume(lastEventId(request, request.query.after) ?? 0);
    const stream = openStream(services, request, reply);
    followEvents({
      feed, stream, after: from,
      wanted: ({ subject }) => subject === evaluation.uid,
      replay: (from, upTo) => replayRun(database, evaluation, from, upTo),
      ended: (error) => endStream(stream, request, error),
    });
  });
};
