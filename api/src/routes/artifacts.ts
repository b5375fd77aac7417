import { findArtifact, listArtifacts } from '@crucible/storage';
import * as z from 'zod';
import { sendDownload } from '../http/download.ts';
import { readContent } from '../http/content.ts';
import { Problem, notFound } from '../problems.ts';
import { attemptQuery, idParams, problems } from '../schemas/common.ts';
import { binary, rangeHeaders } from '../schemas/content.ts';
import { artifactSchema } from '../schemas/evaluation.ts';
import type { Routes } from './route.ts';

export const artifactRoutes: Routes = (app, services) => {
  app.get('/api/evaluations/:id/artifacts', {
    config: { access: 'evaluation', limit: 'read' },
    schema: {
      operationId: 'listArtifacts', tags: ['artifacts'], summary: 'Files that were kept, and those that were refused',
      params: idParams, querystring: attemptQuery,
      response: { 200: z.object({ items: z.array(artifactSchema) }), ...problems(401, 404) },
    },
  }, async ({ evaluation: { uid, namespaceUid }, query: { attempt } }) => {
    return { items: (await listArtifacts(services.database, { uid, attempt }, [namespaceUid])) ?? [] };
  });

  app.get('/api/evaluations/:id/artifacts/*', {
    config: { access: 'evaluation', limit: 'download' },
    schema: {
      operationId: 'getArtifact', tags: ['artifacts'], summary: 'One file',
      description: 'By the path that the sandbox gave it, percent-encoded. The path is compared and nothing else is done with it.',
      params: idParams.extend({ '*': z.string().min(1).max(4096).describe('Path of the artifact.') }),
      querystring: attemptQuery, headers: rangeHeaders,
      response: { 200: binary('application/octet-stream', 'All of it.'), 206: binary('application/octet-stream', 'The range.'), ...problems(401, 404, 410, 416) },
    },
  }, async (request, reply) => {
    const { evaluation: { uid, namespaceUid }, params: { '*': path }, query: { attempt } } = request;
    const found = await findArtifact(services.database, { uid, attempt }, path, [namespaceUid]);
    if (found === undefined) throw notFound('artifact');
    if (found.sha256 === null || !found.complete) throw new Problem(404, `its content was not kept: ${found.refused ?? 'it came incomplete'}`);
    if (found.deletedAt !== null) throw new Problem(410, 'retention has deleted its content; name, size and hash are in the record');
    const { sha256, size } = found;
    return sendDownload(request, reply, { size, sha256, type: 'application/octet-stream', fileName: path, open: await readContent(services.files, sha256) }) as never;
  });
};
