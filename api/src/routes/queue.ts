import { readQueue } from '@crucible/storage';
import * as z from 'zod';
import { Problem } from '../problems.ts';
import { namespaceName, problems, timestamp, uid } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const itemSchema = z
  .object({
    uid,
    namespace: z.string(),
    name: z.string(),
    stage: z.enum(['Submitted', 'Queued', 'Retrying', 'Starting']),
    reason: z.string().nullable(),
    message: z.string().nullable(),
    priority: z.int(),
    position: z.int().nullable().describe('1: the next that is given a place. Among all namespaces, also those that you do not see.'),
    createdAt: timestamp,
  })
  .meta({ id: 'QueueItem' });
const stages = z.object({ Submitted: z.int(), Queued: z.int(), Retrying: z.int(), Starting: z.int() });
const switchSchema = z.strictObject({
  namespace: namespaceName.optional().describe('Default: all of Crucible.'),
  reason: z.string().max(200).default('').describe('Shown to those who wait.'),
});
const switched = z.object({ namespace: z.string().nullable(), paused: z.boolean() });

export const queueRoutes: Routes = (app, services) => {
  app.get('/api/queue', {
    config: { access: 'caller', limit: 'read' },
    schema: {
      operationId: 'getQueue', tags: ['queue'], summary: 'What waits, where and why',
      description: 'What the caller may list: the first 500 of each stage, and how many there are.',
      querystring: z.strictObject({ namespace: namespaceName.optional() }),
      response: { 200: z.object({ items: z.array(itemSchema), waiting: stages, running: z.int(), limit: z.int() }).meta({ id: 'Queue' }), ...problems(401, 403) },
    },
  }, async (request) => {
    const scope = await services.authorizer.scopeOf(request.caller, request.query.namespace);
    const limits = services.snapshots.limits;
    return { ...(await readQueue(services.database, scope, limits)), limit: limits.total };
  });

  for (const paused of [true, false]) {
    const verb = paused ? 'pause' : 'resume';
    app.post(`/api/queue/${verb}`, {
      config: { access: 'caller', limit: 'write' },
      schema: {
        operationId: `${verb}Queue`, tags: ['queue'], summary: paused ? 'Start nothing new' : 'Go on',
        description: 'Needs the right to patch the ConfigMap crucible-pause (ClusterRole crucible-pauser). What runs goes on running.',
        body: switchSchema,
        response: { 200: switched, ...problems(401, 403, 404, 415) },
      },
    }, async ({ caller, body: { namespace, reason } }) => {
      const where = namespace ?? services.operator.ownNamespace;
      if (where === undefined) throw new Problem(400, 'this installation has no namespace of its own: name one');
      await services.cluster.setPaused(caller.token, where, paused, paused ? reason : '');
      return { namespace: namespace ?? null, paused };
    });
  }
};
