import { randomUUID } from 'node:crypto';
import { API_VERSION } from '@crucible/crds';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { testServer } from '../../../test/integration/environment.ts';
import { loadAccess } from './access.ts';
import { KubeClient } from './client.ts';
import { isAlreadyExists, isConflict, isInvalid, isNotFound } from './errors.ts';
import { EventRecorder } from './events.ts';
import { Informer } from './informer.ts';
import { LeaderElector } from './leader.ts';
import { CONFIG_MAPS, EVALUATIONS, EVENTS, JOBS, LEASES, NAMESPACES, PODS, type KubeObject } from './resources.ts';
import type { ClusterAccess } from './types.ts';

type ConfigMap = KubeObject & { data?: Record<string, string> };

const logger = pino({ level: 'silent' });
const namespace = `kube-${randomUUID().slice(0, 8)}`;
let access: ClusterAccess;
let client: KubeClient;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  access = await loadAccess({ kubeconfig: testServer('CRUCIBLE_TEST_KUBECONFIG') });
  client = new KubeClient({ access, logger });
  await client.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

afterAll(async () => {
  await client?.delete(NAMESPACES, undefined, namespace);
  await client?.close();
});

function configMap(name: string, data: Record<string, string> = {}, labels: Record<string, string> = {}): ConfigMap {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, labels }, data };
}

/** Collects changes; `until` resolves when one of them matches. */
function recordChanges() {
  const seen: { key: string; current: ConfigMap | undefined; previous: ConfigMap | undefined }[] = [];
  let wake = (): void => {};
  return {
    seen,
    handler: (key: string, current: ConfigMap | undefined, previous: ConfigMap | undefined) => {
      seen.push({ key, current, previous });
      wake();
    },
    until: async (condition: () => boolean) => {
      while (!condition())
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    },
  };
}

