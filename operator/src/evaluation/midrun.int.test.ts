import { MUTABLE_SPEC_FIELDS } from '../../../crds/src/schema/evaluation-spec.ts';
import { FIELD_VALUES } from '../../../crds/src/testing/samples.ts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { jobName } from './names.ts';
import { TestCluster } from './testing/cluster.ts';

// What is changed while a run is under way takes effect or is refused, field by field. Refusals are the API server's own
// (crds/src/crds.int.test.ts has every case of them); here it is looked at that nothing of the run moves.

const cluster = new TestCluster();
beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

const MERGE = 'application/merge-patch+json';

/** Job, ConfigMap and pod of a run, as far as somebody else than the kubelet decides about them. */
async function shape(name: string, uid: string, pod: string): Promise<unknown> {
  const selector = encodeURIComponent(`crucible.dev/evaluation-uid=${uid}`);
  const { items } = await cluster.must('GET', `${cluster.core('configmaps')}?labelSelector=${selector}`);
  const jobs = await cluster.jobs(name);
  return {
    jobs: jobs.map(({ metadata, spec }) => [metadata.uid, metadata.generation, spec]),
    configMaps: (items as { metadata: { uid: string }; data: object }[]).map(({ metadata, data }) => [metadata.uid, data]),
    pod: (await cluster.pod(pod))?.['spec'],
  };
}

it('of an Evaluation only what may be changed, and that takes effect', async () => {
  expect([...MUTABLE_SPEC_FIELDS].sort()).toEqual(['cancel', 'priority', 'ttlSecondsAfterFinished']);
  const uid = await cluster.submit('changed', { timeoutSeconds: 600 });
  const pod = await cluster.makePod('changed');
  await cluster.running(pod, new Date(Date.now() - 20_000));
  await cluster.phase('changed', 'Running');
  // The backstop is lowered once; from then on nothing is to be done.
  await cluster.waitFor('the deadline', async () => ((await cluster.pod(pod))?.['spec'].activeDeadlineSeconds === 601 ? true : undefined), () => cluster.pod(pod));
  const before = await shape('changed', uid, pod);
  for (const [field, [, value]] of Object.entries(FIELD_VALUES)) {
    const answer = await cluster.api.send('PATCH', cluster.path('evaluations', 'changed'), { spec: { [field]: value } }, MERGE);
    expect([field, answer.status], answer.body['message']).toEqual([field, 422]);
  }
  await cluster.patch('changed', { spec: { priority: 7, ttlSecondsAfterFinished: 3600 } });
  await cluster.waitFor('the new generation', async () => ((await cluster.status('changed')).observedGeneration === 2 ? true : undefined), () => cluster.status('changed'));
  expect(await shape('changed', uid, pod)).toEqual(before);
  await cluster.patch('changed', { spec: { cancel: true } });
  await cluster.toldToEnd(pod);
  await cluster.ended(pod, 143, { podReason: 'DeadlineExceeded' });
  await cluster.capture(uid, pod);
  await cluster.phase('changed', 'Cancelled');
  // Lowered afterwards: it is over, so the resource goes and the record stays.
  await cluster.patch('changed', { spec: { ttlSecondsAfterFinished: 0 } });
  await cluster.gone('changed');
  const { rows } = await cluster.record.query('select phase from crucible.evaluations where uid = $1', [uid]);
  expect(rows).toEqual([{ phase: 'Cancelled' }]);
});

it('of its status and finalizer nothing: what somebody else writes there is written anew, and what runs stays held', async () => {
  const uid = await cluster.submit('forged', { timeoutSeconds: 600 });
  const pod = await cluster.makePod('forged');
  await cluster.running(pod, new Date(Date.now() - 20_000));
  await cluster.phase('forged', 'Running');
  await cluster.waitFor('the deadline', async () => ((await cluster.pod(pod))?.['spec'].activeDeadlineSeconds === 601 ? true : undefined), () => cluster.pod(pod));
  const before = await shape('forged', uid, pod);
  const forged = { type: 'Finished', status: 'True', reason: 'Forged', message: 'by hand', lastTransitionTime: '2026-01-01T00:00:00Z' };
  const status = { phase: 'Succeeded', conditions: [forged] };
  await cluster.must('PATCH', `${cluster.path('evaluations', 'forged')}/status`, { status }, MERGE);
  await cluster.phase('forged', 'Running');
  expect((await cluster.status('forged')).conditions?.map(({ type }) => type).sort()).toEqual(['Accepted', 'Ready', 'Reconciling', 'Started']);
  expect((await cluster.evaluation('forged'))?.['metadata'].finalizers).toEqual(['crucible.dev/capture']);
  expect((await cluster.pod(pod))?.['metadata'].finalizers).toContain('crucible.dev/capture');
  expect(await shape('forged', uid, pod)).toEqual(before);
  await cluster.patch('forged', { metadata: { finalizers: null } });
  await cluster.waitFor('the finalizer', async () => ((await cluster.evaluation('forged'))?.['metadata'].finalizers !== undefined ? true : undefined));
  await cluster.ended(pod, 0);
  await cluster.capture(uid, pod);
  expect((await cluster.phase('forged', 'Succeeded')).verdict?.class).toBe('Succeeded');
});

