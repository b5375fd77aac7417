import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubeClient } from './client.ts';
import { InformerSet } from './informer-set.ts';
import { Informer, type InformerOptions } from './informer.ts';
import { KubeMetrics } from './metrics.ts';
import { PODS, type KubeObject } from './resources.ts';
import { FakeClock, settle } from './testing.ts';
import { ScriptedServer, type Exchange } from './testing-server.ts';

// With random() = 0: the first backoff, and what a watch is asked for.
const FIRST_BACKOFF_MS = 200;
const WATCH_SECONDS = '240';

let server: ScriptedServer;
let clock: FakeClock;
let client: KubeClient;
let registry: Registry;
let informer: Informer<KubeObject>;
let changes: string[];
let logs: string;

function makeInformer(options: Partial<InformerOptions<KubeObject>> = {}): Informer<KubeObject> {
  const logger = pino(
    { level: 'debug' },
    {
      write: (line: string) => {
        logs += line;
      },
    },
  );
  registry = new Registry();
  const made = new Informer({
    client,
    resource: PODS,
    namespace: 'evals',
    labelSelector: 'crucible.dev/sandbox=true',
    logger,
    clock,
    random: () => 0,
    metrics: new KubeMetrics(registry),
    ...options,
  });
  const show = (object: KubeObject | undefined): string =>
    object ? `${object.metadata.uid}@${object.metadata.resourceVersion}` : '-';
  made.onChange((key, current, previous) => changes.push(`${key} ${show(previous)} > ${show(current)}`));
  return made;
}

beforeEach(async () => {
  changes = [];
  logs = '';
  server = await ScriptedServer.start();
  clock = new FakeClock();
  client = new KubeClient({ access: server.access(), logger: pino({ level: 'silent' }), clock, random: () => 0 });
  informer = makeInformer();
});

afterEach(async () => {
  await informer.stop();
  await client.close();
  await server.close();
});

const pod = (name: string, uid: string, resourceVersion: string, extra: object = {}): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'evals', uid, resourceVersion, ...extra },
});

function answerList(exchange: Exchange, resourceVersion: string, ...items: KubeObject[]): void {
  expect(exchange.query.watch).toBeUndefined();
  exchange.json({ kind: 'PodList', metadata: { resourceVersion }, items });
}

async function nextWatch(resourceVersion: string): Promise<Exchange> {
  const watch = await server.next();
  expect(watch.query).toMatchObject({ watch: 'true', resourceVersion });
  return watch.open();
}

/** Listed at 10 with one pod, and watching. */
async function started(): Promise<Exchange> {
  informer.start();
  answerList(await server.next(), '10', pod('a', 'u1', '5'));
  const watch = await nextWatch('10');
  changes.length = 0;
  return watch;
}

/** Waits until the change has come through the sockets. */
async function changed(...expected: string[]): Promise<void> {
  await until(() => changes.length >= expected.length);
  expect(changes).toEqual(expected);
  changes.length = 0;
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 5000 && !condition(); i += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(condition()).toBe(true);
}

async function afterBackoff(ms = FIRST_BACKOFF_MS): Promise<void> {
  expect(await clock.timer((pending) => pending === ms)).toBe(ms);
  await clock.advance(ms);
}

function refuse(exchange: Exchange): void {
  exchange.fail(403, 'Forbidden');
}

/** Refuses this and what is tried again, until so long after the first; what is waited for then. */
async function refusedFor(ms: number, first: Exchange, meanwhile: () => void): Promise<number> {
  refuse(first);
  let wait = FIRST_BACKOFF_MS;
  for (let waited = 0; waited < ms; wait = Math.min(2 * wait, 30_000)) {
    await afterBackoff(wait);
    waited += wait;
    const again = await server.next();
    meanwhile();
    refuse(again);
  }
  return wait;
}

async function restarts(reason: string): Promise<number> {
  const text = await registry.metrics();
  return Number(
    text.match(new RegExp(`crucible_informer_restarts_total{resource="pods",reason="${reason}"} (\\d+)`))?.[1],
  );
}

