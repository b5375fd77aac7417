import { getEventListeners } from 'node:events';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubeClient } from './client.ts';
import {
  isAlreadyExists,
  isConflict,
  isGone,
  isNamespaceTerminating,
  isNotFound,
  isQuotaExceeded,
  isTransient,
  KubeError,
} from './errors.ts';
import { KubeMetrics } from './metrics.ts';
import { CONFIG_MAPS, EVALUATIONS, JOBS, NODES, PODS, type KubeObject } from './resources.ts';
import { FakeClock, settle } from './testing.ts';
import { ScriptedServer, type Exchange } from './testing-server.ts';
import type { KubeClientOptions } from './types.ts';

const TOKEN = 'secret-token-value';

let server: ScriptedServer;
let clock: FakeClock;
let client: KubeClient;
let logs: string;

function makeClient(options: Partial<KubeClientOptions> = {}): KubeClient {
  const logger = pino(
    { level: 'trace' },
    {
      write: (line: string) => {
        logs += line;
      },
    },
  );
  return new KubeClient({ access: server.access(TOKEN), logger, clock, random: () => 0, ...options });
}

beforeEach(async () => {
  logs = '';
  server = await ScriptedServer.start();
  clock = new FakeClock();
  client = makeClient();
});

afterEach(async () => {
  await client.close();
  await server.close();
});

const pod = (name: string, extra: object = {}): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'evals', ...extra },
});

async function failure(promise: Promise<unknown>): Promise<KubeError> {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(KubeError);
  return error as KubeError;
}

describe('connections', () => {
  it('keeps its connection: client-node makes a new agent for every call', async () => {
    server.handler = (exchange) => exchange.json(pod('a'));
    for (let i = 0; i < 20; i += 1) await client.get(PODS, 'evals', 'a');
    // A second one when a call begins in the very turn in which the one before ends.
    expect(server.connections).toBeLessThanOrEqual(2);
  });

  it('sends two hundred calls at once over a few connections', async () => {
    server.handler = (exchange) => exchange.json(pod('a'));
    await Promise.all(Array.from({ length: 200 }, () => client.get(PODS, 'evals', 'a')));
    expect(server.connections).toBeLessThanOrEqual(32);
  });

  it('lets the urgent call pass those that wait', async () => {
    client = makeClient({ maxInFlight: 1 });
    const first = client.get(PODS, 'evals', 'first');
    const slow = await server.next();
    const second = client.get(PODS, 'evals', 'second');
    const urgent = client.get(PODS, 'evals', 'urgent', { urgent: true });
    const passed = await server.next();
    expect(passed.path).toMatch(/urgent$/);
    passed.json(pod('urgent'));
    await urgent;
    slow.json(pod('first'));
    await first;
    (await server.next()).json(pod('second'));
    await second;
  });

  it('does not count watches and logs against the calls', async () => {
    client = makeClient({ maxInFlight: 1 });
    const opening = client.watch(PODS, { resourceVersion: '1', timeoutSeconds: 300 });
    (await server.next()).open();
    await opening;
    const call = client.get(PODS, 'evals', 'a');
    (await server.next()).json(pod('a'));
    await call;
  });
});