it('of the end of what has not begun nothing either', async () => {
  const runtime = `${cluster.runtime}-later`;
  await cluster.submit('waiting', { runtime });
  const refused = async () => (await cluster.status('waiting')).conditions?.find(({ type }) => type === 'Accepted')?.reason;
  await cluster.waitFor('the refusal', async () => ((await refused()) === 'RuntimeNotFound' ? true : undefined), () => cluster.status('waiting'));
  const forged = { type: 'Finished', status: 'True', reason: 'Forged', message: 'by hand', lastTransitionTime: '2026-01-01T00:00:00Z' };
  const verdict = { class: 'Succeeded', confidence: 'Confirmed', message: 'by hand' };
  const status = { phase: 'Succeeded', conditions: [forged], verdict, exitCode: 0 };
  await cluster.must('PATCH', `${cluster.path('evaluations', 'waiting')}/status`, { status }, MERGE);
  await cluster.waitFor('the refusal again', async () => ((await refused()) === 'RuntimeNotFound' ? true : undefined), () => cluster.status('waiting'));
  expect(Object.keys(await cluster.status('waiting')).sort()).toEqual(['conditions', 'observedGeneration', 'phase']);
  await cluster.createRuntime(runtime);
  await cluster.phase('waiting', 'Starting');
});

it('of a Job that somebody made who no longer led nothing: what is recorded is launched', async () => {
  const runtime = `${cluster.runtime}-moved`;
  const uid = await cluster.submit('overtaken', { runtime });
  await cluster.waitFor('the refusal', async () => ((await cluster.status('overtaken')).conditions?.length ? true : undefined), () => cluster.status('overtaken'));
  const jobs = `/apis/batch/v1/namespaces/${cluster.namespace}/jobs`;
  const metadata = {
    name: jobName({ name: 'overtaken', uid }, 1),
    labels: { 'crucible.dev/evaluation-uid': uid, 'crucible.dev/attempt': '1' },
    annotations: { 'crucible.dev/image': 'crucible/python:yesterday', 'crucible.dev/epoch': '0' },
  };
  const template = { spec: { restartPolicy: 'Never', containers: [{ name: 'sandbox', image: 'crucible/python:yesterday' }] } };
  const stale = await cluster.must('POST', jobs, { apiVersion: 'batch/v1', kind: 'Job', metadata, spec: { template } });
  await cluster.createRuntime(runtime);
  await cluster.phase('overtaken', 'Starting');
  const pod = await cluster.makePod('overtaken');
  const job = await cluster.must('GET', `${jobs}/${metadata.name}`);
  expect(job['metadata'].uid).not.toBe(stale['metadata'].uid);
  expect(job['metadata'].annotations).toMatchObject({ 'crucible.dev/image': 'crucible/python:test', 'crucible.dev/epoch': String(cluster.epoch) });
  await cluster.running(pod);
  await cluster.ended(pod, 0);
  await cluster.capture(uid, pod);
  const { conditions = [] } = await cluster.phase('overtaken', 'Succeeded');
  expect(conditions.find(({ type }) => type === 'Contained')?.reason).not.toBe('ReceiptMismatch');
});

it('of its runtime everything, for what starts from then on', async () => {
  const runtime = `${cluster.runtime}-changed`;
  const path = `/apis/crucible.dev/v1alpha1/evaluationruntimes/${runtime}`;
  await cluster.createRuntime(runtime);
  const uid = await cluster.submit('older', { runtime });
  const pod = await cluster.makePod('older');
  await cluster.running(pod, new Date(Date.now() - 20_000));
  await cluster.phase('older', 'Running');
  await cluster.waitFor('the deadline', async () => ((await cluster.pod(pod))?.['spec'].activeDeadlineSeconds === 61 ? true : undefined), () => cluster.pod(pod));
  const before = await shape('older', uid, pod);
  const spec = {
    image: 'crucible/other:test',
    command: ['other', '-v'],
    entryFile: 'other.py',
    launcher: 'Injected',
    env: [{ name: 'FROM', value: 'runtime' }],
    default: { resources: { cpu: '250m' } },
    maximum: { timeoutSeconds: 2, resources: { memory: '32Mi' } },
  };
  await cluster.must('PATCH', path, { spec }, MERGE);
  await cluster.submit('newer', { runtime });
  await cluster.makePod('newer');
  const [job] = await cluster.jobs('newer');
  const { initContainers, containers } = job!['spec'].template.spec;
  expect(initContainers).toHaveLength(1);
  expect(containers[0]).toMatchObject({ image: 'crucible/other:test', resources: { limits: { cpu: '250m' } } });
  const launcher = await cluster.must('GET', cluster.core('configmaps', job!['metadata'].name));
  expect(JSON.parse(launcher['data']['launcher.json'])).toMatchObject({
    command: ['other', '-v', '/crucible/code/other.py'], env: { FROM: 'runtime' }, timeoutSeconds: 2,
  });
  // A class that is not there is waited for, and never replaced by another.
  await cluster.must('PATCH', path, { spec: { runtimeClassName: 'no-such-class' } }, MERGE);
  await cluster.submit('refused', { runtime });
  await cluster.condition('refused', 'Accepted', 'RuntimeClassNotFound');

  // The run that was under way has noticed nothing: neither now, nor by the new limit of 2 s.
  await cluster.patch('older', { spec: { priority: 1 } });
  await cluster.waitFor('another look', async () => ((await cluster.status('older')).observedGeneration === 2 ? true : undefined));
  expect(await shape('older', uid, pod)).toEqual(before);
  await cluster.ended(pod, 0, { seconds: 20 });
  await cluster.capture(uid, pod);
  expect((await cluster.phase('older', 'Succeeded')).verdict?.class).toBe('Succeeded');
  await cluster.api.delete(path);
});
