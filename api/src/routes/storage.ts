import { listDatabaseItems, listFileItems, listRedisItems } from '@crucible/storage';
import * as z from 'zod';
import { badRequestOn } from '../http/bad-request.ts';
import { unavailable } from '../problems.ts';
import { cursor, namespaceName, page, problems, timestamp, uid } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const run = { uid, namespace: z.string(), name: z.string(), createdAt: timestamp };
const databaseItem = z
  .object({
    ...run, specBytes: z.int(), stdoutBytes: z.int(), stderrBytes: z.int(), outputDeletedAt: timestamp.nullable(),
    attempts: z.int(), artifacts: z.int(), events: z.int(),
  })
  .meta({ id: 'DatabaseItem' });
const fileItem = z
  .object({ ...run, sha256: z.string(), bytes: z.int(), path: z.string(), attempt: z.int(), index: z.int() })
  .meta({ id: 'FileItem' });
const redisItem = z.object({ key: z.string(), uid, expiresInSeconds: z.int().nullable() }).meta({ id: 'RedisItem' });
const overview = z
  .object({
    backends: z.object({
      database: z.object({ evaluations: z.int(), size_bytes: z.int() }),
      redis: z.object({ keys: z.int(), hit_rate: z.number().nullable() }).nullable()
        .describe('keys: all of its database for who may list everything, else those of the unfinished runs. hit_rate: of the caches of all replicas. null while it does not answer.'),
      file: z.object({ files: z.int(), total_size_bytes: z.int() }),
    }),
  })
  .meta({ id: 'StorageOverview' });
const pageQuery = z.strictObject({ namespace: namespaceName.optional(), limit: z.coerce.number().int().min(1).max(200).default(50), cursor });

export const storageRoutes: Routes = (app, services) => {
  const { database, redis, authorizer } = services;
  const config = { access: 'caller', limit: 'read' } as const;

  app.get('/api/storage/overview', {
    config,
    schema: {
      operationId: 'getStorageOverview', tags: ['storage'], summary: 'How much is where',
      description: 'Of what the caller may list.', querystring: z.strictObject({ namespace: namespaceName.optional() }),
      response: { 200: overview, ...problems(401, 403) },
    },
  }, async (request) => {
    const totals = await services.snapshots.totals(await authorizer.scopeOf(request.caller, request.query.namespace));
    return {
      backends: {
        database: { evaluations: totals.database.evaluations, size_bytes: totals.database.bytes },
        redis: totals.redis && { keys: totals.redis.keys, hit_rate: totals.redis.hitRate },
        file: { files: totals.file.files, total_size_bytes: totals.file.bytes },
      },
    };
  });

  app.get('/api/storage/database', {
    config,
    schema: {
      operationId: 'listDatabaseItems', tags: ['storage'], summary: 'Runs and what they hold in Postgres',
      querystring: pageQuery, response: { 200: page(databaseItem), ...problems(401, 403) },
    },
  }, async ({ caller, query: { namespace, limit, cursor } }) => {
    const scope = await authorizer.scopeOf(caller, namespace);
    return await badRequestOn(RangeError, () => listDatabaseItems(database, scope, { limit, ...(cursor && { cursor }) }));
  });

  app.get('/api/storage/file', {
    config,
    schema: {
      operationId: 'listFileItems', tags: ['storage'], summary: 'Artifacts in the file store, by run',
      querystring: pageQuery, response: { 200: page(fileItem), ...problems(401, 403) },
    },
  }, async ({ caller, query: { namespace, limit, cursor } }) => {
    const scope = await authorizer.scopeOf(caller, namespace);
    return await badRequestOn(RangeError, () => listFileItems(database, scope, { limit, ...(cursor && { cursor }) }));
  });

  app.get('/api/storage/redis', {
    config,
    schema: {
      operationId: 'listRedisItems', tags: ['storage'], summary: 'Keys of unfinished runs in Redis',
      querystring: pageQuery, response: { 200: page(redisItem), ...problems(401, 403) },
    },
  }, async ({ caller, query: { namespace, limit, cursor } }) => {
    const scope = await authorizer.scopeOf(caller, namespace);
    const found = await badRequestOn(RangeError, () => listRedisItems(database, redis, scope, { limit, ...(cursor && { cursor }) }));
    if (found === undefined) throw unavailable('Redis does not answer; nothing is lost by that');
    return found;
  });
};
