import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildApp } from '../app.ts';
import { Streams } from '../live/sse.ts';
import type { App } from '../routes/route.ts';
import type { Services } from '../services.ts';

// What never gets to a route, over a real socket.

let app: App;
const counted: string[] = [];
beforeAll(async () => {
  const services = {
    notReady: () => undefined, streams: new Streams({ total: 1, each: 1 }), now: Date.now, authenticator: { known: () => undefined },
    rateLimiter: { take: (_request: unknown, _reply: unknown, takes: [string][]) => void counted.push(...takes.map(([policy]) => policy)) },
  } as unknown as Services;
  app = await buildApp(services, { https: undefined, logger: pino({ level: 'silent' }), metrics: undefined, trustedProxies: [], checkAnswers: true });
  await app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(() => app.close());

async function send(text: string): Promise<{ status: number; headers: Map<string, string>; body: { [field: string]: unknown } }> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  let got = '';
  // What is cut off while it is still sending may see the connection reset after the answer.
  socket.on('data', (data: Buffer) => void (got += data.toString())).on('error', () => undefined);
  socket.end(text);
  await once(socket, 'close');
  const [head = '', body = ''] = got.split('\r\n\r\n');
  const [first = '', ...lines] = head.split('\r\n');
  const headers = new Map(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]));
  return { status: Number(first.split(' ')[1]), headers, body: JSON.parse(body || '{}') as { [field: string]: unknown } };
}

const request = (method: string, path: string, headers = '', body = ''): string =>
  `${method} ${path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n${headers}content-length: ${body.length}\r\n\r\n${body}`;

test.each([
  ['what is not HTTP', 'hello\r\n\r\n', 400], ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400], ['a method of somebody’s imagination', request('FOO', '/'), 400],
  ['two lengths', 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', 400],
  ['an address that cannot be read', request('GET', '/api/evaluations/%zz'), 400], ['an id without end', request('GET', `/api/evaluations/${'9'.repeat(25_000)}`), 414],
  ['headers without end', request('GET', '/healthz', `x: ${'y'.repeat(40_000)}\r\n`), 431],
  ['another method', request('PUT', '/api/evaluations', 'content-type: application/json\r\n', '{"a":1}'), 405], ['no path of ours', request('GET', '/api/nothing'), 404],
  ['a packed body', request('POST', '/api/session', 'content-type: application/json\r\ncontent-encoding: gzip\r\n', '{}'), 415],
])('%s is answered by a problem document, with the headers of every answer', async (_what, text, status) => {
  const answer = await send(text);
  expect([answer.status, answer.body]).toEqual([status, expect.objectContaining({ status, detail: expect.any(String) as string, title: expect.any(String) as string })]);
  expect(answer.headers.get('content-type')).toBe('application/problem+json');
  expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
  expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
  expect(JSON.stringify(answer.body).length).toBeLessThan(1000);
});

test('another method is told which there are, whoever asks, and none becomes another', async () => {
  for (const [method, path, allow] of [['DELETE', '/api/evaluations', 'GET, POST'], ['HEAD', '/healthz', 'GET'], ['OPTIONS', '/api/events', 'GET'], ['GET', '/api/plans', 'POST'], ['PATCH', '/api/session', 'DELETE, GET, POST']] as const) {
    const { status, headers } = await send(request(method, path));
    expect([method, path, status, headers.get('allow')]).toEqual([method, path, 405, allow]);
  }
});

test('who looks for what is not there is counted', async () => {
  counted.length = 0;
  await send(request('GET', '/admin.php'));
  await send(request('DELETE', '/api/evaluations'));
  expect(counted).toEqual(['client', 'client', 'read']);
});
