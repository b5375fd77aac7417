import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ApiProxy, resourceOf } from './api-proxy.ts';
import type { CallFault, LineFault } from './api-proxy.ts';

const LINES = [1, 2, 3].map((version) => JSON.stringify({ type: 'MODIFIED', object: { metadata: { version } } }));
const PATH = '/apis/crucible.dev/v1alpha1/namespaces/evals/evaluations/a/status';
const LOG = 'x'.repeat(5000);
let target: Server;
let proxy: ApiProxy;
let reached: string[];

beforeEach(async () => {
  reached = [];
  target = createServer((incoming: IncomingMessage, response: ServerResponse) => {
    reached.push(`${incoming.method} ${incoming.url}`);
    if (incoming.url?.includes('watch=true')) return void response.end(LINES.map((line) => `${line}\n`).join(''));
    if (incoming.url?.includes('/log')) return void response.end(LOG);
    incoming.resume().on('end', () => response.end('{"ok":true}'));
  });
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  proxy = new ApiProxy({ url: `http://127.0.0.1:${(target.address() as AddressInfo).port}` });
  await proxy.open();
});
afterEach(async () => {
  await proxy.close();
  target.closeAllConnections();
  await new Promise((resolve) => target.close(resolve));
});

const patch = (path = PATH): Promise<Response> => fetch(proxy.url + path, { method: 'PATCH', body: '{}' });
const onPatch = (fault: CallFault): void => {
  proxy.onCall = (call) => (call.mutating ? fault : undefined);
};

describe('calls', () => {
  it('go through, and mutating ones are counted, but no Leases', async () => {
    await fetch(proxy.url + PATH);
    expect(await (await patch()).json()).toEqual({ ok: true });
    await patch('/apis/coordination.k8s.io/v1/namespaces/evals/leases/x');
    expect(proxy.mutations.map(({ number, resource }) => [number, resource])).toEqual([[1, 'evaluations/status']]);
    expect(reached).toHaveLength(3);
  });
  it('are counted by what the API server answered, also when it did not', async () => {
    await fetch(proxy.url + PATH);
    expect([proxy.answers(200), proxy.answers(403), proxy.unanswered]).toEqual([1, 0, 0]);
    target.removeAllListeners('request').on('request', (_, response: ServerResponse) => response.writeHead(403).end());
    expect((await fetch(proxy.url + PATH)).status).toBe(403);
    expect(proxy.answers(403)).toBe(1);
    target.removeAllListeners('request').on('request', (_, response: ServerResponse) => response.destroy());
    await expect(fetch(proxy.url + PATH)).rejects.toThrow();
    expect([proxy.answers(200), proxy.unanswered]).toEqual([1, 1]);
    target.removeAllListeners('request').on('request', () => {});
    const abort = new AbortController();
    const [call, watch] = [PATH, `${PATH}?watch=true`].map((path) => fetch(proxy.url + path, { signal: abort.signal }).catch(() => undefined));
    await expect.poll(() => proxy.keptWaiting(20)).toBe(true);
    expect(proxy.keptWaiting(60_000)).toBe(false);
    abort.abort();
    await Promise.all([call, watch]);
    await expect.poll(() => proxy.keptWaiting(0)).toBe(false);
  });
  it.each([true, false])('are answered with an error (reached: %s)', async (isReached) => {
    onPatch({ kind: 'answer', code: 429, retryAfterSeconds: 7, reached: isReached });
    const response = await patch();
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '7']);
    expect(await response.json()).toMatchObject({ kind: 'Status', reason: 'TooManyRequests' });
    expect(reached).toHaveLength(isReached ? 1 : 0);
  });
  it.each([true, false])('are cut (reached: %s), after what the test does in between', async (isReached) => {
    let seen = -1;
    onPatch({ kind: 'cut', reached: isReached, act: () => void (seen = reached.length) });
    await expect(patch()).rejects.toThrow();
    expect(seen).toBe(isReached ? 1 : 0);
  });
  it('are answered with what was true at another time', async () => {
    proxy.onCall = ({ url }) => (url === `${PATH}?limit=1` ? { kind: 'stale', body: { old: true } } : undefined);
    expect(await (await fetch(`${proxy.url}${PATH}?limit=1`)).json()).toEqual({ old: true });
    expect(reached).toEqual([]);
  });
  it('are sent twice', async () => {
    onPatch({ kind: 'twice' });
    expect((await patch()).status).toBe(200);
    expect(reached).toHaveLength(2);
  });
  it('are never answered', async () => {
    onPatch({ kind: 'withhold', reached: true });
    await expect(fetch(proxy.url + PATH, { method: 'PATCH', signal: AbortSignal.timeout(200) })).rejects.toThrow(/timeout/);
    expect(reached).toHaveLength(1);
  });
});

describe('watch lines', () => {
  const watch = async (fault: (number: number) => LineFault | undefined): Promise<string[]> => {
    proxy.onLine = ({ number }) => fault(number);
    const text = await (await fetch(`${proxy.url}/api/v1/pods?watch=true`)).text();
    return text.trimEnd().split('\n');
  };
  const [one, two, three] = LINES as [string, string, string];
  it.each<[LineFault, string[]]>([
    ['pass', [one, two, three]],
    ['drop', [one, three]],
    ['duplicate', [one, two, two, three]],
    ['replay', [one, two, one, two, three]],
    ['malformed', [one, two.slice(0, two.length / 2), three]],
    [{ delayMs: 5 }, [one, two, three]],
  ])('%j', async (fault, lines) => expect(await watch((number) => (number === 2 ? fault : undefined))).toEqual(lines));
  it('cut', async () => {
    await expect(watch((number) => (number === 2 ? 'cut' : undefined))).rejects.toThrow();
  });
});

it('cuts a log where it is told to', async () => {
  proxy.onLog = () => 1234;
  const response = await fetch(`${proxy.url}/api/v1/namespaces/evals/pods/p/log`);
  let bytes = 0;
  const reading = (async () => {
    for await (const chunk of response.body!) bytes += chunk.length;
  })();
  await expect(reading).rejects.toThrow();
  expect(bytes).toBe(1234);
});

it.each([
  ['/api/v1/namespaces/evals', 'namespaces'],
  ['/api/v1/nodes/n/status', 'nodes/status'],
  ['/api/v1/namespaces/evals/pods', 'pods'],
  ['/api/v1/namespaces/evals/pods/p/log', 'pods/log'],
  ['/apis/batch/v1/namespaces/evals/jobs/j', 'jobs'],
  [PATH, 'evaluations/status'],
])('%s is of %s', (path, resource) => expect(resourceOf(path)).toBe(resource));
