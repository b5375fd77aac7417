import { listSuiteRuns, listSuites, readSuite } from '@crucible/storage';
import * as z from 'zod';
import { badRequestOn } from '../http/bad-request.ts';
import { notFound } from '../problems.ts';
import { cursor, namespaceName, page, problems, timestamp, uid } from '../schemas/common.ts';
import type { Routes } from './route.ts';

const summary = z.record(z.string(), z.unknown());
const row = {
  uid, namespace: z.string(), namespaceUid: uid, name: z.string(), labels: z.record(z.string(), z.string()), phase: z.string(),
  reason: z.string().nullable(), message: z.string().nullable(), total: z.int().describe('Runs: cells times samples.'),
  summary: summary.describe('As in the resource’s status.summary.'), createdAt: timestamp, acceptedAt: timestamp, finishedAt: timestamp.nullable(),
};
const suiteRow = z.object(row).meta({ id: 'SuiteSummary' });
const suiteDetail = z
  .object({
    ...row, generation: z.int(), spec: summary,
    cells: z.array(z.object({ cell: z.int(), parameters: z.record(z.string(), z.string()), summary })),
    runs: z.array(z.object({
      cell: z.int(), sample: z.int(), evaluationUid: uid, evaluationName: z.string(), createdAt: timestamp,
      outcome: z.string().nullable(), verdictClass: z.string().nullable(), attempts: z.int().nullable(), finishedAt: timestamp.nullable(),
    })),
  })
  .meta({ id: 'Suite' });
const listQuery = z.strictObject({
  namespace: namespaceName.optional(), name: z.string().max(253).optional().describe('Part of the name.'),
  limit: z.coerce.number().int().min(1).max(500).default(50), cursor,
});

export const suiteRoutes: Routes = (app, { database, authorizer }) => {
  app.get('/api/suites', {
    config: { access: 'caller', limit: 'read' },
    schema: {
      operationId: 'listSuites', tags: ['suites'], summary: 'Suites, newest first', description: 'Those that the caller may list (evaluationsuites).',
      querystring: listQuery, response: { 200: page(suiteRow), ...problems(401, 403) },
    },
  }, async ({ caller, query: { namespace, name, limit, cursor } }) => {
    const scope = await authorizer.scopeOf(caller, namespace, 'evaluationsuites');
    return await badRequestOn(RangeError, () => listSuites(database, scope, { limit, ...(name && { name }), ...(cursor && { cursor }) }));
  });

  app.get('/api/suites/:id', {
    config: { access: 'caller', limit: 'read' },
    schema: {
      operationId: 'getSuite', tags: ['suites'], summary: 'One suite with its cells and runs',
      params: z.object({ id: uid.describe('metadata.uid of the EvaluationSuite.') }), response: { 200: suiteDetail, ...problems(401, 404) },
    },
  }, async ({ caller, params: { id } }) => {
    const found = await readSuite(database, 'all', id);
    if (found === undefined || !(await authorizer.mayGet(caller, found, 'evaluationsuites'))) throw notFound('suite');
    return { ...found, runs: await listSuiteRuns(database, [found.namespaceUid], id) } as never;
  });
};
