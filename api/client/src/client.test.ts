import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { build } from 'esbuild';
import { afterEach, expect, test } from 'vitest';
import { ProblemError, StartupAwareClient, UnreachableError, type TransportOptions, type Waiting } from './index.ts';

// A server that says what a test wants, on a real socket: the protocol as the API speaks it.

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

/** Answers one request after the other with these; the last one answers all that follow. */
async function serve(...handlers: Handler[]): Promise<{ url: string; seen: IncomingMessage[]; bodies: string[] }> {
  const seen: IncomingMessage[] = [];
  const bodies: string[] = [];
  server = createServer((request, response) => {
    let body = '';
    request
      .setEncoding('utf8')
      .on('data', (piece: string) => (body += piece))
      .on('end', () => {
        seen.push(request);
        bodies.push(body);
        (handlers[seen.length - 1] ?? handlers.at(-1))?.(request, response, body);
      });
  });
  await new Promise<void>((done) => server?.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen, bodies };
}

const json =
  (value: unknown, status = 200): Handler =>
  (_, response) =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
const problem =
  (status: number, detail: string, headers: Record<string, string> = {}, more: object = {}): Handler =>
  (_, response) =>
    void response
      .writeHead(status, { 'content-type': 'application/problem+json', ...headers })
      .end(JSON.stringify({ type: 'about:blank', title: 'x', status, detail, ...more }));
const breakOff: Handler = (request) => void request.socket.destroy();
const STATUS = { id: ID(), phase: 'Queued', finished: false };

function ID(): string {
  return '3f0c1b52-8f4e-4c1e-9a57-0d1f9f1f0a01';
}

function clientOf(
  baseUrl: string,
  options: Partial<TransportOptions> = {},
): { client: StartupAwareClient; waits: Waiting[] } {
  const waits: Waiting[] = [];
  return {
    client: new StartupAwareClient({
      baseUrl,
      token: () => 'secret',
      onWait: (waiting) => void waits.push(waiting),
      ...options,
    }),
    waits,
  };
}

test('a start-up is waited out, and what is waited for is told', async () => {
  const starting = problem(503, 'Crucible is starting: the schema is behind', { 'retry-after': '0' });
  const { url, seen } = await serve(starting, starting, json(STATUS, 202));
  const { client, waits } = clientOf(url);
  expect(await client.status(ID())).toEqual(STATUS);
  expect(seen[2]?.headers.authorization).toBe('Bearer secret');
  expect(waits.map(({ reason, status, seconds }) => ({ reason, status, seconds }))).toEqual(
    Array(2).fill({ reason: 'Crucible is starting: the schema is behind', status: 503, seconds: 0 }),
  );
});

test('not beyond its window, and never sooner than the server asks', async () => {
  const { url, seen } = await serve(problem(503, 'starting', { 'retry-after': '30' }));
  const { client, waits } = clientOf(url, { patience: { startupWindowSeconds: 29 } });
  await expect(client.status(ID())).rejects.toMatchObject({ status: 503, retryAfterSeconds: 30 });
  expect([seen.length, waits.length]).toEqual([1, 0]);
});

test('429 is waited out as long as Retry-After says', async () => {
  const { url } = await serve(problem(429, 'wait 1 s', { 'retry-after': '1' }), json(STATUS));
  const { client, waits } = clientOf(url);
  const begun = Date.now();
  await client.status(ID());
  expect(Date.now() - begun).toBeGreaterThanOrEqual(990);
  expect(waits).toMatchObject([{ status: 429, seconds: 1 }]);
});

test('a problem document is a typed error, with every field of it; so is a proxy’s page', async () => {
  const errors = [{ field: 'body.spec.code', message: 'too long' }];
  const { url } = await serve(
    problem(422, 'refused', {}, { instance: 'r-1', errors }),
    (_, response) => void response.writeHead(502).end('<html>'),
  );
  const { client } = clientOf(url);
  const first = await client.status(ID()).catch((error: unknown) => error);
  expect(first).toBeInstanceOf(ProblemError);
  expect(first).toMatchObject({ message: 'refused', status: 422, requestId: 'r-1', problem: { errors } });
  await expect(client.status(ID())).rejects.toMatchObject({
    status: 502,
    message: expect.stringContaining('is this Crucible’s API?') as string,
  });
});