describe('requests', () => {
  async function sent(call: () => Promise<unknown>): Promise<Exchange> {
    const done = call();
    const exchange = await server.next();
    exchange.json(pod('a'));
    await done;
    return exchange;
  }

  it('sets every content type itself: client-node would send JSON Patch', async () => {
    const strict = { fieldValidation: 'Strict' };
    const apply = await sent(() => client.apply(PODS, pod('a'), { fieldManager: 'm', force: true }));
    expect(apply).toMatchObject({
      method: 'PATCH',
      path: '/api/v1/namespaces/evals/pods/a',
      query: { fieldManager: 'm', force: 'true', ...strict },
    });
    expect(apply.headers['content-type']).toBe('application/apply-patch+yaml');
    const merge = await sent(() =>
      client.mergePatch(EVALUATIONS, 'evals', 'e', { status: {} }, { subresource: 'status' }),
    );
    expect(merge).toMatchObject({
      path: '/apis/crucible.dev/v1alpha1/namespaces/evals/evaluations/e/status',
      body: { status: {} },
    });
    expect(merge.headers['content-type']).toBe('application/merge-patch+json');
    const json = await sent(() =>
      client.jsonPatch(PODS, 'evals', 'a', [{ op: 'remove', path: '/metadata/finalizers/0' }]),
    );
    expect(json.headers['content-type']).toBe('application/json-patch+json');
    const create = await sent(() =>
      client.create(JOBS, { ...pod('a'), kind: 'Job' }, { fieldManager: 'm', dryRun: true }),
    );
    expect(create).toMatchObject({
      method: 'POST',
      path: '/apis/batch/v1/namespaces/evals/jobs',
      query: { fieldManager: 'm', dryRun: 'All', ...strict },
    });
    expect(create.headers['content-type']).toBe('application/json');
    expect(create.headers['accept']).toBe('application/json');
    const short = await sent(() => client.create(PODS, pod('a'), { metadataOnly: true }));
    expect(short.headers['accept']).toMatch(/^application\/json;as=PartialObjectMetadata;/);
    const replace = await sent(() => client.replace(PODS, pod('a', { resourceVersion: '5' })));
    expect(replace).toMatchObject({ method: 'PUT', path: '/api/v1/namespaces/evals/pods/a' });
    expect(replace.headers.authorization).toBe(`Bearer ${TOKEN}`);
    expect(replace.headers.accept).toBe('application/json');
  });

  it('deletes this object and no other', async () => {
    const exchange = await sent(() =>
      client.delete(JOBS, 'evals', 'a', { uid: 'u', propagationPolicy: 'Background', gracePeriodSeconds: 0 }),
    );
    expect(exchange.method).toBe('DELETE');
    expect(exchange.body).toEqual({
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: 'Background',
      gracePeriodSeconds: 0,
      preconditions: { uid: 'u' },
    });
    expect((await sent(() => client.delete(JOBS, 'evals', 'a'))).body).toEqual({
      apiVersion: 'v1',
      kind: 'DeleteOptions',
    });
  });

  it('never turns one object into a collection', async () => {
    expect(() => client.get(PODS, 'evals', '')).toThrow(TypeError);
    expect(() => client.get(PODS, undefined, 'a')).toThrow(/needs a namespace/);
    await expect(client.delete(PODS, 'evals', '')).rejects.toThrow(TypeError);
    expect((await sent(() => client.get(PODS, 'evals', '../../nodes'))).path).toBe(
      '/api/v1/namespaces/evals/pods/..%2F..%2Fnodes',
    );
    expect((await sent(() => client.get(NODES, undefined, 'n'))).path).toBe('/api/v1/nodes/n');
  });

  it('counts requests by verb, kind and code', async () => {
    const registry = new Registry();
    client = makeClient({ metrics: new KubeMetrics(registry) });
    await sent(() => client.get(PODS, 'evals', 'a'));
    const missing = failure(client.get(PODS, 'evals', 'a'));
    (await server.next()).fail(404, 'NotFound');
    await missing;
    const text = await registry.metrics();
    expect(text).toContain('crucible_kube_requests_total{verb="get",resource="pods",code="200"} 1');
    expect(text).toContain('crucible_kube_requests_total{verb="get",resource="pods",code="404"} 1');
  });
});