describe('list and watch', () => {
  it('lists the newest state in pages, then watches from there with bookmarks and a time limit', async () => {
    informer.start();
    expect(informer.synced).toBe(false);
    expect(informer.lastSyncAgeSeconds()).toBe(Infinity);
    const list = await server.next();
    expect(list.path).toBe('/api/v1/namespaces/evals/pods');
    expect(list.query).toEqual({ labelSelector: 'crucible.dev/sandbox=true', limit: '500' });
    answerList(list, '10', pod('a', 'u1', '5'));
    await informer.waitForSync();
    const watch = await nextWatch('10');
    expect(watch.query).toEqual({
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: '10',
      timeoutSeconds: WATCH_SECONDS,
      labelSelector: 'crucible.dev/sandbox=true',
    });
    await changed('evals/a - > u1@5');
    watch
      .event('ADDED', pod('b', 'u2', '11'))
      .event('MODIFIED', pod('a', 'u1', '12'))
      .event('DELETED', pod('b', 'u2', '13'));
    await changed('evals/b - > u2@11', 'evals/a u1@5 > u1@12', 'evals/b u2@11 > -');
    expect(informer.get('evals/a')?.metadata.resourceVersion).toBe('12');
    expect(informer.list()).toHaveLength(1);
    expect(informer.get('evals/b')).toBeUndefined();
  });

  it('spreads the time limit of its watches', async () => {
    await informer.stop();
    informer = makeInformer({ random: () => 0.5 });
    informer.start();
    answerList(await server.next(), '10');
    expect((await nextWatch('10')).query.timeoutSeconds).toBe('360');
  });

  it('goes on from the last bookmark when the server ends the watch', async () => {
    const watch = await started();
    watch.event('MODIFIED', pod('a', 'u1', '12')).event('BOOKMARK', { metadata: { resourceVersion: '99' } });
    await changed('evals/a u1@5 > u1@12');
    await clock.advance(60_000);
    watch.end();
    const again = await nextWatch('99');
    expect(await restarts('ended')).toBe(1);
    again.event('MODIFIED', pod('a', 'u1', '100'));
    await changed('evals/a u1@12 > u1@100');
  });

  it('does not race a server that ends each watch at once', async () => {
    const watch = await started();
    watch.end();
    await afterBackoff();
    (await nextWatch('10')).end();
    await afterBackoff(400);
    (await nextWatch('10')).end();
    await afterBackoff(800);
    await nextWatch('10');
  });

  it('reads lines whatever the chunks, also through a character', async () => {
    const watch = await started();
    const line = Buffer.from(
      `${JSON.stringify({ type: 'MODIFIED', object: pod('a', 'u1', '12', { labels: { x: 'grün' } }) })}\n`,
    );
    const cut = line.indexOf(0xc3) + 1;
    watch.raw(line.subarray(0, 7));
    await settle();
    watch.raw(line.subarray(7, cut));
    await settle();
    watch.raw(line.subarray(cut));
    await changed('evals/a u1@5 > u1@12');
    expect(informer.get('evals/a')?.metadata.labels).toEqual({ x: 'grün' });
  });

  it('keeps raw JSON without managedFields', async () => {
    informer.start();
    const last = 'kubectl.kubernetes.io/last-applied-configuration';
    const item = pod('a', 'u1', '5', {
      managedFields: [{}],
      creationTimestamp: '2026-01-01T00:00:00Z',
      annotations: { [last]: '{}', keep: 'x' },
    });
    answerList(await server.next(), '10', item);
    await informer.waitForSync();
    expect(informer.get('evals/a')?.metadata).toEqual({
      name: 'a',
      namespace: 'evals',
      uid: 'u1',
      resourceVersion: '5',
      creationTimestamp: '2026-01-01T00:00:00Z',
      annotations: { keep: 'x' },
    });
    (await nextWatch('10')).event('MODIFIED', { ...item, metadata: { ...item.metadata, resourceVersion: '11' } });
    await until(() => informer.get('evals/a')?.metadata.resourceVersion === '11');
    expect(informer.get('evals/a')?.metadata).not.toHaveProperty('managedFields');
  });

  it('delivers everything again from time to time', async () => {
    await started();
    await clock.advance(149_000);
    expect(changes).toEqual([]);
    await informer.stop();
    informer = makeInformer({ resyncMs: 60_000 });
    await started();
    await clock.advance(60_000);
    await changed('evals/a u1@5 > u1@5');
  });

  it('reads the list anew from time to time: a line can be lost on the way', async () => {
    await informer.stop();
    informer = makeInformer({ relistMs: 60_000 });
    const watch = await started();
    await clock.advance(60_000);
    await watch.closed;
    const list = await server.next();
    expect(list.query).toMatchObject({ resourceVersion: '10', resourceVersionMatch: 'NotOlderThan' });
    answerList(list, '20');
    await changed('evals/a u1@5 > -');
    await nextWatch('20');
  });

  it('replays to a handler that comes late', async () => {
    await started();
    informer.onChange((key, current, previous) =>
      changes.push(`late ${key} ${current !== undefined} ${previous === undefined}`),
    );
    expect(changes).toEqual(['late evals/a true true']);
  });
});