describe('KubeClient on a real API server', () => {
  it('reads and writes', async () => {
    expect(JSON.parse(await client.raw('/version')).major).toBe('1');
    const created = await client.create(CONFIG_MAPS, configMap('a', { x: '1' }));
    expect(created.metadata.uid).toMatch(/-/);
    expect(isAlreadyExists(await client.create(CONFIG_MAPS, configMap('a')).catch((e: unknown) => e))).toBe(true);
    const merged = await client.mergePatch<ConfigMap>(CONFIG_MAPS, namespace, 'a', { data: { y: '2' } });
    expect(merged.data).toEqual({ x: '1', y: '2' });
    const patched = await client.jsonPatch<ConfigMap>(CONFIG_MAPS, namespace, 'a', [{ op: 'remove', path: '/data/x' }]);
    expect(patched.data).toEqual({ y: '2' });
    const patch = { metadata: { labels: { read: 'no' } } };
    const short = await client.mergePatch<ConfigMap>(CONFIG_MAPS, namespace, 'a', patch, { metadataOnly: true });
    expect(short).toMatchObject({ kind: 'PartialObjectMetadata', metadata: { uid: created.metadata.uid, labels: { read: 'no' } } });
    expect(short.data).toBeUndefined();
    const made = await client.create(CONFIG_MAPS, configMap('short', { x: '1' }), { metadataOnly: true });
    expect(made).toMatchObject({ kind: 'PartialObjectMetadata', metadata: { name: 'short' } });
    expect(isConflict(await client.replace(CONFIG_MAPS, created).catch((e: unknown) => e))).toBe(true);
    const other = randomUUID();
    expect(isConflict(await client.delete(CONFIG_MAPS, namespace, 'a', { uid: other }).catch((e: unknown) => e))).toBe(
      true,
    );
    await client.delete(CONFIG_MAPS, namespace, 'a', { uid: created.metadata.uid });
    expect(isNotFound(await client.get(CONFIG_MAPS, namespace, 'a').catch((e: unknown) => e))).toBe(true);
  });

  it('takes one finalizer off a pod, whatever its place in the list, and none off another pod of that name', async () => {
    const finalizers = ['example.com/first', 'example.com/second', 'example.com/third'];
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'held', namespace, finalizers }, spec: { containers: [{ name: 'a', image: 'a' }] } };
    const { uid } = (await client.create(PODS, pod as KubeObject)).metadata;
    const off = (of: string | undefined, name: string) => ({ metadata: { uid: of, '$deleteFromPrimitiveList/finalizers': [name] } });
    const other = client.strategicMergePatch(PODS, namespace, 'held', off(randomUUID(), 'example.com/first'));
    expect(isInvalid(await other.catch((e: unknown) => e))).toBe(true);
    const left = await client.strategicMergePatch<KubeObject>(PODS, namespace, 'held', off(uid, 'example.com/second'));
    expect(left.metadata.finalizers).toEqual(['example.com/first', 'example.com/third']);
    await client.mergePatch(PODS, namespace, 'held', { metadata: { finalizers: null } });
    await client.delete(PODS, namespace, 'held', { gracePeriodSeconds: 0 });
  });

  it('deletes what a selector finds, and nothing without one', async () => {
    for (const [name, label] of [['first', 'a'], ['second', 'b'], ['third', 'c']] as const) {
      const { metadata, ...rest } = configMap(name);
      await client.create(CONFIG_MAPS, { ...rest, metadata: { ...metadata, labels: { swept: label } } });
    }
    await client.deleteCollection(CONFIG_MAPS, namespace, { labelSelector: 'swept in (a,b)' });
    const left = await client.list(CONFIG_MAPS, { namespace, labelSelector: 'swept' });
    expect(left.items.map(({ metadata }) => metadata.name)).toEqual(['third']);
    await expect(client.deleteCollection(CONFIG_MAPS, namespace, { labelSelector: '' })).rejects.toThrow('selector');
    await expect(client.deleteCollection(CONFIG_MAPS, '', { labelSelector: 'swept' })).rejects.toThrow('namespace');
  });

  it('applies: twice changes nothing, and fields of others are a conflict', async () => {
    const first = await client.apply<ConfigMap>(CONFIG_MAPS, configMap('applied', { x: '1' }), { fieldManager: 'one' });
    const second = await client.apply<ConfigMap>(CONFIG_MAPS, configMap('applied', { x: '1' }), {
      fieldManager: 'one',
    });
    expect(second.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
    const stolen = client.apply(CONFIG_MAPS, configMap('applied', { x: '2' }), { fieldManager: 'two' });
    expect(isConflict(await stolen.catch((e: unknown) => e))).toBe(true);
    const forced = await client.apply<ConfigMap>(CONFIG_MAPS, configMap('applied', { x: '2' }), {
      fieldManager: 'two',
      force: true,
    });
    expect(forced.data).toEqual({ x: '2' });
  });

  it('a status is written to another object of the same name, whatever uid it is for; not at another version', async () => {
    const evaluation = { apiVersion: API_VERSION, kind: 'Evaluation', metadata: { name: 'anew', namespace } };
    const { uid, resourceVersion } = (
      await client.create(EVALUATIONS, { ...evaluation, spec: { runtime: 'python', code: '1' } } as KubeObject)
    ).metadata;
    const write = (metadata: object): Promise<KubeObject> =>
      client.apply(
        EVALUATIONS,
        { ...evaluation, metadata: { ...evaluation.metadata, ...metadata }, status: { phase: 'Queued' } } as KubeObject,
        { fieldManager: 'm', force: true, subresource: 'status' },
      );
    expect((await write({ uid: randomUUID(), resourceVersion })).metadata.uid).toBe(uid);
    expect(isConflict(await write({ uid, resourceVersion }).catch((e: unknown) => e))).toBe(true);
  });

  it('refuses a field that the server would drop in silence', async () => {
    const job = {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'strict', namespace },
      spec: {
        template: { spec: { restartPolicy: 'Never', hostUserz: false, containers: [{ name: 'c', image: 'i' }] } },
      },
    };
    await expect(client.create(JOBS, job)).rejects.toMatchObject({
      code: 400,
      message: expect.stringContaining('hostUserz'),
    });
    await expect(client.apply(JOBS, job, { fieldManager: 'm' })).rejects.toThrow(/hostUserz/);
    const dry = await client.create(JOBS, job, { fieldValidation: 'Ignore', dryRun: true });
    expect(dry.metadata.name).toBe('strict');
    expect(isNotFound(await client.get(JOBS, namespace, 'strict').catch((e: unknown) => e))).toBe(true);
  });

  it('lists in pages', async () => {
    for (let i = 0; i < 5; i += 1) await client.create(CONFIG_MAPS, configMap(`page-${i}`, {}, { page: 'yes' }));
    const list = await client.list<ConfigMap>(CONFIG_MAPS, { namespace, labelSelector: 'page=yes', limit: 2 });
    expect(list.items.map((item) => item.metadata.name)).toEqual(['page-0', 'page-1', 'page-2', 'page-3', 'page-4']);
    expect(list.items[0]).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap' });
    expect(list.resourceVersion).toMatch(/^\d+$/);
  });

  it('says who it is not, and does not talk to whom it does not know', async () => {
    const badToken: ClusterAccess = {
      ...access,
      load: async () => ({ ...(await access.load()), headers: { authorization: 'Bearer wrong' } }),
    };
    const stranger = new KubeClient({ access: badToken, logger });
    cleanups.push(() => stranger.close());
    await expect(stranger.get(PODS, namespace, 'a')).rejects.toMatchObject({ code: 401 });
    const noCa: ClusterAccess = { ...access, load: async () => ({ ...(await access.load()), tls: {} }) };
    const wary = new KubeClient({ access: noCa, logger });
    cleanups.push(() => wary.close());
    await expect(wary.get(PODS, namespace, 'a')).rejects.toMatchObject({ code: 0, reason: 'ConnectionFailed' });
    await expect(client.podLog(namespace, 'nobody')).rejects.toMatchObject({ code: 404 });
  });
});

