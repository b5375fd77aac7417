import { randomBytes } from 'node:crypto';
import { KubernetesEventRepository, listKubernetesEvents, readComplete } from '@crucible/storage';
import type { KubernetesEvents } from '@crucible/storage';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventKeeper } from './event-keeper.ts';
import { TestCluster } from './testing/cluster.ts';

const cluster = new TestCluster({}, [
  ({ client, caches, database, settings, logger }) =>
    new EventKeeper({ client, caches, namespaces: settings.evaluationNamespaces, repository: new KubernetesEventRepository(database), logger }),
]);

beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

interface Run {
  readonly uid: string;
  readonly pod: { readonly name: string; readonly uid: string };
}

async function run(name: string): Promise<Run> {
  const uid = await cluster.submit(name);
  const podName = await cluster.makePod(name);
  return { uid, pod: { name: podName, uid: (await cluster.pod(podName))?.['metadata'].uid } };
}

/** As the kubelet, the scheduler and the Job controller tell it; in whole seconds. */
async function tell({ pod }: Pick<Run, 'pod'>, reason: string, changes: object = {}): Promise<void> {
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  await cluster.must('POST', cluster.core('events'), {
    apiVersion: 'v1', kind: 'Event', metadata: { name: `${pod.name}.${randomBytes(8).toString('hex')}`, namespace: cluster.namespace },
    involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace: cluster.namespace, ...pod },
    reason, type: 'Normal', message: `${reason} of ${pod.name}`, source: { component: 'kubelet', host: 'node-1' }, count: 1,
    firstTimestamp: now, lastTimestamp: now, ...changes,
  });
}

const told = ({ uid }: Run): Promise<KubernetesEvents> => listKubernetesEvents(cluster.record, uid, 'all');

function comes(what: string, of: Run, holds: (events: KubernetesEvents) => boolean): Promise<KubernetesEvents> {
  return cluster.waitFor(what, async () => (await told(of).then((events) => (holds(events) ? events : undefined))), () => told(of));
}

const has = (reason: string) => ({ events }: KubernetesEvents) => events.some((event) => event.reason === reason);

describe('what Kubernetes tells of a run', () => {
  it('is in its timeline, whoever told it, unless it is what the record says anyway', async () => {
    const one = await run('told');
    for (const reason of ['Scheduled', 'Created', 'Pulled', 'Started']) await tell(one, reason);
    const job = (await cluster.jobs('told'))[0]!['metadata'];
    await tell({ pod: job }, 'FailedCreate', { involvedObject: { kind: 'Job', namespace: cluster.namespace, name: job.name, uid: job.uid }, source: { component: 'job-controller' } });
    await comes('all four events', one, ({ events }) => events.length >= 4);
    const { timeline } = (await readComplete(cluster.record, {}, one.uid, 'all'))!;
    const messages = timeline.filter(({ kubernetesEvent }) => kubernetesEvent !== null).map(({ message, attempt }) => [message, attempt]);
    expect(messages).toEqual([
      ...['Scheduled', 'Pulled', 'Started'].map((reason) => [`kubelet told of its pod: ${reason}: ${reason} of ${one.pod.name}`, 1]),
      [`job-controller told of its job: FailedCreate: FailedCreate of ${job.name}`, 1],
    ]);
  });

  it('is caught up with after a restart, and after Postgres was away', async () => {
    const one = await run('away');
    await cluster.stopOperator();
    await tell(one, 'WhileStopped');
    await cluster.startOperator();
    await comes('what was told while the operator was stopped', one, has('WhileStopped'));
    await cluster.postgresAway();
    await tell(one, 'WhileAway');
    await cluster.postgresBack();
    const { events } = await comes('what was told while Postgres was away', one, has('WhileAway'));
    expect(events.map(({ reason, count }) => [reason, count])).toEqual([['WhileStopped', 1], ['WhileAway', 1]]);
  });

  it('is bounded for a run that is flooded with it, hostile texts and all; others do not notice', async () => {
    const [flooded, other] = [await run('flooded'), await run('other')];
    const hostile = `"'; \u0000\u001b[2J\u202e`;
    await tell(flooded, 'Hostile', { message: `${hostile}${'x'.repeat(500_000)}`, firstTimestamp: '0001-01-01T00:00:00Z', lastTimestamp: '9999-12-31T23:59:59Z', count: -7 });
    const [first] = (await comes('the hostile one', flooded, has('Hostile'))).events;
    expect(first).toMatchObject({ count: 1, message: expect.stringMatching(/^"'; \\u0000/) as string });
    expect(first!.message.length).toBeLessThanOrEqual(1024);
    for (const time of [first!.firstSeenAt, first!.lastSeenAt]) expect(Math.abs(time.getTime() - Date.now())).toBeLessThan(3_600_000);
    for (let n = 0; n < 130; n += 10) await Promise.all(Array.from({ length: 10 }, (_, m) => tell(flooded, `Flood${n + m}`)));
    await tell(other, 'Quiet');
    await comes('the other run’s event', other, has('Quiet'));
    const { events, leftOut } = await comes('a hundred events and a count of the others', flooded, (all) => all.leftOut?.count === 31);
    expect([events.length, leftOut?.count]).toEqual([100, 31]);
  });
});
