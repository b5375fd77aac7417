import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestCluster } from './testing/cluster.ts';

const cluster = new TestCluster();

beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

/** The API server takes it. On the output below it runs for about half a minute, longer than a liveness probe waits. */
const SLOW = ['x{1000}$', ...Array.from({ length: 12 }, (_, index) => `x{${999 - index}}y`)].join('|');
const OUTPUT = 'x'.repeat(65_000);

async function finishedRun(name: string, spec: object, stdout: string): Promise<string> {
  const uid = await cluster.submit(name, spec);
  const pod = await cluster.makePod(name);
  await cluster.running(pod);
  await cluster.ended(pod, 0);
  await cluster.capture(uid, pod, stdout);
  return uid;
}

const inRecord = async (uid: string) =>
  (
    await cluster.record.query(
      'select passed, passed_reason as reason from crucible.evaluations where uid = $1 and finished_at is not null',
      [uid],
    )
  ).rows[0];

it('a pattern that takes minutes fails its own evaluation, and others go on meanwhile', async () => {
  const slow = await finishedRun('slow', { expect: { stdout: { matches: SLOW } } }, OUTPUT);
  await finishedRun('other', {}, 'hello\n');
  // The other one ends while this one is compared; that the event loop is free meanwhile is what score-thread.test.ts is about.
  await cluster.phase('other', 'Succeeded');
  await cluster.phase('slow', 'Capturing');
  await cluster.phase('slow', 'Succeeded');
  const passed = (await cluster.status('slow')).conditions.find(({ type }) => type === 'Passed');
  expect(passed).toMatchObject({ status: 'False', reason: 'MatchTooSlow' });
  expect(passed?.message).toContain('Simplify the pattern');
  expect(await inRecord(slow)).toEqual({ passed: false, reason: 'MatchTooSlow' });
}, 60_000);

it('one that is deleted while it is scored does not wait for that', async () => {
  const uid = await finishedRun('slow-deleted', { expect: { stdout: { matches: SLOW } } }, OUTPUT);
  await cluster.condition('slow-deleted', 'Captured', 'Captured');
  expect((await cluster.status('slow-deleted')).phase).toBe('Capturing');
  await cluster.remove('slow-deleted');
  await cluster.gone('slow-deleted');
  expect(await inRecord(uid)).toEqual({ passed: null, reason: null });
});
