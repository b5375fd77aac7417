import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestCluster } from './testing/cluster.ts';

const cluster = new TestCluster();

beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

/** Nobody counts here: what the quota controller would write is written by hand. */
async function allowJobs(count: string): Promise<void> {
  const path = cluster.core('resourcequotas', 'jobs');
  const hard = { 'count/jobs.batch': count };
  await cluster.must('PATCH', path, { spec: { hard } }, 'application/merge-patch+json');
  const status = { hard, used: { 'count/jobs.batch': '0' } };
  await cluster.must('PATCH', `${path}/status`, { status }, 'application/merge-patch+json');
}

it('while the API server refuses the Job the status says why, once, and it starts when it may', async () => {
  await cluster.must('POST', cluster.core('resourcequotas'), { metadata: { name: 'jobs' }, spec: { hard: {} } });
  await allowJobs('0');
  // The API server reads quotas from a cache.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const uid = await cluster.submit('refused');
  const started = await cluster.condition('refused', 'Started', 'QuotaExceeded');
  expect(started['message']).toContain('ResourceQuota');
  // It is the first try's word: the finalizer that went before does not get in its way. (A later try finds the ConfigMap
  // of the first one, which is no conflict.)
  const { 'create configmaps': _, ...conflicts } = await cluster.calls(409);
  expect(conflicts).toEqual({});
  // The attempt is in the record from the second try on; after that every try says the same.
  await cluster.waitFor('the second try', async () => (await cluster.status('refused')).attempts?.[0]);
  const status = await cluster.phase('refused', 'Queued');
  expect(status.queue?.reason).toBe('QuotaExceeded');
  expect(status.queue?.message).toContain('ResourceQuota');
  const phases = 'select phase from crucible.evaluations where uid = $1';
  expect((await cluster.record.query(phases, [uid])).rows).toEqual([{ phase: 'Queued' }]);
  const version = async () => (await cluster.evaluation('refused'))?.['metadata'].resourceVersion;
  const before = await version();
  await new Promise((resolve) => setTimeout(resolve, 6000));
  expect(await version()).toBe(before);

  // Its runtime changes meanwhile: what is launched is what the record says, or the receipt would not fit it.
  const runtime = `/apis/crucible.dev/v1alpha1/evaluationruntimes/${cluster.runtime}`;
  const spec = { image: 'crucible/other:test', maximum: { timeoutSeconds: 7 } };
  await cluster.must('PATCH', runtime, { spec }, 'application/merge-patch+json');
  const terms = 'select image, timeout_seconds as seconds, job_uid is not null as launched from crucible.attempts where evaluation_uid = $1';
  const row = async () => (await cluster.record.query<{ image: string; seconds: number; launched: boolean }>(terms, [uid])).rows[0];
  await cluster.waitFor('the row to follow', async () => ((await row())?.image === spec.image ? true : undefined), row);
  await allowJobs('1');
  await cluster.phase('refused', 'Starting');
  expect(await row()).toEqual({ image: spec.image, seconds: 7, launched: true });
  const [job] = await cluster.jobs('refused');
  expect(job!['spec'].template.spec.containers[0].image).toBe(spec.image);
  expect((await cluster.status('refused')).queue).toBeUndefined();
}, 60_000);