test('a connection that breaks is tried again, also within an answer; one that was never there only for a while', async () => {
  const half: Handler = (_, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' }).write('{"id":');
    setImmediate(() => response.destroy());
  };
  const { url, seen } = await serve(breakOff, half, json(STATUS));
  const { client } = clientOf(url);
  expect(await client.status(ID())).toEqual(STATUS);
  expect(seen.length).toBe(3);
  server?.closeAllConnections();
  await new Promise((done) => server?.close(done));
  const nobody = clientOf(url, { patience: { connectWindowSeconds: 0 } });
  await expect(nobody.client.status(ID())).rejects.toMatchObject({ name: 'UnreachableError', code: 'ECONNREFUSED' });
  await expect(clientOf('http://nowhere.invalid').client.status(ID())).rejects.toBeInstanceOf(UnreachableError);
});

test('a submission is made once, however often it is tried; one by the plain operation is not repeated', async () => {
  const submission = { metadata: { namespace: 'evals' }, spec: { runtime: 'python', code: 'x' } };
  let name = '';
  const { url, bodies } = await serve(
    (request, _, body) => {
      ({ name } = (JSON.parse(body) as { metadata: { name: string } }).metadata);
      request.socket.destroy(); // Created, and the answer is lost.
    },
    problem(409, 'exists'),
    (_, response) =>
      json({
        items: [
          { name: `${name}-other`, uid: 'x' },
          { name, uid: ID() },
        ],
      })(_, response, ''),
    problem(503, 'created, but not recorded; do not submit it again', { 'retry-after': '0' }),
  );
  const { client } = clientOf(url);
  expect(await client.submit(submission)).toMatchObject({ id: ID(), namespace: 'evals', name });
  expect(name).toMatch(/^eval-[a-z0-9]{10}$/);
  expect(JSON.parse(bodies[1] ?? '')).toEqual(JSON.parse(bodies[0] ?? ''));
  await expect(client.api.POST('/api/evaluations', { body: submission })).rejects.toMatchObject({ status: 503 });
  expect(bodies.length).toBe(4);
});

test('a name that was given and is taken is the caller’s to know', async () => {
  const { url, seen } = await serve(problem(409, 'exists'));
  await expect(
    clientOf(url).client.submit({
      metadata: { namespace: 'evals', name: 'mine' },
      spec: { runtime: 'python', code: 'x' },
    }),
  ).rejects.toMatchObject({ status: 409 });
  expect(seen.length).toBe(1);
});

test('events come once each, over connections that break, restart and lie about nothing', async () => {
  const event = (id: number) => `id: ${id}\nevent: evaluation.phase\ndata: {"position":"${id}"}\n\n`;
  const stream =
    (text: string): Handler =>
    (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(`retry: 1\n\n: hello\n\n${text}`);
      setTimeout(() => response.destroy(), 20);
    };
  const { url, seen } = await serve(
    stream(event(1) + event(2) + 'id: 3\nevent: cut'),
    problem(503, 'restarting', { 'retry-after': '0' }),
    stream(''),
    stream(event(3)),
  );
  const reconnects: (string | undefined)[] = [];
  const positions: string[] = [];
  for await (const { position } of clientOf(url).client.events(ID(), {
    onReconnect: () => reconnects.push(positions.at(-1)),
  })) {
    positions.push(position);
    if (position === '3') break;
  }
  expect(positions).toEqual(['1', '2', '3']);
  expect(reconnects).toEqual(['2', '2']);
  expect(seen.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '2', '2', '2']);
});

test('whoever has too many streams open waits for a turn, however long, and misses nothing', async () => {
  const full = problem(429, '100 event streams of yours are open', { 'retry-after': '0' });
  const send: Handler = (_, response) =>
    void response
      .writeHead(200, { 'content-type': 'text/event-stream' })
      .end('id: 8\nevent: evaluation.phase\ndata: {"position":"8"}\n\n');
  const { url } = await serve(full, full, full, send);
  // No window at all: the transport gives up each time.
  const { client } = clientOf(url, { patience: { startupWindowSeconds: -1 } });
  for await (const { position } of client.events(ID())) {
    expect(position).toBe('8');
    break;
  }
});

test('a stream that is cut off before its first event goes on where it said that it began', async () => {
  const send =
    (text: string): Handler =>
    (_, response) =>
      void response.writeHead(200, { 'content-type': 'text/event-stream' }).end(`retry: 1\n\n${text}`);
  const { url, seen } = await serve(
    send('id: 7\n\n'),
    send('id: 7\n\nid: 8\nevent: evaluation.phase\ndata: {"position":"8"}\n\n'),
  );
  for await (const { position } of clientOf(url).client.allEvents()) {
    expect(position).toBe('8');
    break;
  }
  expect(seen.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '7']);
});

