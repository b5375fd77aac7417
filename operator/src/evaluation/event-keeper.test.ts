import { UnavailableError } from '@crucible/storage';
import type { ToldEvent } from '@crucible/storage';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubeClient } from '../kube/index.ts';
import type { KubeObject } from '../kube/index.ts';
import { FakeClock } from '../kube/testing.ts';
import { ScriptedServer, type Exchange } from '../kube/testing-server.ts';
import { EventKeeper, KeeperMetrics } from './event-keeper.ts';

const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const [NAMESPACE, JOB, POD] = [uuid(1), uuid(2), uuid(3)];
const GATHER_MS = 1000;
const SELECTED = 'involvedObject.kind!=Evaluation,reason!=SuccessfulCreate,reason!=Completed,reason!=Created';

let server: ScriptedServer;
let clock: FakeClock;
let client: KubeClient;
let keeper: EventKeeper;
let registry: Registry;
let version: number;
/** What Postgres was told, a batch each, and what it answers. */
let batches: ToldEvent[][];
let answer: (events: readonly ToldEvent[]) => boolean[] | Promise<boolean[]>;
const pods = new Map<string, KubeObject>();
const namespaces = new Map<string, KubeObject>();

beforeEach(async () => {
  version = 10;
  batches = [];
  answer = (events) => events.map(() => true);
  pods.clear();
  namespaces.clear();
  namespaces.set('evals', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'evals', uid: NAMESPACE } });
  server = await ScriptedServer.start();
  clock = new FakeClock();
  client = new KubeClient({ access: server.access(), logger: pino({ level: 'silent' }), clock, random: () => 0 });
  keeper = make(['evals']);
});
afterEach(async () => {
  await keeper.stop(0);
  await client.close();
  await server.close();
});

function make(watched: readonly string[]): EventKeeper {
  registry = new Registry();
  return new EventKeeper({
    client,
    clock,
    logger: pino({ level: 'silent' }),
    namespaces: watched,
    metrics: new KeeperMetrics(registry),
    caches: { podCache: { get: (key) => pods.get(key) as never }, namespaces: { get: (key) => namespaces.get(key) } },
    repository: {
      keep: async (events) => {
        batches.push([...events]);
        return answer(events);
      },
    },
  });
}

function event(n: number, changes: object = {}, namespace = 'evals'): object {
  version += 1;
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: `e${n}`, namespace, uid: uuid(1000 + n), resourceVersion: String(version), creationTimestamp: '2026-01-02T03:04:00Z' },
    involvedObject: { kind: 'Pod', name: 'hello-x', uid: POD },
    reason: `Reason${n}`,
    source: { component: 'kubelet' },
    ...changes,
  };
}

/** Answers a list, whose events all wait when this is over, and gives the watch after it. */
async function list(...items: object[]): Promise<Exchange> {
  const asked = await server.next();
  expect(asked.query).toMatchObject({ fieldSelector: SELECTED });
  asked.json({ kind: 'EventList', metadata: { resourceVersion: String(version) }, items });
  const watch = await server.next();
  expect(watch.query).toMatchObject({ watch: 'true', resourceVersion: String(version), fieldSelector: SELECTED });
  return watch.open();
}

async function gathered(ms = GATHER_MS): Promise<void> {
  expect(await clock.timer((pending) => pending >= ms * 0.75 && pending <= ms)).toBeGreaterThan(0);
  await clock.advance(ms);
}

const reasons = (): string[][] => batches.map((batch) => batch.map(({ reason }) => reason));

async function metric(name: string): Promise<number> {
  const line = (await registry.metrics()).split('\n').find((text) => text.startsWith(`${name} `));
  return Number(line?.split(' ').at(-1));
}
const dropped = (reason: string): Promise<number> => metric(`crucible_kubernetes_events_dropped_total{reason="${reason}"}`);

