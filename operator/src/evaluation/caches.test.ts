import { pino } from 'pino';
import { expect, it, vi } from 'vitest';
import { KubeClient } from '../kube/index.ts';
import type { KubeObject } from '../kube/index.ts';
import { ScriptedServer } from '../kube/testing-server.ts';
import type { Exchange } from '../kube/testing-server.ts';
import { ClusterCaches } from './caches.ts';
import { pod, snapshot } from './testing/builders.ts';

const NAMESPACES = '/api/v1/namespaces';
const PODS = '/api/v1/namespaces/evals/pods';

it('a namespace that goes after our rights in it takes what was seen in it along', async () => {
  const server = await ScriptedServer.start();
  const logger = pino({ level: 'silent' });
  const client = new KubeClient({ access: server.access(), logger });
  const caches = new ClusterCaches({ client, namespaces: ['evals'], logger });
  const at = (object: KubeObject | undefined, resourceVersion: string): KubeObject => ({ ...object!, metadata: { ...object!.metadata, resourceVersion } });
  const namespace = at(snapshot().cluster.namespace, '4');
  const first: Record<string, KubeObject[]> = { [NAMESPACES]: [namespace], [PODS]: [at(pod().running().build(), '5')] };
  const watches = new Map<string, Exchange>();
  let rights = true;
  server.handler = (exchange) => {
    const { path, query } = exchange;
    if (path.startsWith(`${NAMESPACES}/`) && !rights) exchange.fail(403, 'Forbidden');
    else if (query['watch'] !== undefined) watches.set(path, exchange.open());
    else exchange.json({ metadata: { resourceVersion: '10' }, items: first[path] ?? [] });
  };
  const until = (condition: () => boolean): Promise<void> => vi.waitFor(() => expect(condition()).toBe(true), { timeout: 5000, interval: 10 });
  try {
    caches.start();
    await caches.waitForSync();
    await until(() => watches.has(NAMESPACES) && watches.has(PODS));
    expect([caches.pods.list().length, caches.namespaces.size]).toEqual([1, 1]);
    rights = false;
    watches.get(PODS)!.end();
    watches.get(NAMESPACES)!.event('DELETED', at(namespace, '11'));
    await until(() => caches.pods.list().length === 0);
    expect(caches.pods.ofEvaluation(pod().build().metadata.labels!['crucible.dev/evaluation-uid']!)).toEqual([]);
  } finally {
    await caches.stop();
    await client.close();
    await server.close();
  }
});
