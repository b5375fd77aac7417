import { readState, readStream } from '@crucible/storage';
import { z } from 'zod';
import { sendDownload } from '../http/download.ts';
import { lastEventId, sseEvent } from '../live/sse.ts';
import { guarded } from '../live/guard.ts';
import { streamOutput } from '../live/read-output.ts';
import { Problem, notFound } from '../problems.ts';
import { attemptQuery, idParams, problems } from '../schemas/common.ts';
import { binary, eventStream, rangeHeaders } from '../schemas/content.ts';
import type { Routes } from './route.ts';

const params = idParams.extend({ stream: z.enum(['stdout', 'stderr']) });

export const outputRoutes: Routes = (app, services) => {
  app.get('/api/evaluations/:id/output/:stream', {
    config: { access: 'evaluation', limit: 'download' },
    schema: {
      operationId: 'getOutput', tags: ['output'], summary: 'The bytes of stdout or stderr',
      description: 'As they were written. While the run goes on: what there is so far, without an entity tag.',
      params, querystring: attemptQuery, headers: rangeHeaders,
      response: { 200: binary('text/plain', 'All of it.'), 206: binary('text/plain', 'The range.'), ...problems(401, 404, 410, 416) },
    },
  }, async (request, reply) => {
    const { evaluation: { uid, namespaceUid }, params: { stream }, query: { attempt } } = request;
    const info = await readStream(services.database, { uid, attempt }, stream, [namespaceUid]);
    if (info === undefined) throw notFound('output');
    if (info.deletedAt !== null) throw new Problem(410, 'retention has deleted the bytes; the ledger in the record says what there was');
    const open = (range: { first: number; last: number }) => streamOutput(services.database, { uid, attempt: info.attempt }, stream, [namespaceUid], range);
    return sendDownload(request, reply, { size: info.bytes, sha256: info.sha256 ?? undefined, type: 'text/plain; charset=utf-8', open }) as never;
  });

  app.get('/api/evaluations/:id/output/:stream/stream', {
    config: { access: 'evaluation', limit: 'stream' },
    schema: {
      operationId: 'streamOutput', tags: ['output'], summary: 'stdout or stderr as it comes',
      description: 'Server-sent events `output` with {offset, data}, data in base64; the id is the offset after it, so that Last-Event-ID goes on there. `end` when it is captured.',
      params, querystring: attemptQuery.extend({ offset: z.coerce.number().int().min(0).default(0) }),
      response: { 200: eventStream, ...problems(401, 404) },
    },
  }, async (request, reply) => {
    const { evaluation: { uid, namespaceUid }, params: { stream: name }, query: { attempt, offset } } = request;
    const scope = [namespaceUid];
    const ended = async () => (await readState(services.database, uid, scope))?.state !== 'accepted';
    await guarded(services, request, reply, async (stream, signal) => {
      let seen = lastEventId(request, offset) ?? 0;
      for await (const { offset: at, data, info } of services.output.read({ uid, attempt }, name, seen, { scope, ended, signal })) {
        seen = at + data.length;
        const text = sseEvent(seen, 'output', { offset: at, attempt: info.attempt, data: data.toString('base64') });
        if (!(await stream.send(text))) return;
      }
      if (!signal.aborted) stream.write(sseEvent(seen, 'end', {}));
    });
  });
};
