import { NotFinishedError, NotFoundError, exportBundle } from '@crucible/storage';
import { Problem, notFound } from '../problems.ts';
import { idParams, problems } from '../schemas/common.ts';
import { binary } from '../schemas/content.ts';
import type { Routes } from './route.ts';

export const bundleRoutes: Routes = (app, services) => {
  app.get('/api/evaluations/:id/bundle', {
    config: { access: 'evaluation', limit: 'download' },
    schema: {
      operationId: 'getBundle', tags: ['evaluations'], summary: 'The evidence of a finished run, as one signed archive',
      description: 'A tar file with the record, output and artifacts, and a verifier’s manifest; see docs/evidence-bundle.md.',
      params: idParams, response: { 200: binary('application/x-tar', 'The archive.'), ...problems(401, 404, 409) },
    },
  }, async ({ evaluation }, reply) => {
    const { database, files, signingKey: key } = services;
    if (key === undefined) throw new Problem(404, 'this installation has no signing key, and makes no bundles');
    const { fileName, stream } = await exportBundle({ database, files, key }, evaluation.uid).catch((error: unknown) => {
      if (error instanceof NotFinishedError) throw new Problem(409, error.message);
      throw error instanceof NotFoundError ? notFound() : error;
    });
    void reply.headers({ 'content-type': 'application/x-tar', 'content-disposition': `attachment; filename="${fileName}"` });
    return reply.send(stream as never);
  });
};
