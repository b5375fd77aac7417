import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem } from '../problems.ts';
import { decideRange, notModified, type ByteRange } from './ranges.ts';

export interface Download {
  readonly size: number;
  /** sha256 of the content, hex; undefined while it grows. */
  readonly sha256: string | undefined;
  readonly type: string;
  /** Makes it an attachment. */
  readonly fileName?: string | undefined;
  readonly open: (range: ByteRange) => AsyncIterable<Uint8Array>;
}

/** What a sandbox wrote is data: no browser may guess at it, run it, or let it look like a page of ours. */
const HOSTILE = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "sandbox; default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
};

/** So much is read before the answer begins: a stream costs more than it is, and what cannot be read is an error, not a broken answer. */
const SMALL_BYTES = 256 * 1024;

/** 200, 206, 304 or 416, with an entity tag and ranges. */
export async function sendDownload(request: FastifyRequest, reply: FastifyReply, download: Download): Promise<FastifyReply> {
  const { size, sha256, type, fileName } = download;
  const etag = sha256 === undefined ? undefined : `"${sha256}"`;
  const headers = { ...HOSTILE, 'accept-ranges': 'bytes', 'cache-control': etag === undefined ? 'no-store' : 'private, no-cache', ...(etag !== undefined && { etag }) };
  if (notModified(request.headers['if-none-match'], etag)) return reply.code(304).headers(headers).send();
  const range = decideRange({ range: request.headers.range, ifRange: request.headers['if-range'] as string | undefined, etag, size });
  if (range === 'unsatisfiable')
    throw new Problem(416, `there are ${size} bytes, and the range asks for others`, { headers: { ...HOSTILE, 'accept-ranges': 'bytes', 'content-range': `bytes */${size}` } });
  const part = range === 'whole' ? { first: 0, last: size - 1 } : range;
  const length = part.last - part.first + 1;
  const content = length > SMALL_BYTES ? Readable.from(download.open(part), { objectMode: false }) : await collect(download.open(part));
  void reply.headers({
    ...headers,
    'content-type': type,
    'content-length': String(length),
    ...(fileName !== undefined && { 'content-disposition': attachment(fileName) }),
    ...(range !== 'whole' && { 'content-range': `bytes ${part.first}-${part.last}/${size}` }),
  });
  reply.code(range === 'whole' ? 200 : 206);
  return reply.send(content);
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

/** RFC 6266, with nothing of the name left that could end the header or name a folder. */
function attachment(fileName: string): string {
  const base = fileName.split(/[/\\]/).at(-1) || 'artifact';
  const plain = base.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 150);
  const encoded = encodeURIComponent(base.toWellFormed()).replace(/['()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}
