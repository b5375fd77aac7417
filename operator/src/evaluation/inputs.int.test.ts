import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EVALUATIONS } from '../kube/index.ts';
import type { RawEvaluation } from './snapshot.ts';
import { TestCluster } from './testing/cluster.ts';

const cluster = new TestCluster();
beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

const MERGE = 'application/merge-patch+json';
const set = (patch: object) => cluster.must('PATCH', cluster.core('configmaps', 'big'), patch, MERGE);
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const large = 'x'.repeat(300_000);

async function inputsOf(uid: string): Promise<unknown[]> {
  const text = 'select inputs from crucible.attempts where evaluation_uid = $1 order by number';
  return (await cluster.record.query<{ inputs: unknown }>(text, [uid])).rows.map(({ inputs }) => inputs);
}

/** Copies of the attempts, as long as they run. */
async function given(uid: string): Promise<Record<string, any>[]> {
  const selector = encodeURIComponent(`crucible.dev/evaluation-uid=${uid}`);
  return (await cluster.must('GET', `${cluster.core('configmaps')}?labelSelector=${selector}`))['items'];
}

it('a file from a ConfigMap is waited for, copied, recorded, and never another one in the same run', async () => {
  const files = [{ path: 'data/big', configMapRef: { name: 'big', key: 'b' } }];
  const uid = await cluster.submit('inputs', { files, retry: { limit: 1, on: ['Any'] } });
  const missing = await cluster.condition('inputs', 'Accepted', 'ConfigMapNotFound');
  expect(missing['message']).toContain('"big"');
  await cluster.must('POST', cluster.core('configmaps'), { metadata: { name: 'big' }, data: { b: large } });
  // Any change wakes it; without one it looks again by itself.
  await cluster.patch('inputs', { spec: { priority: 1 } });
  await cluster.condition('inputs', 'Accepted', 'ConfigMapNotShared');
  expect(await cluster.jobs('inputs')).toEqual([]);

  await set({ metadata: { labels: { 'crucible.dev/input': 'true' } } });
  await cluster.patch('inputs', { spec: { priority: 2 } });
  const pod = await cluster.makePod('inputs');
  const record = [{ path: 'data/big', configMap: 'big', key: 'b', bytes: large.length, sha256: sha256(large) }];
  expect(await inputsOf(uid)).toEqual([record]);
  const [copy] = await given(uid);
  expect(copy).toMatchObject({ immutable: true, data: { f0: 'print("hello")', f1: large } });
  const volumes = (await cluster.pod(pod))?.['spec'].volumes as { name: string; configMap?: object }[];
  expect(volumes.find(({ name }) => name === 'code')?.configMap).toMatchObject({
    name: copy!['metadata'].name,
    items: expect.arrayContaining([{ key: 'f1', path: 'data/big' }]),
  });

  // Of what runs nothing changes any more; another attempt would be another run.
  await set({ data: { b: 'changed' } });
  await cluster.running(pod);
  await cluster.ended(pod, 1);
  await cluster.capture(uid, pod);
  const changed = await cluster.condition('inputs', 'Accepted', 'ConfigMapChanged');
  expect(changed['message']).toContain('Put it back');
  await set({ data: { b: large } });
  await cluster.patch('inputs', { spec: { priority: 3 } });
  const again = await cluster.makePod('inputs', 2);
  expect(await inputsOf(uid)).toEqual([record, record]);
  await cluster.running(again);
  await cluster.ended(again, 0);
  await cluster.capture(uid, again, 'ok\n', 2);
  await cluster.phase('inputs', 'Succeeded');
}, 60_000);

it('large code is not kept in memory, and is recorded and run byte for byte all the same', async () => {
  const code = '# é"\\\t漢\u{1f600}\r\n'.repeat(5_000);
  const files = [{ path: 'data', content: 'z'.repeat(10_000) }];
  const uid = await cluster.submit('large', { code, files, stdin: 'in', priority: 1 });
  const pod = await cluster.makePod('large');
  const kept = (): number => JSON.stringify(cluster.current.caches.evaluations.get(`${cluster.namespace}/large`)).length;
  expect(kept()).toBeLessThan(4_000);
  const [copy] = await given(uid);
  expect(copy!['data']).toMatchObject({ f0: code, f1: files[0]!.content, stdin: 'in' });
  const { rows } = await cluster.record.query<{ spec: object }>('select spec from crucible.evaluations where uid = $1', [uid]);
  expect(rows[0]?.spec).toMatchObject({ code, files, stdin: 'in' });

  await cluster.running(pod);
  await cluster.phase('large', 'Running');
  // Its first list, and what a status write answers.
  await cluster.stopOperator();
  await cluster.startOperator();
  expect(kept()).toBeLessThan(8_000);
  await cluster.ended(pod, 0);
  await cluster.capture(uid, pod);
  await cluster.phase('large', 'Succeeded');
  expect((await cluster.current.client.get<RawEvaluation>(EVALUATIONS, cluster.namespace, 'large')).spec).toMatchObject({ code });
}, 60_000);
