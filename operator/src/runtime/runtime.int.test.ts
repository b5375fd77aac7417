import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestCluster } from '../evaluation/testing/cluster.ts';
import { RuntimeOperator } from './operator.ts';

const cluster = new TestCluster({}, [(parts) => new RuntimeOperator({ ...parts, now: () => Date.now() })]);
const RUNTIMES = '/apis/crucible.dev/v1alpha1/evaluationruntimes';
const CLASSES = '/apis/node.k8s.io/v1/runtimeclasses';

beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

type Condition = { type: string; status: string; reason: string; message: string };
const ready = (name: string, reason: string): Promise<Record<string, any>> =>
  cluster.waitFor(`${name} to be ${reason}`, async () => {
    const runtime = await cluster.must('GET', `${RUNTIMES}/${name}`);
    return runtime['status']?.conditions?.find(({ type }: Condition) => type === 'Ready')?.reason === reason ? runtime : undefined;
  });

it('says whether it can be used, follows RuntimeClasses, and writes a status once', async () => {
  const runtimeClass = `class-${cluster.runtime}`;
  const name = `needs-${cluster.runtime}`;
  const spec = { image: 'python:3.13', command: ['python3'], entryFile: 'main.py', runtimeClassName: runtimeClass };
  await cluster.must('POST', RUNTIMES, { apiVersion: 'crucible.dev/v1alpha1', kind: 'EvaluationRuntime', metadata: { name }, spec });
  const missing = await ready(name, 'RuntimeClassNotFound');
  expect(missing['status'].observedGeneration).toBe(1);
  expect(missing['status'].conditions.map(({ type, status }: Condition) => [type, status]).sort()).toEqual([
    ['ImagePinned', 'False'], ['Ready', 'False'], ['Stalled', 'True'],
  ]);
  await cluster.must('POST', CLASSES, { apiVersion: 'node.k8s.io/v1', kind: 'RuntimeClass', metadata: { name: runtimeClass }, handler: 'runc' });
  const usable = await ready(name, 'Usable');
  expect(usable['status'].conditions.some(({ type }: Condition) => type === 'Stalled')).toBe(false);
  const image = `python@sha256:${'0'.repeat(64)}`;
  await cluster.must('PATCH', `${RUNTIMES}/${name}`, { spec: { image } }, 'application/merge-patch+json');
  const pinned = await cluster.waitFor('a pinned image', async () => {
    const runtime = await cluster.must('GET', `${RUNTIMES}/${name}`);
    return runtime['status'].observedGeneration === 2 ? runtime : undefined;
  });
  expect(pinned['status'].conditions.find(({ type }: Condition) => type === 'ImagePinned')).toMatchObject({ status: 'True', reason: 'ByDigest' });
  // A look that changes nothing writes nothing: two restarts look at everything again.
  await cluster.stopOperator();
  await cluster.startOperator();
  const marker = `marker-${cluster.runtime}`;
  await cluster.createRuntime(marker);
  await ready(marker, 'Usable');
  expect((await cluster.must('GET', `${RUNTIMES}/${name}`))['metadata'].resourceVersion).toBe(pinned['metadata'].resourceVersion);
  await cluster.must('DELETE', `${CLASSES}/${runtimeClass}`);
  await ready(name, 'RuntimeClassNotFound');
  for (const one of [name, marker]) await cluster.must('DELETE', `${RUNTIMES}/${one}`);
});
