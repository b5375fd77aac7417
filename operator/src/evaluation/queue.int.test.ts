import { readQueue } from '@crucible/storage';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster } from './testing/cluster.ts';

// What an Evaluation waits for before it starts, and how it says so.

const cluster = new TestCluster({ maxConcurrent: 3, maxUncaptured: 1, ownNamespace: 'default' });
const limited = new TestCluster({ maxConcurrent: 3 });

beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

const waits = (name: string, reason: string) =>
  cluster.waitFor(
    `${name} to wait for ${reason}`,
    async () => {
      const { queue, phase } = await cluster.status(name);
      return phase === 'Queued' && queue?.reason === reason ? queue : undefined;
    },
    () => cluster.status(name),
  );
const pauseIn = async (namespace: string, data: Record<string, string> | null): Promise<void> => {
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  await cluster.api.send('POST', path, { metadata: { name: 'crucible-pause' } });
  await cluster.must('PATCH', `${path}/crucible-pause`, { data }, 'application/merge-patch+json');
};
async function end(name: string, uid: string, pod: string): Promise<void> {
  await cluster.ended(pod, 0);
  await cluster.capture(uid, pod);
  await cluster.phase(name, 'Succeeded');
}

describe('the pause switch', () => {
  it.each([
    ['of the namespace', () => cluster.namespace, /^Namespace "evals-.*" is paused: new nodes$/],
    ['of the installation', () => 'default', /^Crucible is paused: new nodes$/],
  ])('%s: nothing new starts, what runs goes on, and all begin when it is taken back', async (what, where, message) => {
    const suffix = what.replaceAll(' ', '-');
    const running = await cluster.submit(`runs-${suffix}`);
    const pod = await cluster.makePod(`runs-${suffix}`);
    await cluster.running(pod);
    await cluster.phase(`runs-${suffix}`, 'Running');
    await pauseIn(where(), { paused: 'true', reason: 'new nodes' });
    const waiting = await cluster.submit(`waits-${suffix}`);
    expect((await waits(`waits-${suffix}`, 'Paused')).message).toMatch(message);
    await end(`runs-${suffix}`, running, pod);
    expect(await cluster.jobs(`waits-${suffix}`)).toEqual([]);
    await pauseIn(where(), null);
    const other = await cluster.makePod(`waits-${suffix}`);
    await cluster.running(other);
    expect((await cluster.phase(`waits-${suffix}`, 'Running')).queue).toBeUndefined();
    await end(`waits-${suffix}`, waiting, other);
  });

  it('a paused one can be cancelled', async () => {
    await pauseIn(cluster.namespace, { paused: 'yes' });
    await cluster.submit('paused-cancelled');
    expect((await waits('paused-cancelled', 'Paused')).message).toContain('neither "true" nor "false"');
    await cluster.patch('paused-cancelled', { spec: { cancel: true } });
    await cluster.phase('paused-cancelled', 'Cancelled');
    await pauseIn(cluster.namespace, null);
  });
});

describe('back-pressure', () => {
  it('nothing starts while an ended run is not captured, and then it does', async () => {
    const first = await cluster.submit('uncaptured');
    const pod = await cluster.makePod('uncaptured');
    await cluster.running(pod);
    await cluster.ended(pod, 0);
    await cluster.phase('uncaptured', 'Capturing');
    const second = await cluster.submit('behind');
    expect((await waits('behind', 'CaptureBacklog')).message).toContain('not stored yet');
    await cluster.capture(first, pod);
    await cluster.phase('uncaptured', 'Succeeded');
    const other = await cluster.makePod('behind');
    await cluster.running(other);
    await end('behind', second, other);
  });
});

describe('limits', () => {
  it('say which one it is', async () => {
    const uids: [string, string, string][] = [];
    for (const name of ['one', 'two', 'three']) {
      const uid = await cluster.submit(name);
      uids.push([name, uid, await cluster.makePod(name)]);
    }
    const four = await cluster.submit('four');
    await waits('four', 'GlobalLimit');
    // The record says so too, from which the API tells positions.
    const told = async (): Promise<unknown> => (await readQueue(cluster.record, 'all')).items.find(({ uid }) => uid === four);
    await expect.poll(told, { timeout: 20_000 }).toMatchObject({ stage: 'Queued', reason: 'GlobalLimit', position: 1 });
    await cluster.patch('four', { spec: { cancel: true } });
    await cluster.phase('four', 'Cancelled');
    for (const [name, uid, pod] of uids) {
      await cluster.running(pod);
      await end(name, uid, pod);
    }
  });

  it('of one namespace, without the others', async () => {
    Object.assign(limited.settings, { namespaceLimits: { [limited.namespace]: 1 } });
    // Operators watch the whole cluster: two at once would tell each other's that their namespaces are not enabled.
    await cluster.stopOperator();
    await limited.start();
    try {
      const uid = await limited.submit('first');
      const pod = await limited.makePod('first');
      await limited.submit('second');
      const status = await limited.condition('second', 'Accepted', 'Admitted').then(() => limited.status('second'));
      expect(status.queue).toEqual({
        reason: 'NamespaceLimit',
        message: 'As many evaluations of this namespace run as may at once.',
      });
      expect(await limited.jobs('second')).toEqual([]);
      // A changed priority counts at once, for one that waits already.
      await limited.submit('third');
      await limited.condition('third', 'Accepted', 'Admitted');
      const { metadata } = await limited.patch('third', { spec: { priority: 10 } });
      await limited.waitFor('the priority to be seen', async () =>
        (await limited.status('third')).observedGeneration === metadata.generation ? true : undefined,
      );
      await limited.patch('first', { spec: { cancel: true } });
      await limited.toldToEnd(pod);
      await limited.endedBeforeStart(pod);
      await limited.captureNothing(uid, pod);
      await limited.makePod('third');
      expect(await limited.jobs('second')).toEqual([]);
    } finally {
      await limited.stop();
      await cluster.startOperator();
    }
  });
});

describe('kstatus', () => {
  it('what may be changed of a finished one is seen, and changes nothing of its end', async () => {
    const uid = await cluster.submit('over');
    const pod = await cluster.makePod('over');
    await cluster.running(pod);
    await end('over', uid, pod);
    const before = await cluster.status('over');
    for (const spec of [{ priority: 7 }, { cancel: true }, { ttlSecondsAfterFinished: 86_400 }]) {
      const { metadata } = await cluster.patch('over', { spec });
      const seen = await cluster.waitFor('the generation to be seen', async () => {
        const status = await cluster.status('over');
        return status.observedGeneration === metadata.generation ? status : undefined;
      });
      expect(seen.conditions.every((one) => (one as { observedGeneration?: number }).observedGeneration === metadata.generation)).toBe(true);
      expect([seen.phase, seen.verdict, seen.attempts]).toEqual([before.phase, before.verdict, before.attempts]);
    }
    await cluster.patch('over', { spec: { ttlSecondsAfterFinished: 0 } });
    await cluster.gone('over');
  });
});