test('output goes on at the byte where it broke off, until it ends', async () => {
  const piece = (offset: number, text: string) =>
    `id: ${offset + text.length}\nevent: output\ndata: ${JSON.stringify({ offset, attempt: 2, data: btoa(text) })}\n\n`;
  const send =
    (text: string): Handler =>
    (_, response) =>
      void response.writeHead(200, { 'content-type': 'text/event-stream' }).end(`retry: 1\n\n${text}`);
  const { url, seen } = await serve(send(piece(5, 'ab\xff')), send(piece(8, 'c') + 'id: 9\nevent: end\ndata: {}\n\n'));
  const data: number[] = [];
  for await (const each of clientOf(url).client.followOutput(ID(), 'stdout', { attempt: 2, offset: 5 }))
    data.push(...each.data);
  expect(data).toEqual([97, 98, 255, 99]);
  expect(seen.map(({ url: path, headers }) => [path, headers['last-event-id']])).toEqual(
    [['5'], ['8']].map(([id]) => [`/api/evaluations/${ID()}/output/stdout/stream?attempt=2`, id]),
  );
});

test('a signal ends what waits, a request and a stream, with its reason', async () => {
  const { url } = await serve(
    problem(503, 'starting', { 'retry-after': '60' }),
    () => undefined,
    (_, response) => void response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': here\n\n'),
  );
  for (const start of [
    (client: StartupAwareClient, signal: AbortSignal) => client.status(ID(), { signal }),
    (client: StartupAwareClient, signal: AbortSignal) => client.status(ID(), { signal }),
    (client: StartupAwareClient, signal: AbortSignal) => client.events(ID(), { signal }).next(),
  ]) {
    const controller = new AbortController();
    const { client } = clientOf(url);
    const work = start(client, controller.signal);
    setTimeout(() => controller.abort(new Error('enough')), 30);
    await expect(work).rejects.toThrow('enough');
  }
});

test('a stream and a download end with their signal, whatever has been collected as garbage in between', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const { url } = await serve((_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('id: 1\ndata: {"position":"1"}\n\n');
    const beat = setInterval(() => response.write(': still here\n\n'), 10);
    response.once('close', () => clearInterval(beat));
  });
  const { client } = clientOf(url);
  const read = async (start: (signal: AbortSignal) => Promise<AsyncIterable<unknown>>, end: AbortController) => {
    for await (const each of await start(end.signal)) void each;
  };
  for (const start of [
    async (signal: AbortSignal) => client.events(ID(), { signal }),
    async (signal: AbortSignal) => (await client.output(ID(), 'stdout', { signal })).body,
  ]) {
    const end = new AbortController();
    const reading = expect(read(start, end)).rejects.toThrow('enough');
    for (let round = 0; round < 10; round += 1) {
      await new Promise((done) => setTimeout(done, 20));
      collect();
    }
    end.abort(new Error('enough'));
    await reading;
  }
});

test('a right that has gone ends a stream with the problem', async () => {
  const { url } = await serve(
    (_, response) => void response.writeHead(200, { 'content-type': 'text/event-stream' }).end('retry: 1\n\n'),
    problem(404, 'no such evaluation'),
  );
  await expect(clientOf(url).client.events(ID()).next()).rejects.toMatchObject({ status: 404 });
});

test('a token goes to nobody else: redirects are not followed', async () => {
  const { url, seen } = await serve((_, response) => void response.writeHead(302, { location: '/elsewhere' }).end());
  await expect(
    clientOf(url, { patience: { connectWindowSeconds: 0, startupWindowSeconds: 0 } }).client.status(ID()),
  ).rejects.toBeInstanceOf(UnreachableError);
  expect(seen.length).toBe(1);
});

test('it runs in a browser: nothing of Node.js is in it', async () => {
  const { outputFiles, metafile } = await build({
    entryPoints: [join(import.meta.dirname, 'index.ts')],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    metafile: true,
  });
  expect(Object.keys(metafile.inputs).length).toBeGreaterThan(5);
  expect(
    outputFiles[0]?.text.match(/\bBuffer\b|\brequire\(|['"]node:|globalThis\.process|process\.(env|argv|std)/g),
  ).toBeNull();
});
