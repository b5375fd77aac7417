import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubeClient } from './client.ts';
import { EventRecorder } from './events.ts';
import { KubeMetrics } from './metrics.ts';
import type { KubeObject } from './resources.ts';
import { FakeClock, settle } from './testing.ts';
import { ScriptedServer, type Exchange } from './testing-server.ts';

let server: ScriptedServer;
let clock: FakeClock;
let client: KubeClient;
let registry: Registry;
let recorder: EventRecorder;

const evaluation: KubeObject = {
  apiVersion: 'crucible.dev/v1alpha1',
  kind: 'Evaluation',
  metadata: { name: 'hello', namespace: 'evals', uid: 'u1', resourceVersion: '7' },
};
const started = { type: 'Normal', reason: 'Started', message: 'attempt 1 started' } as const;

beforeEach(async () => {
  server = await ScriptedServer.start();
  clock = new FakeClock();
  registry = new Registry();
  const logger = pino({ level: 'silent' });
  client = new KubeClient({ access: server.access(), logger, clock, random: () => 0 });
  recorder = new EventRecorder({
    client,
    component: 'crucible-operator',
    instance: 'operator-0',
    logger,
    clock,
    random: () => 0,
    metrics: new KubeMetrics(registry),
  });
});

afterEach(async () => {
  await client.close();
  await recorder.stop(0);
  await server.close();
});

async function sent(): Promise<Exchange> {
  const exchange = await server.next();
  exchange.json(exchange.body);
  return exchange;
}

async function dropped(reason: string): Promise<number> {
  return Number(
    (await registry.metrics()).match(new RegExp(`crucible_events_dropped_total{reason="${reason}"} (\\d+)`))?.[1],
  );
}

/** Until the recorder has taken note of the last answer. */
const flushed = async (): Promise<void> => {
  for (let i = 0; i < 20; i += 1) await settle();
};

describe('EventRecorder', () => {
  it('writes an event about the object', async () => {
    recorder.event(evaluation, started);
    const exchange = await sent();
    expect(exchange).toMatchObject({
      method: 'POST',
      path: '/api/v1/namespaces/evals/events',
      query: { fieldManager: 'crucible-operator' },
    });
    expect(exchange.body).toMatchObject({
      ...started,
      count: 1,
      firstTimestamp: '2026-01-02T03:04:05Z',
      lastTimestamp: '2026-01-02T03:04:05Z',
      source: { component: 'crucible-operator' },
      reportingComponent: 'crucible-operator',
      reportingInstance: 'operator-0',
      involvedObject: {
        apiVersion: 'crucible.dev/v1alpha1',
        kind: 'Evaluation',
        name: 'hello',
        namespace: 'evals',
        uid: 'u1',
        resourceVersion: '7',
      },
    });
    expect(exchange.body.metadata.name).toMatch(/^hello\.[0-9a-f]{16}$/);
  });

  it('counts equal events in one object', async () => {
    recorder.event(evaluation, started);
    recorder.event(evaluation, started);
    const first = await sent();
    expect(first.body.count).toBe(2);
    await flushed();
    await clock.advance(60_000);
    recorder.event(evaluation, started);
    const second = await sent();
    expect(second).toMatchObject({
      method: 'PATCH',
      path: `/api/v1/namespaces/evals/events/${first.body.metadata.name}`,
    });
    expect(second.body).toEqual({ count: 3, lastTimestamp: '2026-01-02T03:05:05Z' });
    await flushed();
    recorder.event(evaluation, { ...started, message: 'attempt 2 started' });
    expect((await sent()).method).toBe('POST');
    await flushed();
    await clock.advance(11 * 60_000);
    recorder.event(evaluation, started);
    expect((await sent()).method).toBe('POST');
  });

  it('writes a new one when the old one is gone', async () => {
    recorder.event(evaluation, started);
    await sent();
    await flushed();
    recorder.event(evaluation, started);
    (await server.next()).fail(404, 'NotFound');
    expect(await sent()).toMatchObject({ method: 'POST' });
  });

  it('limits what one object may say, not the others', async () => {
    server.handler = (exchange) => exchange.json(exchange.body);
    for (let i = 0; i < 40; i += 1) recorder.event(evaluation, { ...started, message: `m${i}` });
    await flushed();
    expect(await dropped('rate')).toBe(15);
    let posts = 0;
    server.handler = (exchange) => {
      posts += 1;
      exchange.json(exchange.body);
    };
    recorder.event({ ...evaluation, metadata: { ...evaluation.metadata, uid: 'u2' } }, started);
    await flushed();
    expect(posts).toBe(1);
    await clock.advance(300_000);
    recorder.event(evaluation, { ...started, message: 'again' });
    recorder.event(evaluation, { ...started, message: 'and again' });
    await flushed();
    expect(posts).toBe(2);
  });

  it('waits as long as the server says', async () => {
    recorder.event(evaluation, started);
    (await server.next()).fail(429, 'TooManyRequests', '', { 'retry-after': '8' });
    await clock.timer((ms) => ms === 8000);
    await clock.advance(8000);
    expect((await sent()).method).toBe('POST');
  });

  it('drops what cannot be sent, and never throws', async () => {
    recorder.event(evaluation, started);
    (await server.next()).fail(403, 'Forbidden', 'namespace is being terminated');
    await flushed();
    expect(await dropped('error')).toBe(1);
    recorder.event(evaluation, { ...started, message: 'other' });
    for (const ms of [200, 400, 800]) {
      (await server.next()).fail(500, 'InternalError');
      await clock.timer((pending) => pending === ms);
      await clock.advance(ms);
    }
    (await server.next()).fail(500, 'InternalError');
    await flushed();
    expect(await dropped('error')).toBe(2);
    expect(() => recorder.event(undefined as unknown as KubeObject, started)).not.toThrow();
  });

  it('does not pile up', async () => {
    for (let i = 0; i < 1500; i += 1) {
      recorder.event({ ...evaluation, metadata: { ...evaluation.metadata, uid: `u${i}` } }, started);
    }
    expect(await dropped('queue')).toBe(500);
  });

  it('cuts a message at the limit of the API server, between characters', async () => {
    recorder.event(evaluation, { ...started, message: 'ü'.repeat(600) });
    const { message } = (await sent()).body;
    expect(Buffer.byteLength(message)).toBeLessThanOrEqual(1024);
    expect(message).toMatch(/^ü+…$/);
  });

  it('sends what is pending when stopped, but not for ever', async () => {
    recorder.event(evaluation, started);
    const stopping = recorder.stop(1000);
    await sent();
    await stopping;
    recorder.event(evaluation, started);
    await flushed();
    expect(server.unclaimed).toBe(0);
    const stuck = new EventRecorder({
      client,
      component: 'c',
      instance: 'i',
      logger: pino({ level: 'silent' }),
      clock,
    });
    stuck.event(evaluation, started);
    await server.next();
    const end = stuck.stop(1000);
    await clock.advance(1000);
    await end;
  });
});