describe('watch faults', () => {
  it('ignores duplicate lines', async () => {
    const watch = await started();
    const add = pod('b', 'u2', '11');
    watch
      .event('ADDED', add)
      .event('ADDED', add)
      .event('DELETED', pod('b', 'u2', '12'))
      .event('DELETED', pod('b', 'u2', '12'))
      .event('ADDED', add);
    watch.event('MODIFIED', pod('a', 'u1', '13'));
    await changed('evals/b - > u2@11', 'evals/b u2@11 > -', 'evals/a u1@5 > u1@13');
    expect(informer.size).toBe(1);
  });

  it('lists anew when lines come in another order, and brings nothing back to life', async () => {
    const watch = await started();
    watch.event('DELETED', pod('a', 'u1', '15')).event('ADDED', pod('c', 'u3', '12'));
    await changed('evals/a u1@5 > -');
    await watch.closed;
    await afterBackoff();
    const list = await server.next();
    expect(list.query.resourceVersion).toBe('15');
    answerList(list, '16', pod('c', 'u3', '12'));
    await changed('evals/c - > u3@12');
    expect(await restarts('disorder')).toBe(1);
  });

  it('notices a half-open connection', async () => {
    const watch = await started();
    await clock.advance(100_000);
    watch.event('BOOKMARK', { metadata: { resourceVersion: '20' } });
    await until(() => informer.lastSyncAgeSeconds() === 0);
    await clock.advance(149_999);
    expect(informer.lastSyncAgeSeconds()).toBeCloseTo(149.999);
    expect(server.unclaimed).toBe(0);
    await clock.advance(1);
    await watch.closed;
    await nextWatch('20');
    expect(await restarts('idle')).toBe(1);
  });

  it('ends a watch that the server should have ended', async () => {
    const watch = await started();
    for (let i = 0; i < 254; i += 1) {
      watch.raw('\n');
      await until(() => informer.lastSyncAgeSeconds() === 0);
      await clock.advance(1000);
    }
    expect(server.unclaimed).toBe(0);
    await clock.advance(1000);
    await watch.closed;
    await nextWatch('10');
  });

  it('lists anew after 410, and again after a second one', async () => {
    await started().then((watch) => watch.cut());
    await afterBackoff();
    (await server.next()).fail(410, 'Expired', 'too old resource version');
    await afterBackoff(400);
    answerList(await server.next(), '50', pod('a', 'u1', '5'), pod('b', 'u2', '40'));
    await changed('evals/b - > u2@40');
    (await server.next()).fail(410, 'Expired');
    await afterBackoff(800);
    answerList(await server.next(), '60', pod('a', 'u1', '5'));
    await changed('evals/b u2@40 > -');
    await nextWatch('60');
  });

  it.each([
    [410, 'Expired', 'gone'],
    [500, 'InternalError', 'error-event'],
    [429, 'TooManyRequests', 'error-event'],
  ])('lists anew after an ERROR event with code %i', async (code, reason, counted) => {
    const watch = await started();
    watch.event('ERROR', { kind: 'Status', status: 'Failure', code, reason, message: 'm' });
    await afterBackoff();
    answerList(await server.next(), '50', pod('a', 'u1', '49'));
    await changed('evals/a u1@5 > u1@49');
    await nextWatch('50');
    expect(await restarts(counted)).toBe(1);
  });

  it('backs off from a server that sends ERROR each time', async () => {
    const watch = await started();
    watch.event('ERROR', { kind: 'Status', code: 500 });
    for (const ms of [200, 400, 800]) {
      await afterBackoff(ms);
      answerList(await server.next(), '50');
      (await nextWatch('50')).event('ERROR', { kind: 'Status', code: 500 });
    }
    await clock.timer((ms) => ms === 1600);
  });

  it('waits as long as a 429 says', async () => {
    await started().then((watch) => watch.cut());
    await afterBackoff();
    (await server.next()).fail(429, 'TooManyRequests', 'slow', { 'retry-after': '9' });
    await afterBackoff(9000);
    await nextWatch('10');
  });

  it('keeps its place through 500, 403 and 401', async () => {
    await started().then((watch) => watch.cut());
    await afterBackoff();
    (await server.next()).fail(500, 'InternalError');
    await afterBackoff(400);
    (await server.next()).fail(403, 'Forbidden');
    await afterBackoff(800);
    (await server.next()).fail(401, 'Unauthorized');
    (await server.next()).fail(401, 'Unauthorized');
    await afterBackoff(1600);
    await nextWatch('10');
  });

  it('goes on for ever, with longer and longer pauses up to half a minute', async () => {
    await started().then((watch) => watch.cut());
    for (const ms of [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]) {
      await afterBackoff(ms);
      (await server.next()).cut();
    }
    await afterBackoff(30_000);
    const watch = await nextWatch('10');
    watch.event('MODIFIED', pod('a', 'u1', '11'));
    await changed('evals/a u1@5 > u1@11');
    watch.cut();
    await afterBackoff();
    await nextWatch('11');
  });

  it('does not die of a failing first list: client-node does', async () => {
    informer.start();
    (await server.next()).fail(500, 'InternalError');
    await afterBackoff();
    (await server.next()).fail(403, 'Forbidden');
    await afterBackoff(400);
    answerList(await server.next(), '10', pod('a', 'u1', '5'));
    await informer.waitForSync();
  });

  it.each([
    ['not JSON', '{"type":"MODIFIED","obj\n'],
    ['no event', '{"kind":"Pod"}\n'],
    ['null', 'null\n'],
    ['an unknown type', '{"type":"WHAT","object":{"metadata":{"name":"a","resourceVersion":"11"}}}\n'],
    ['without version', '{"type":"MODIFIED","object":{"metadata":{"name":"a"}}}\n'],
  ])('watches again from the same place after a line that is %s, then lists', async (_what, line) => {
    const watch = await started();
    watch.raw(line);
    await afterBackoff();
    (await nextWatch('10')).raw(line);
    await afterBackoff(400);
    answerList(await server.next(), '20', pod('a', 'u1', '15'));
    await changed('evals/a u1@5 > u1@15');
    expect(await restarts('malformed')).toBe(2);
  });

  it('takes a line that the end cut off for lost', async () => {
    const watch = await started();
    watch.raw('{"type":"MODIFIED"');
    watch.end();
    await afterBackoff();
    await nextWatch('10');
    expect(await restarts('malformed')).toBe(1);
  });

  it('survives handlers that throw, now or later', async () => {
    informer.onChange(() => {
      throw new Error('first');
    });
    informer.onChange(async () => {
      throw new Error('second');
    });
    informer.onChange((key) => changes.push(`after ${key}`));
    const watch = await started();
    watch.event('MODIFIED', pod('a', 'u1', '11'));
    await changed('evals/a u1@5 > u1@11', 'after evals/a');
    await settle();
    expect(logs.match(/change handler failed/g)).toHaveLength(4);
    expect(await registry.metrics()).toContain('crucible_informer_handler_errors_total{resource="pods"} 4');
  });

  it('survives a transform that throws', async () => {
    await informer.stop();
    informer = makeInformer({
      transform: () => {
        throw new Error('bug');
      },
    });
    await started();
    expect(informer.get('evals/a')?.metadata.uid).toBe('u1');
  });

  it('refuses a list that is older than what it knows, until it must believe it', async () => {
    const watch = await started();
    watch.event('ADDED', pod('b', 'u2', '30')).event('ERROR', { kind: 'Status', code: 410 });
    await changed('evals/b - > u2@30');
    await afterBackoff();
    answerList(await server.next(), '20');
    await afterBackoff(400);
    expect(changes).toEqual([]);
    const again = await server.next();
    // Asking the newest state goes past whatever cache is behind.
    expect(again.query.resourceVersion).toBeUndefined();
    answerList(again, '20');
    for (const ms of [800, 1600, 3200]) {
      await afterBackoff(ms);
      answerList(await server.next(), '20');
    }
    await afterBackoff(6400);
    answerList(await server.next(), '20', pod('a', 'u1', '5'));
    await changed('evals/b u2@30 > -');
    await nextWatch('20');
  });

  it('asks for the newest state when the server does not know our version yet', async () => {
    const watch = await started();
    watch.event('ERROR', { kind: 'Status', code: 410 });
    await afterBackoff();
    (await server.next()).fail(504, 'Timeout', 'Too large resource version: 10, current: 9');
    await afterBackoff(400);
    const list = await server.next();
    expect(list.query.resourceVersion).toBeUndefined();
    answerList(list, '11');
  });

  it('sees delete and create in a gap as two changes', async () => {
    const watch = await started();
    watch.event('ERROR', { kind: 'Status', code: 410 });
    await afterBackoff();
    answerList(await server.next(), '50', pod('a', 'u9', '40'));
    await changed('evals/a u1@5 > -', 'evals/a - > u9@40');
    const next = await nextWatch('50');
    next.event('MODIFIED', pod('a', 'u10', '60'));
    await changed('evals/a u9@40 > -', 'evals/a - > u10@60');
    next.event('MODIFIED', pod('a', 'u9', '61')).event('MODIFIED', pod('a', 'u10', '62'));
    await changed('evals/a u10@60 > u10@62');
  });
});

