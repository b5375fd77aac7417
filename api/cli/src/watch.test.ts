import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { StartupAwareClient } from '@crucible/client';
import { afterEach, expect, test } from 'vitest';
import { watch, type Watcher } from './watch.ts';

const ID = '3f0c1b52-8f4e-4c1e-9a57-0d1f9f1f0a01';
const endings: (() => void)[] = [];
afterEach(() => endings.splice(0).forEach((end) => end()));

interface Served {
  room: number;
  refusal: number;
  /** From which look on there is somebody who captures its output. */
  capturedAt?: number;
  /** What is asked for, in order. */
  asked?: string[];
}

/** An API with one run that has finished at the second look, and room for so many streams of events and output at once. */
async function serve({ room, refusal, capturedAt = 1, asked = [] }: Served): Promise<StartupAwareClient> {
  let open = 0;
  let looks = 0;
  const json = (response: ServerResponse, value: unknown, status = 200) =>
    void response.writeHead(status, { 'content-type': `application/${status < 300 ? '' : 'problem+'}json`, 'retry-after': '0' }).end(JSON.stringify(value));
  const server = createServer(({ url = '' }, response) => {
    asked.push(url.replace(`/${ID}`, ''));
    if (url.startsWith('/api/eval-status/')) return json(response, (looks += 1) > 1 ? { id: ID, phase: 'Succeeded', finished: true } : { id: ID, phase: 'Running', finished: false });
    if (url === `/api/evaluations/${ID}`) return json(response, { uid: ID, attempts: [{ number: 1, capture: looks < capturedAt ? null : {} }] });
    if (open >= room) return json(response, { type: 'about:blank', title: 'x', status: refusal, detail: 'too many streams' }, refusal);
    open += 1;
    response.once('close', () => (open -= 1));
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('retry: 1\n\n');
    const data = JSON.stringify({ offset: 0, attempt: 1, data: btoa(url.includes('stdout') ? 'out' : 'err') });
    if (!url.endsWith('/events')) response.end(`id: 3\nevent: output\ndata: ${data}\n\nid: 3\nevent: end\ndata: {}\n\n`);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  endings.push(() => (server.closeAllConnections(), server.close()));
  return new StartupAwareClient({ baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, patience: { startupWindowSeconds: 0 } });
}

async function outputOf(client: StartupAwareClient, streams: readonly ('stdout' | 'stderr')[]): Promise<string[]> {
  const seen: string[] = [];
  const output = async (stream: string, _attempt: number, data: Uint8Array) => void seen.push(`${stream} ${Buffer.from(data).toString()}`);
  const watcher: Watcher = { phase: () => undefined, attempt: () => undefined, outputEnd: () => undefined, output };
  await watch(client, ID, watcher, { streams, signal: new AbortController().signal });
  return seen.sort();
}

// Each looks twice, two seconds apart.

test('one stream at a time is enough: a run that has finished hears of no more events, and its output waits for its turn', async () => {
  expect(await outputOf(await serve({ room: 1, refusal: 429 }), ['stdout', 'stderr'])).toEqual(['stderr err', 'stdout out']);
});

test('without any event a run is followed to its end all the same', async () => {
  expect(await outputOf(await serve({ room: 0, refusal: 503 }), [])).toEqual([]);
});

test('a run that waits for its start costs the API one stream, of its events; output is followed once somebody captures it', async () => {
  const asked: string[] = [];
  expect(await outputOf(await serve({ room: 9, refusal: 429, capturedAt: 2, asked }), ['stdout', 'stderr'])).toEqual(['stderr err', 'stdout out']);
  const secondLook = asked.lastIndexOf('/api/eval-status');
  expect(asked.slice(0, secondLook).sort()).toEqual(['/api/eval-status', '/api/evaluations', '/api/evaluations/events']);
  expect(asked.slice(secondLook).filter((url) => url.includes('output')).map((url) => url.split('?')[0]).sort()).toEqual(['/api/evaluations/output/stderr/stream', '/api/evaluations/output/stdout/stream']);
});