describe('errors', () => {
  async function answered(code: number, reason: string, message = '', details?: object): Promise<KubeError> {
    const error = failure(client.create(CONFIG_MAPS, pod('a')));
    (await server.next()).fail(code, reason, message, {}, details);
    return error;
  }

  it('tells them apart', async () => {
    expect(isNotFound(await answered(404, 'NotFound'))).toBe(true);
    const exists = await answered(409, 'AlreadyExists');
    expect([isAlreadyExists(exists), isConflict(exists)]).toEqual([true, false]);
    const conflict = await answered(409, 'Conflict');
    expect([isAlreadyExists(conflict), isConflict(conflict)]).toEqual([false, true]);
    expect(isGone(await answered(410, 'Expired'))).toBe(true);
    expect(isQuotaExceeded(await answered(403, 'Forbidden', 'pods "a" is forbidden: exceeded quota: q'))).toBe(true);
    expect(isQuotaExceeded(await answered(403, 'Forbidden', 'no'))).toBe(false);
    expect(
      isNamespaceTerminating(await answered(403, 'Forbidden', 'm', { causes: [{ reason: 'NamespaceTerminating' }] })),
    ).toBe(true);
    expect(isTransient(await answered(500, 'InternalError'))).toBe(true);
    expect(isTransient(await answered(422, 'Invalid'))).toBe(false);
  });

  it('says what was asked, and what the server said', async () => {
    const error = await answered(404, 'NotFound', 'namespaces "evals" not found');
    expect(error).toMatchObject({
      code: 404,
      reason: 'NotFound',
      message: 'POST /api/v1/namespaces/evals/configmaps: 404 namespaces "evals" not found',
    });
  });

  it('does not repeat the values of a refused object', async () => {
    const error = await answered(
      422,
      'Invalid',
      'spec.x: Invalid value: "pass\\"word": must be short, spec.y: Invalid value: {"a":"b"}: no',
    );
    expect(error.message).toMatch(
      /422 spec.x: Invalid value: …: must be short, spec.y: Invalid value: …: no$/,
    );
  });

  it('survives an answer that is not from an API server', async () => {
    const error = failure(client.get(PODS, 'evals', 'a'));
    (await server.next()).response.writeHead(502, { 'content-type': 'text/html' }).end('<html>bad gateway</html>');
    expect(await error).toMatchObject({ code: 502, reason: 'Unknown' });
    const garbage = failure(client.get(PODS, 'evals', 'a'));
    (await server.next()).response.end('OK');
    expect(await garbage).toMatchObject({ code: 0, reason: 'InvalidResponse' });
  });

  it('limits the size of an answer', async () => {
    client = makeClient({ maxResponseBytes: 1000 });
    const error = failure(client.get(PODS, 'evals', 'a'));
    const exchange = await server.next();
    exchange.open().raw('x'.repeat(1001));
    expect(await error).toMatchObject({ reason: 'ResponseTooLarge' });
    await exchange.closed;
  });

  it('never shows the token', async () => {
    const error = failure(client.get(PODS, 'evals', 'a'));
    (await server.next()).fail(403, 'Forbidden');
    const down = await error;
    await server.close();
    const lost = await failure(client.create(PODS, pod('a')));
    expect(lost).toMatchObject({ code: 0, reason: 'ConnectionFailed' });
    pino(
      { level: 'trace' },
      {
        write: (line: string) => {
          logs += line;
        },
      },
    ).error({ err: lost, other: down });
    expect(logs).toContain('ConnectionFailed');
    expect(logs).not.toContain(TOKEN);
  });
});

describe('throttling', () => {
  it('waits as long as Retry-After says, then asks again', async () => {
    const call = client.get(PODS, 'evals', 'a');
    (await server.next()).fail(429, 'TooManyRequests', 'slow', { 'retry-after': '3' });
    await clock.timer((ms) => ms === 3000);
    expect(server.unclaimed).toBe(0);
    await clock.advance(3000);
    (await server.next()).json(pod('a'));
    expect(await call).toMatchObject({ metadata: { name: 'a' } });
  });

  it('understands a date, and 503', async () => {
    const call = client.apply(PODS, pod('a'), { fieldManager: 'm' });
    (await server.next()).fail(503, 'ServiceUnavailable', '', {
      'retry-after': new Date(clock.now() + 7000).toUTCString(),
    });
    await clock.advance(await clock.timer((ms) => ms >= 6000 && ms <= 7000));
    (await server.next()).json(pod('a'));
    await call;
  });

  it('does not repeat a create: it says when to come back', async () => {
    const error = failure(client.create(PODS, pod('a')));
    (await server.next()).fail(429, 'TooManyRequests', 'slow', { 'retry-after': '3' });
    expect(await error).toMatchObject({ code: 429, retryAfterSeconds: 3 });
    await settle();
    expect(server.unclaimed).toBe(0);
  });

  it('does not wait beyond the time it has', async () => {
    const error = failure(client.get(PODS, 'evals', 'a', { timeoutMs: 5000 }));
    (await server.next()).fail(429, 'TooManyRequests', 'slow', { 'retry-after': '60' });
    expect(await error).toMatchObject({ code: 429, retryAfterSeconds: 60 });
  });

  it('does not wait for a day', async () => {
    const call = client.get(PODS, 'evals', 'a', { timeoutMs: 600_000 });
    (await server.next()).fail(503, 'ServiceUnavailable', 'tomorrow', { 'retry-after': '86400' });
    await clock.timer((ms) => ms === 60_000);
    await clock.advance(60_000);
    (await server.next()).json(pod('a'));
    await call;
    expect(logs).toContain('"askedSeconds":86400');
  });

  it('gives up after some rounds', async () => {
    const error = failure(client.get(PODS, 'evals', 'a'));
    for (let i = 0; i < 5; i += 1) {
      (await server.next()).fail(429, 'TooManyRequests', 'slow', { 'retry-after': '1' });
      await clock.timer((ms) => ms === 1000);
      await clock.advance(1000);
    }
    (await server.next()).fail(429, 'TooManyRequests', 'slow', { 'retry-after': '1' });
    expect(await error).toMatchObject({ code: 429 });
  });

  it('does not repeat what the server failed at without asking for it', async () => {
    const error = failure(client.get(PODS, 'evals', 'a'));
    (await server.next()).fail(500, 'InternalError');
    expect(await error).toMatchObject({ code: 500 });
  });
});

