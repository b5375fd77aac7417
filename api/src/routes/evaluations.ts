import { listEvaluations, parseLabelSelector, readComplete, readEvaluation } from '@crucible/storage';
import { PHASES, VERDICT_CLASSES } from '@crucible/crds';
import * as z from 'zod';
import { notFound } from '../problems.ts';
import { acceptedEvaluation, cursor, idParams, namespaceName, page, problems } from '../schemas/common.ts';
import { artifactLocationSchema, timelineSchema } from '../schemas/complete.ts';
import { evaluationSchema, runEventSchema, statusSchema, summarySchema } from '../schemas/evaluation.ts';
import { submissionSchema } from '../schemas/submission.ts';
import { badRequestOn } from '../http/bad-request.ts';
import { cancel, notRecorded, statusOf, submit } from '../evaluations.ts';
import type { Routes } from './route.ts';

const listQuery = z.strictObject({
  namespace: namespaceName.optional(),
  status: z.enum(PHASES).optional().describe('Phase.'),
  verdict: z.enum(VERDICT_CLASSES).optional().describe('Class of the verdict.'),
  label: z.string().max(1000).optional().describe('Label selector as kubectl takes it: a=b,c!=d,e in (x,y),!f'),
  name: z.string().max(253).optional().describe('Part of the name.'),
  since: z.iso.datetime({ offset: true }).optional().describe('Created then or later.'),
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor,
});

export const evaluationRoutes: Routes = (app, services) => {
  app.post('/api/evaluations', {
    config: { access: 'caller', limit: 'write' },
    schema: {
      operationId: 'submitEvaluation', tags: ['evaluations'], summary: 'Run something',
      description: 'Creates the Evaluation in the cluster with the caller’s own token. Ask `statusUrl` what became of it.',
      body: submissionSchema,
      response: {
        202: { description: 'Accepted; not finished.', headers: { location: { type: 'string', description: 'Of its status.' } }, content: { 'application/json': { schema: acceptedEvaluation } } },
        ...problems(401, 403, 404, 409, 413, 415, 422),
      },
    },
  }, async (request, reply) => {
    const accepted = await submit(services, request.caller, request.submitted);
    return reply.code(202).header('location', accepted.statusUrl).send(accepted);
  });

  app.get('/api/evaluations', {
    config: { access: 'caller', limit: 'read' },
    schema: {
      operationId: 'listEvaluations', tags: ['evaluations'], summary: 'Evaluations, newest first',
      description: 'Those that the caller may list. A page may be short, also empty, and yet have a next one.',
      querystring: listQuery,
      response: { 200: page(summarySchema), ...problems(401, 403) },
    },
  }, async (request) => {
    const { namespace, status, verdict, label, since, name, limit, cursor } = request.query;
    const scope = await services.authorizer.scopeOf(request.caller, namespace);
    return await badRequestOn(RangeError, () => listEvaluations(services.database, scope, {
      limit,
      ...(status && { phases: [status] }), ...(verdict && { verdictClasses: [verdict] }), ...(name && { name }),
      ...(label && { labels: parseLabelSelector(label) }), ...(since && { since: new Date(since) }), ...(cursor && { cursor }),
    }));
  });

  app.get('/api/evaluations/:id', {
    config: { access: 'evaluation', limit: 'read' },
    schema: {
      operationId: 'getEvaluation', tags: ['evaluations'], summary: 'The record of one evaluation',
      description: '404 until the operator has recorded it, with the reason while it is not accepted; its status is known before.',
      params: idParams, response: { 200: evaluationSchema, ...problems(401, 404) },
    },
  }, async ({ evaluation }) => {
    const found = await readEvaluation(services.database, evaluation.uid, [evaluation.namespaceUid]);
    if (found === undefined) throw await notRecorded(services, evaluation);
    return found as never;
  });

  app.get('/api/evaluations/:id/complete', {
    config: { access: 'evaluation', limit: 'read' },
    schema: {
      operationId: 'getCompleteEvaluation', tags: ['evaluations'], summary: 'All there is about one evaluation, output aside',
      params: idParams,
      response: {
        200: z.object({ evaluation: evaluationSchema, events: z.array(runEventSchema), storage_locations: z.array(artifactLocationSchema), timeline: z.array(timelineSchema) }).meta({ id: 'CompleteEvaluation' }),
        ...problems(401, 404),
      },
    },
  }, async ({ evaluation }) => {
    const found = await readComplete(services.database, services, evaluation.uid, [evaluation.namespaceUid]);
    if (found === undefined) throw await notRecorded(services, evaluation);
    const { storageLocations, ...rest } = found;
    return { ...rest, storage_locations: storageLocations } as never;
  });

  app.get('/api/eval-status/:id', {
    config: { access: 'evaluation', limit: 'read' },
    schema: {
      operationId: 'getEvaluationStatus', tags: ['evaluations'], summary: 'Has it finished?',
      description: '200 when it has, 202 from the answer to its submission until then.',
      params: idParams, response: { 200: statusSchema, 202: statusSchema, ...problems(401, 404) },
    },
  }, async ({ evaluation }, reply) => {
    const status = await statusOf(services, evaluation);
    if (status === undefined) throw notFound();
    return reply.code(status.finished ? 200 : 202).send(status);
  });

  app.post('/api/evaluations/:id/cancel', {
    config: { access: 'evaluation', limit: 'write' },
    schema: {
      operationId: 'cancelEvaluation', tags: ['evaluations'], summary: 'End it and keep its output',
      description: 'Sets spec.cancel in the cluster, with the caller’s own token. Again is no mistake; of what has finished it is a 409.',
      params: idParams, response: { 202: acceptedEvaluation, ...problems(401, 403, 404, 409) },
    },
  }, async (request, reply) => reply.code(202).send(await cancel(services, request.caller, request.evaluation)));
};
