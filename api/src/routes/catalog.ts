import { API_VERSION, isOfDrill } from '@crucible/crds';
import type { KubeObject } from '@crucible/operator/kube';
import { SCHEMA_VERSION, isUp } from '@crucible/storage';
import * as z from 'zod';
import { TtlCache } from '../auth/ttl-cache.ts';
import { forbidden } from '../problems.ts';
import { problems } from '../schemas/common.ts';
import { CONTRACT_VERSION } from '../version.ts';
import type { Routes } from './route.ts';

const runtimeSchema = z
  .object({ name: z.string(), spec: z.record(z.string(), z.unknown()), status: z.record(z.string(), z.unknown()).nullable() })
  .meta({ id: 'Runtime', description: 'An EvaluationRuntime: what spec.runtime may name.' });
const backend = z.enum(['up', 'down', 'none']);
const systemSchema = z
  .object({
    version: z.string(),
    apiVersion: z.string().describe('Of the resources.'),
    schemaVersion: z.int().describe('Of the database.'),
    caller: z.object({ username: z.string(), groups: z.array(z.string()).readonly() }),
    namespaces: z.array(z.string()).describe('Where the caller may list evaluations.'),
    everywhere: z.boolean().describe('Also what is left of namespaces that are gone.'),
    backends: z.object({ database: backend, redis: backend, file: backend }),
    limits: z.object({ maxConcurrent: z.int(), rates: z.record(z.string(), z.int()).readonly().describe('Requests in a minute, by class.') }),
    events: z.object({ head: z.int().describe('Position of the newest event.'), streams: z.int() }),
  })
  .meta({ id: 'System' });

const RUNTIME_SECONDS = 10;

export const catalogRoutes: Routes = (app, services) => {
  const runtimes = new TtlCache<(KubeObject & { spec?: object; status?: object })[]>(1, services.now);

  app.get('/api/runtimes', {
    config: { access: 'caller', limit: 'read' },
    schema: {
      operationId: 'listRuntimes', tags: ['catalog'], summary: 'What evaluations can run in',
      response: { 200: z.object({ items: z.array(runtimeSchema) }), ...problems(401, 403) },
    },
  }, async ({ caller }) => {
    if (!(await services.authorizer.may(caller, { verb: 'list', namespace: '', resource: 'evaluationruntimes' })))
      throw forbidden('you may not list evaluationruntimes: ask for the ClusterRole crucible-runtime-viewer');
    const items = await runtimes.get('', () => services.cluster.runtimes(caller.token), () => RUNTIME_SECONDS);
    return { items: items.filter(({ metadata }) => !isOfDrill(metadata)).map(({ metadata, spec, status }) => ({ name: metadata.name ?? '', spec: { ...spec }, status: status ? { ...status } : null })) };
  });

  app.get('/api/system', {
    config: { access: 'caller', limit: 'read' },
    schema: {
      operationId: 'getSystem', tags: ['catalog'], summary: 'What this installation is, and who you are to it',
      response: { 200: systemSchema, ...problems(401) },
    },
  }, async ({ caller }) => {
    const { authorizer, redis, database, files, feed, streams, operator } = services;
    const [namespaces, everywhere] = await Promise.all([authorizer.listable(caller), authorizer.may(caller, { verb: 'list', namespace: '', resource: 'evaluations' })]);
    const answers = (work: Promise<unknown>) => work.then(() => 'up' as const, () => 'down' as const);
    const [db, file] = await Promise.all([answers(database.query('SELECT 1')), answers(files.has('0'.repeat(64)))]);
    return {
      version: CONTRACT_VERSION, apiVersion: API_VERSION, schemaVersion: SCHEMA_VERSION,
      caller: { username: caller.identity.username, groups: caller.identity.groups },
      namespaces, everywhere,
      backends: { database: db, redis: redis === undefined ? ('none' as const) : isUp(redis) ? ('up' as const) : ('down' as const), file },
      limits: { maxConcurrent: operator.maxConcurrent, rates: { ...services.rateLimiter.limits } },
      events: { head: feed.head, streams: streams.size },
    };
  });
};