describe('Informer on a real API server', () => {
  it('follows creation, change, deletion, recreation and leaving the selection', async () => {
    await client.create(CONFIG_MAPS, configMap('before', {}, { watched: 'yes' }));
    const informer = new Informer<ConfigMap>({
      client,
      resource: CONFIG_MAPS,
      namespace,
      labelSelector: 'watched=yes',
      logger,
    });
    cleanups.push(() => informer.stop());
    const { seen, handler, until } = recordChanges();
    informer.onChange(handler);
    informer.start();
    await informer.waitForSync();
    expect(informer.list().map((item) => item.metadata.name)).toEqual(['before']);
    const key = `${namespace}/live`;
    const first = await client.create(CONFIG_MAPS, configMap('live', { n: '1' }, { watched: 'yes' }));
    await client.create(CONFIG_MAPS, configMap('unwatched'));
    await client.mergePatch(CONFIG_MAPS, namespace, 'live', { data: { n: '2' } });
    await client.delete(CONFIG_MAPS, namespace, 'live');
    const second = await client.create(CONFIG_MAPS, configMap('live', { n: '3' }, { watched: 'yes' }));
    await until(() => informer.get(key)?.metadata.uid === second.metadata.uid);
    const story = seen
      .filter((change) => change.key === key)
      .map(({ current, previous }) => [previous?.data?.n, current?.data?.n]);
    expect(story).toEqual([
      [undefined, '1'],
      ['1', '2'],
      ['2', undefined],
      [undefined, '3'],
    ]);
    expect(first.metadata.uid).not.toBe(second.metadata.uid);
    expect(informer.get(key)?.metadata.managedFields).toBeUndefined();
    // Leaves the selection without being deleted.
    await client.mergePatch(CONFIG_MAPS, namespace, 'live', { metadata: { labels: { watched: null } } });
    await until(() => informer.get(key) === undefined);
    expect(seen.some((change) => change.key.endsWith('unwatched'))).toBe(false);
    expect(informer.lastSyncAgeSeconds()).toBeLessThan(60);
  });

  it('reads a list that is not older than what it has', async () => {
    // Often enough that the test sees several.
    const informer = new Informer<ConfigMap>({ client, resource: CONFIG_MAPS, namespace, logger, relistMs: 50 });
    cleanups.push(() => informer.stop());
    const { handler, until } = recordChanges();
    informer.onChange(handler);
    informer.start();
    await informer.waitForSync();
    for (let i = 0; i < 5; i += 1) {
      await client.apply(CONFIG_MAPS, configMap('relisted', { n: String(i) }), { fieldManager: 'm' });
      await until(() => informer.get(`${namespace}/relisted`)?.data?.n === String(i));
    }
  });
});

