import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestCluster } from './testing/cluster.ts';

// What one Evaluation costs the API server, apart from watches: a budget, so that nothing is added to it unseen.

const cluster = new TestCluster();
beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

const BUDGET = {
  'patch evaluations': 2, // its finalizer, on and off
  'apply evaluations': 1, // status: the end; what is over within two seconds is not told
  'create configmaps': 1,
  'deletecollection configmaps': 1, // with those of others that end within a second
  'create jobs': 1,
  'patch jobs': 1, // handed over to the garbage collector
  'patch pods': 1, // its finalizer off
  'create events': 1,
};
const TOTAL = Object.values(BUDGET).reduce((sum, count) => sum + count, 0);

async function run(name: string): Promise<void> {
  const uid = await cluster.submit(name);
  const pod = await cluster.makePod(name);
  await cluster.running(pod);
  await cluster.ended(pod, 0);
  await cluster.capture(uid, pod);
  await cluster.phase(name, 'Succeeded');
  const clean = async (): Promise<true | undefined> => {
    const left = [...(await cluster.leftovers(uid)), ...((await cluster.evaluation(name))?.['metadata'].finalizers ?? [])];
    return left.length === 0 ? true : undefined;
  };
  await cluster.waitFor('a clean end', clean);
  await cluster.waitFor('its event', async () => {
    const { items } = await cluster.must('GET', `${cluster.core('events')}?fieldSelector=involvedObject.uid=${uid}`);
    return items.length > 0 ? true : undefined;
  });
}

it(`${TOTAL} calls for each that goes well and is short, and no reads`, async () => {
  await run('warm'); // the first asks for what a cache has not brought yet
  const runs = 4;
  const before = await cluster.calls();
  for (let index = 0; index < runs; index += 1) await run(`counted-${index}`);
  const after = await cluster.calls();
  const spent = Object.entries(after)
    .map(([call, count]) => [call, (count - (before[call] ?? 0)) / runs] as const)
    .filter(([call, count]) => count > 0 && !call.endsWith(' leases'));
  console.log(`API calls for one Evaluation: ${spent.map(([call, count]) => `${count} ${call}`).join(', ')}`);
  const reads = spent.filter(([call]) => /^(get|list) /.test(call)).reduce((sum, [, count]) => sum + count, 0);
  // A watch may be slower than what it tells of, then the API server is asked; not as a rule.
  expect(reads).toBeLessThanOrEqual(1);
  // On a busy machine it takes so long that the status tells of what is under way, at most once in two seconds.
  const writes = Object.fromEntries(spent.filter(([call]) => !/^(get|list) /.test(call)));
  const slow = (writes['apply evaluations'] ?? 0) - BUDGET['apply evaluations'];
  expect(slow).toBeLessThanOrEqual(2);
  expect({ ...writes, 'apply evaluations': writes['apply evaluations']! - Math.max(0, slow) }).toEqual(BUDGET);
});