describe('lost connections', () => {
  it('repeats a read once', async () => {
    const call = client.get(PODS, 'evals', 'a');
    (await server.next()).cut();
    (await server.next()).json(pod('a'));
    await call;
    const error = failure(client.get(PODS, 'evals', 'a'));
    (await server.next()).cut();
    (await server.next()).cut();
    expect(await error).toMatchObject({ code: 0, reason: 'ConnectionFailed' });
  });

  it('does not repeat a create, which may have happened', async () => {
    const error = failure(client.create(PODS, pod('a')));
    (await server.next()).cut();
    expect(await error).toMatchObject({ code: 0, reason: 'ConnectionFailed' });
    await settle();
    expect(server.unclaimed).toBe(0);
  });

  it.each(['nothing', 'headers', 'half a body'])('ends in time when the server sends %s', async (what) => {
    const error = failure(client.get(PODS, 'evals', 'a', { timeoutMs: 4000 }));
    const exchange = await server.next();
    if (what !== 'nothing') exchange.open();
    if (what === 'half a body') exchange.raw('{"metadata":');
    await clock.advance(3999);
    await clock.advance(1);
    expect(await error).toMatchObject({ code: 0, reason: 'Timeout' });
    await exchange.closed;
    expect(clock.pending).toEqual([]);
  });

  it('ends when the caller aborts: under way, and while waiting to be sent', async () => {
    client = makeClient({ maxInFlight: 1 });
    const first = new AbortController();
    const second = new AbortController();
    const underWay = failure(client.get(PODS, 'evals', 'a', { signal: first.signal }));
    const exchange = await server.next();
    const waiting = failure(client.get(PODS, 'evals', 'b', { signal: second.signal }));
    second.abort();
    expect(await waiting).toMatchObject({ reason: 'Aborted' });
    first.abort();
    expect(await underWay).toMatchObject({ reason: 'Aborted' });
    await exchange.closed;
    expect(await failure(client.get(PODS, 'evals', 'a', { signal: first.signal }))).toMatchObject({
      reason: 'Aborted',
    });
  });
});