describe('LeaderElector on a real API server', () => {
  it('leads, hands over, and counts terms', async () => {
    const terms: string[] = [];
    let wake = (): void => {};
    const elect = (identity: string): LeaderElector => {
      const elector = new LeaderElector({
        client,
        namespace,
        name: 'elector',
        identity,
        logger,
        leaseDurationMs: 4000,
        renewDeadlineMs: 3000,
        retryPeriodMs: 100,
        onStarted: ({ epoch }) => {
          terms.push(`${identity} ${epoch}`);
          wake();
        },
        onStopped: () => {},
      });
      cleanups.push(() => elector.stop());
      elector.start();
      return elector;
    };
    const until = async (count: number): Promise<void> => {
      while (terms.length < count)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    };
    const a = elect('a');
    await until(1);
    elect('b');
    const lease = await client.get<KubeObject & { spec: Record<string, unknown> }>(LEASES, namespace, 'elector');
    expect(lease.spec).toMatchObject({ holderIdentity: 'a', leaseDurationSeconds: 4, leaseTransitions: 1 });
    expect(lease.spec.renewTime).toMatch(/\.\d{6}Z$/);
    await a.stop();
    await until(2);
    expect(terms).toEqual(['a 1', 'b 2']);
  });
});

describe('EventRecorder on a real API server', () => {
  it('leaves events that are counted', async () => {
    const object = await client.create(CONFIG_MAPS, configMap('eventful'));
    const recorder = new EventRecorder({ client, component: 'crucible-operator', instance: 'test', logger });
    recorder.event(object, { type: 'Warning', reason: 'Odd', message: 'x'.repeat(5000) });
    recorder.event(object, { type: 'Warning', reason: 'Odd', message: 'x'.repeat(5000) });
    await recorder.stop();
    const events = await client.list<KubeObject & { count: number }>(EVENTS, {
      namespace,
      fieldSelector: `involvedObject.uid=${object.metadata.uid}`,
    });
    expect(events.items).toHaveLength(1);
    expect(events.items[0]).toMatchObject({ count: 2, type: 'Warning', reason: 'Odd' });
  });

  it('counts on in an event that is there already', async () => {
    const object = await client.create(CONFIG_MAPS, configMap('repeating'));
    const recorder = new EventRecorder({ client, component: 'crucible-operator', instance: 'test', logger });
    cleanups.push(() => recorder.stop());
    const counts = async (): Promise<number[]> => {
      const selector = `involvedObject.uid=${object.metadata.uid}`;
      return (
        await client.list<KubeObject & { count: number }>(EVENTS, { namespace, fieldSelector: selector })
      ).items.map((event) => event.count);
    };
    for (const count of [1, 2]) {
      recorder.event(object, { type: 'Normal', reason: 'Even', message: 'again' });
      await expect.poll(counts).toEqual([count]);
    }
  });
});