describe('start and stop', () => {
  it('refuses to start twice: client-node opens a second watch', async () => {
    await started();
    expect(() => informer.start()).toThrow(/started already/);
  });

  it.each(['list', 'watch headers', 'stream', 'backoff'])('stops during %s', async (when) => {
    informer.start();
    const list = await server.next();
    if (when !== 'list') {
      answerList(list, '10', pod('a', 'u1', '5'));
      const watch = await server.next();
      if (when === 'stream') watch.open();
      if (when === 'backoff') {
        watch.cut();
        await clock.timer((ms) => ms === FIRST_BACKOFF_MS);
      }
      await informer.stop();
      await watch.closed;
    } else {
      const waiting = informer.waitForSync();
      await informer.stop();
      await expect(waiting).rejects.toMatchObject({ reason: 'Aborted' });
      await list.closed;
    }
    expect(clock.pending).toEqual([]);
    await clock.advance(3_600_000);
    expect(server.unclaimed).toBe(0);
    expect(() => informer.start()).toThrow();
  });

  it('can be stopped before it was started, and from a handler', async () => {
    await informer.stop();
    expect(() => informer.start()).toThrow(/stopped/);
    informer = makeInformer();
    informer.onChange(() => void informer.stop());
    informer.start();
    answerList(await server.next(), '10', pod('a', 'u1', '5'), pod('b', 'u2', '6'));
    await until(() => changes.length > 0);
    await settle();
    expect(changes).toEqual(['evals/a - > u1@5']);
  });

  it('gives up waiting for the first list when asked to', async () => {
    informer.start();
    const abort = new AbortController();
    const waiting = informer.waitForSync(abort.signal);
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ reason: 'Aborted' });
  });

  it('is one for several namespaces', async () => {
    const set = new InformerSet<KubeObject>({
      client,
      resource: PODS,
      namespaces: ['one', 'two'],
      logger: pino({ level: 'silent' }),
      clock,
      random: () => 0,
    });
    const seen: string[] = [];
    set.onChange((key) => seen.push(key));
    set.start();
    const lists = [await server.next(), await server.next()];
    expect(lists.map((list) => list.path).sort()).toEqual([
      '/api/v1/namespaces/one/pods',
      '/api/v1/namespaces/two/pods',
    ]);
    answerList(lists[0]!, '10', pod('a', 'u1', '5', { namespace: 'one' }));
    await until(() => set.size === 1);
    expect(set.synced).toBe(false);
    expect(set.lastSyncAgeSeconds()).toBe(Infinity);
    const later = set.waitForSync();
    await server.next();
    answerList(lists[1]!, '10', pod('a', 'u2', '6', { namespace: 'two' }));
    await later;
    expect(set.get('two/a')?.metadata.uid).toBe('u2');
    expect(set.get('three/a')).toBeUndefined();
    expect(seen).toEqual(['one/a', 'two/a']);
    await set.stop();
  });

  it('a namespace that may not be looked into holds up no other, and is seen again when it may', async () => {
    const set = new InformerSet<KubeObject>({
      client,
      resource: PODS,
      namespaces: ['gone', 'there'],
      logger: pino({ level: 'silent' }),
      clock,
      random: () => 0,
    });
    set.start();
    const lists = [await server.next(), await server.next()];
    const listOf = (namespace: string): Exchange => lists.find(({ path }) => path.includes(`/${namespace}/`))!;
    const first = set.waitForSync();
    answerList(listOf('there'), '10', pod('a', 'u1', '5', { namespace: 'there' }));
    await until(() => set.size === 1);
    await nextWatch('10');
    const wait = await refusedFor(10_000, listOf('gone'), () => expect([set.synced, set.sees('gone')]).toEqual([false, false]));
    await first;
    expect([set.synced, set.sees('there'), set.sees('gone'), set.sees('elsewhere')]).toEqual([true, true, false, false]);
    expect(set.lastSyncAgeSeconds()).toBeLessThan(15);
    await afterBackoff(wait);
    const again = await server.next();
    expect(again.path).toBe('/api/v1/namespaces/gone/pods');
    answerList(again, '11', pod('b', 'u2', '7', { namespace: 'gone' }));
    await until(() => set.sees('gone'));
    expect(set.get('gone/b')?.metadata.uid).toBe('u2');
    // Taken away later: what was seen stays, and its age counts no more.
    refuse(await server.next());
    await until(() => !set.sees('gone'));
    expect([set.synced, set.size]).toEqual([true, 2]);
    await set.stop();
  });

  it('what was in a namespace that is gone is gone too, although nobody told because the rights went first', async () => {
    let there = true;
    const options = { client, resource: PODS, logger: pino({ level: 'silent' }), clock, random: () => 0, gone: () => !there };
    const set = new InformerSet<KubeObject>({ ...options, namespaces: ['evals'] });
    const told: string[] = [];
    set.onChange((key, current) => told.push(`${key} ${current === undefined ? 'gone' : 'there'}`));
    set.start();
    answerList(await server.next(), '10', pod('a', 'u1', '5'));
    refuse(await server.next());
    await until(() => !set.sees('evals'));
    expect(set.size).toBe(1);
    await afterBackoff();
    there = false;
    refuse(await server.next());
    await until(() => set.size === 0);
    expect(told).toEqual(['evals/a there', 'evals/a gone']);
    // Another one of that name: the list tells what is in it.
    there = true;
    await afterBackoff(2 * FIRST_BACKOFF_MS);
    answerList(await server.next(), '20', pod('a', 'u2', '15'));
    await until(() => set.sees('evals') && set.size === 1);
    await set.stop();
  });

  it('an API server that starts refuses everybody: that is no answer, and of what is needed never one', async () => {
    const options = { client, resource: PODS, logger: pino({ level: 'silent' }), clock, random: () => 0 };
    const set = new InformerSet<KubeObject>({ ...options, namespaces: ['needed'], needed: 'needed' });
    let answered = false;
    set.start();
    void set.waitForSync().then(() => (answered = true));
    const wait = await refusedFor(30_000, await server.next(), () => expect(answered || set.synced).toBe(false));
    await settle();
    expect(answered || set.synced).toBe(false);
    await afterBackoff(wait);
    answerList(await server.next(), '10');
    await until(() => answered && set.synced);
    await set.stop();
  });
});
