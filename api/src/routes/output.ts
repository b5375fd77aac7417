import { currentAttempt, followOutput, readStream, type OutputPart } from '@crucible/storage';
import * as z from 'zod';
import { sendDownload } from '../http/download.ts';
import { endStream, openStream } from '../live/guard.ts';
import { lastEventId, sseEvent, type EventStream } from '../live/sse.ts';
import { outputDeleted, streamOutput } from '../live/read-output.ts';
import { notFound } from '../problems.ts';
import { attemptQuery, idParams, problems } from '../schemas/common.ts';
import { binary, eventStream, rangeHeaders } from '../schemas/content.ts';
import type { Routes } from './route.ts';

/** Of one event, before base64. */
const PIECE_BYTES = 64 * 1024;
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
    if (info.deletedAt !== null) throw outputDeleted();
    const open = (range: { first: number; last: number }) => streamOutput(services.database, { evaluationUid: uid, attempt: info.attempt, stream }, range);
    return sendDownload(request, reply, { size: info.bytes, sha256: info.sha256 ?? undefined, type: 'text/plain; charset=utf-8', open }) as never;
  });

  app.get('/api/evaluations/:id/output/:stream/stream', {
    config: { access: 'evaluation', limit: 'stream' },
    schema: {
      operationId: 'streamOutput', tags: ['output'], summary: 'stdout or stderr as it comes',
      description: 'Server-sent events of one attempt (the newest, unless one is named). `output` with {offset, attempt, data}, data in base64; the id is the offset after it, so that Last-Event-ID goes on there. `rewind` with {offset}: lines that were missing there were found, and what is behind comes again. `end` with {attempt, bytes, sha256, complete, truncated, unavailable} when nothing comes any more.',
      params, querystring: attemptQuery.extend({ offset: z.coerce.number().int().min(0).default(0) }),
      response: { 200: eventStream, ...problems(401, 404) },
    },
  }, async (request, reply) => {
    const { evaluation: { uid }, params: { stream: name }, query: { offset } } = request;
    const { database, watch } = services;
    const attempt = request.query.attempt ?? (await currentAttempt(database, uid));
    const stream = openStream(services, request, reply);
    const gone = new AbortController();
    stream.whenEnded(() => gone.abort());
    const from = { offset: lastEventId(request, offset) ?? 0, pieceBytes: PIECE_BYTES, signal: gone.signal };
    await sendOutput(stream, followOutput({ database, watch }, { evaluationUid: uid, attempt, stream: name, ...from }), attempt)
      .then(() => endStream(stream, request), (error: unknown) => endStream(stream, request, error));
  });
};

async function sendOutput(stream: EventStream, parts: AsyncIterable<OutputPart>, attempt: number): Promise<void> {
  for await (const part of parts) if (!(await stream.send(Buffer.from(outputEvent(attempt, part))))) return;
}

/** The id is the offset to go on at. */
function outputEvent(attempt: number, part: OutputPart): string {
  if (part.type === 'rewind') return sseEvent(part.offset, 'rewind', { offset: part.offset, attempt });
  if (part.type === 'data') return sseEvent(part.offset + part.data.length, 'output', { offset: part.offset, attempt, data: part.data.toString('base64') });
  const { bytes, sha256, complete, truncated, unavailable } = part;
  return sseEvent(bytes, 'end', { attempt, bytes, sha256: sha256 === '' ? null : sha256, complete, truncated, unavailable });
}