describe("the caller's signal", () => {
  it('may live as long as the process: nothing stays attached to it', async () => {
    const { signal } = new AbortController();
    const call = client.get(PODS, 'evals', 'a', { signal });
    (await server.next()).json(pod('a'));
    await call;
    const failed = failure(client.get(PODS, 'evals', 'a', { signal }));
    (await server.next()).fail(404, 'NotFound');
    await failed;
    const opening = client.watch(PODS, { resourceVersion: '1', timeoutSeconds: 300, signal });
    (await server.next()).open().end();
    for await (const _ of await opening) throw new Error('no event was sent');
    await settle();
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});

describe('credentials', () => {
  it('are read again after a 401, once', async () => {
    let n = 0;
    client = makeClient({
      access: { ...server.access(), load: async () => ({ headers: { authorization: `Bearer t${n++}` }, tls: {} }) },
    });
    const call = client.create(PODS, pod('a'));
    (await server.next()).fail(401, 'Unauthorized');
    const again = await server.next();
    expect(again.headers.authorization).toBe('Bearer t1');
    again.fail(401, 'Unauthorized');
    expect(await failure(call)).toMatchObject({ code: 401 });
  });

  it('are read again after a minute, and kept when that fails', async () => {
    let token: string | undefined = 'one';
    const load = async () => {
      if (token === undefined) throw Object.assign(new Error('gone'), { code: 'ENOENT' });
      return { headers: { authorization: token }, tls: {} };
    };
    client = makeClient({ access: { ...server.access(), load } });
    const seen = async (): Promise<string | undefined> => {
      const call = client.get(PODS, 'evals', 'a');
      const exchange = await server.next();
      exchange.json(pod('a'));
      await call;
      return exchange.headers.authorization;
    };
    expect(await seen()).toBe('one');
    token = 'two';
    expect(await seen()).toBe('one');
    await clock.advance(60_000);
    expect(await seen()).toBe('two');
    token = undefined;
    await clock.advance(60_000);
    expect(await seen()).toBe('two');
    expect(logs).toContain('ENOENT');
    token = 'three';
    await clock.advance(10_000);
    expect(await seen()).toBe('three');
  });
});

describe('certificates', () => {
  it('that change mean new connections, and the watch on the old one goes on', async () => {
    let servername = 'one';
    client = makeClient({ access: { ...server.access(), load: async () => ({ headers: {}, tls: { servername } }) } });
    const opening = client.watch(PODS, { resourceVersion: '1', timeoutSeconds: 300 });
    const watch = (await server.next()).open();
    const events = (await opening)[Symbol.asyncIterator]();
    const call = async (): Promise<void> => {
      const done = client.get(PODS, 'evals', 'a');
      (await server.next()).json(pod('a'));
      await done;
    };
    await call();
    await clock.advance(60_000);
    await call();
    expect(server.connections).toBe(2);
    servername = 'two';
    await clock.advance(60_000);
    await call();
    expect(server.connections).toBe(3);
    watch.event('ADDED', pod('b', { resourceVersion: '2' }));
    expect((await events.next()).value).toMatchObject({ type: 'ADDED' });
  });
});

describe('list', () => {
  it('reads all pages and fills in what lists leave out', async () => {
    const list = client.list(PODS, { namespace: 'evals', labelSelector: 'a in (b,c)', limit: 2 });
    const first = await server.next();
    expect(first).toMatchObject({
      path: '/api/v1/namespaces/evals/pods',
      query: { limit: '2', labelSelector: 'a in (b,c)' },
    });
    const items = [{ metadata: { name: 'a', creationTimestamp: '2026-01-01T00:00:00Z' } }, { metadata: { name: 'b' } }];
    first.json({ metadata: { resourceVersion: '7', continue: 'c1' }, items });
    const second = await server.next();
    expect(second.query).toMatchObject({ continue: 'c1', limit: '2' });
    second.json({ metadata: { resourceVersion: '7' }, items: [{ metadata: { name: 'c' } }] });
    const result = await list;
    expect(result.resourceVersion).toBe('7');
    expect(result.items.map((item) => [item.apiVersion, item.kind, item.metadata.name])).toEqual([
      ['v1', 'Pod', 'a'],
      ['v1', 'Pod', 'b'],
      ['v1', 'Pod', 'c'],
    ]);
    // A string, as in watches: client-node makes it a Date in lists only.
    expect(result.items[0]!.metadata.creationTimestamp).toBe('2026-01-01T00:00:00Z');
  });

  it('starts again when a continue token expires, in the end without pages', async () => {
    const list = client.list(PODS);
    for (let i = 0; i < 3; i += 1) {
      const first = await server.next();
      expect(first.query).toEqual({ limit: '500' });
      first.json({ metadata: { resourceVersion: `${i}`, continue: 'c' }, items: [{ metadata: { name: 'old' } }] });
      (await server.next()).fail(410, 'Expired');
    }
    const whole = await server.next();
    expect(whole.query).toEqual({});
    whole.json({ metadata: { resourceVersion: '9' }, items: null });
    expect(await list).toEqual({ resourceVersion: '9', items: [] });
  });

  it('does not take a 410 of the first page for that', async () => {
    const error = failure(client.list(PODS, { resourceVersion: '5', resourceVersionMatch: 'NotOlderThan' }));
    (await server.next()).fail(410, 'Expired');
    expect(isGone(await error)).toBe(true);
  });
});