describe('what Kubernetes tells', () => {
  it('is told to Postgres together, with the UIDs by which the record knows the run', async () => {
    const owner = { apiVersion: 'batch/v1', kind: 'Job', name: 'hello', uid: JOB, controller: true };
    pods.set('evals/hello-x', { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'hello-x', uid: POD, ownerReferences: [owner] } });
    await keeper.start();
    const about = (kind: string, name: string, uid: string) => ({ involvedObject: { kind, name, uid } });
    // The second is of an earlier pod of that name.
    await list(event(1), event(2, about('Pod', 'hello-x', uuid(4))), event(3, about('Job', 'hello', JOB)), event(4, about('Node', 'n', uuid(5))));
    await gathered();
    expect(batches.map((batch) => batch.map(({ reason, namespaceUid, jobUid, podUid }) => [reason, namespaceUid, jobUid, podUid]))).toEqual([
      [['Reason1', NAMESPACE, JOB, POD], ['Reason2', NAMESPACE, null, uuid(4)], ['Reason3', NAMESPACE, JOB, null]],
    ]);
    expect([await metric('crucible_kubernetes_events_kept_total'), await metric('crucible_kubernetes_events_waiting')]).toEqual([3, 0]);
    // Nothing to do, nothing done.
    expect(clock.pending).not.toContain(GATHER_MS);
  });

  it('is told again when it comes again while Postgres is asked', async () => {
    await keeper.start();
    const watch = await list(event(1));
    const asked = Promise.withResolvers<boolean[]>();
    answer = () => asked.promise;
    await gathered();
    watch.event('MODIFIED', event(1, { count: 7 }));
    expect(await clock.timer((ms) => ms === GATHER_MS)).toBe(GATHER_MS);
    asked.resolve([true]);
    await gathered();
    expect(batches.flat().map(({ count }) => count)).toEqual([1, 7]);
    expect(await metric('crucible_kubernetes_events_waiting')).toBe(0);
  });

  it('waits while Postgres is away, and is told when it is back', async () => {
    answer = () => Promise.reject(new UnavailableError('away'));
    await keeper.start();
    await list(event(1), event(2));
    for (const wait of [GATHER_MS, 2000, 4000, 8000]) await gathered(wait);
    expect(await metric('crucible_kubernetes_events_waiting')).toBe(2);
    batches.length = 0;
    answer = (events) => events.map(() => true);
    await gathered(16_000);
    expect(reasons()).toEqual([['Reason1', 'Reason2']]);
    expect(await dropped('full')).toBe(0);
  });

  it('waits for its run to be recorded, and is given up after a minute', async () => {
    answer = (events) => events.map(({ reason }) => reason === 'Reason2' && clock.monotonic() > 1_010_000);
    await keeper.start();
    await list(event(1), event(2));
    await gathered();
    for (let seconds = 0; seconds < 130; seconds += 1) await clock.advance(1000);
    expect(await dropped('unknown')).toBe(1);
    expect([await metric('crucible_kubernetes_events_kept_total'), await metric('crucible_kubernetes_events_waiting')]).toEqual([1, 0]);
    // Rarely: once a second would be a burden.
    expect(batches.length).toBeLessThan(12);
  });

  it('waits for its namespace to be known: a name alone may mean another one', async () => {
    const known = namespaces.get('evals')!;
    namespaces.clear();
    await keeper.start();
    await list(event(1));
    await gathered();
    expect(batches).toEqual([]);
    namespaces.set('evals', known);
    await gathered();
    await clock.advance(2000);
    expect(reasons()).toEqual([['Reason1']]);
  });

  it('goes on without the one that Postgres refuses', async () => {
    answer = (events) => {
      if (events.some(({ reason }) => reason === 'Reason3')) throw new Error('refused');
      return events.map(() => true);
    };
    await keeper.start();
    await list(...[1, 2, 3, 4, 5].map((n) => event(n)));
    await gathered();
    expect([await dropped('refused'), await metric('crucible_kubernetes_events_waiting')]).toEqual([1, 0]);
    expect(await metric('crucible_kubernetes_events_kept_total')).toBe(4);
  });

  it('is bounded: who floods loses the oldest, and nobody else anything', async () => {
    keeper = make(['flood', 'evals']);
    namespaces.set('flood', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'flood', uid: uuid(9) } });
    await keeper.start();
    for (let answered = 0; answered < 4; answered += 1) {
      const asked = await server.next();
      if (asked.query['watch'] !== undefined) asked.open();
      else {
        const [from, to, namespace] = asked.path.includes('/flood/') ? [0, 11_000, 'flood'] : [20_000, 20_003, 'evals'];
        const items = Array.from({ length: to - from }, (_, n) => event(from + n, {}, namespace));
        asked.json({ kind: 'EventList', metadata: { resourceVersion: String(version) }, items });
      }
    }
    await gathered();
    const told = batches.flat().map(({ reason }) => reason);
    expect(told.filter((reason) => /Reason2000\d/.test(reason))).toHaveLength(3);
    expect(told.length - 3 + (await dropped('full'))).toBe(11_000);
    expect(await dropped('full')).toBeGreaterThan(900);
    expect([told.includes('Reason0'), told.includes('Reason10999')]).toEqual([false, true]);
    expect(Math.max(...batches.map((batch) => batch.length))).toBe(500);
  });

  it('is told when the term ends, unless another leads already', async () => {
    await keeper.start();
    await list(event(1));
    await clock.timer((ms) => ms === GATHER_MS);
    await keeper.stop(5);
    expect(reasons()).toEqual([['Reason1']]);
    await keeper.start();
    await list(event(2));
    await clock.timer((ms) => ms === GATHER_MS);
    await keeper.stop(0);
    expect(reasons()).toEqual([['Reason1']]);
    expect(clock.pending).toEqual([]);
  });
});
