import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster } from './testing/cluster.ts';

// What must be let go, and what must not be started, while the record is away, wrong or restored. One place to run.

const cluster = new TestCluster({
  maxConcurrent: 1,
  patience: { startUp: 300, imagePull: 300, unschedulable: 300, quota: 300, refused: 2, lostCapture: 2 },
});

beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

const clean = (uid: string) =>
  cluster.waitFor(
    'a clean end',
    async () => ((await cluster.leftovers(uid)).length === 0 ? true : undefined),
    () => cluster.leftovers(uid),
  );
const finish = async (name: string, uid: string, pod: string) => {
  await cluster.ended(pod, 0);
  await cluster.capture(uid, pod);
  await cluster.phase(name, 'Succeeded');
};

describe('an outage of Postgres', () => {
  it('does not lift the limit: what was queued is still queued afterwards', async () => {
    const first = await cluster.submit('first');
    const pod = await cluster.makePod('first');
    await cluster.running(pod);
    await cluster.phase('first', 'Running');
    const second = await cluster.submit('second');
    await cluster.condition('second', 'Accepted', 'Admitted');
    await cluster.postgresAway();
    // Longer than it takes until both have been decided about without the record.
    await cluster.patch('second', { metadata: { labels: { seen: 'yes' } } });
    await cluster.patch('first', { metadata: { labels: { seen: 'yes' } } });
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await cluster.postgresBack();
    await cluster.patch('second', { metadata: { labels: { seen: 'again' } } });
    await new Promise((resolve) => setTimeout(resolve, 8000));
    expect(await cluster.jobs('second')).toEqual([]);
    await finish('first', first, pod);
    const other = await cluster.makePod('second');
    await cluster.running(other);
    await finish('second', second, other);
  });

  it('does not keep a deleted Evaluation: it goes after the patience, and the rows are finished later', async () => {
    const uid = await cluster.submit('deleted-away');
    const pod = await cluster.makePod('deleted-away');
    await cluster.running(pod);
    await cluster.phase('deleted-away', 'Running');
    await cluster.postgresAway();
    await cluster.remove('deleted-away');
    await cluster.toldToEnd(pod);
    await cluster.ended(pod, 143, { podReason: 'DeadlineExceeded' });
    await cluster.gone('deleted-away');
    await clean(uid);
    // As the garbage collector does once the Job is gone.
    await cluster.destroyPod(pod);
    await cluster.postgresBack();
    await cluster.waitFor('the end in the record', async () => {
      const { rows } = await cluster.record.query(
        'select 1 from crucible.evaluations where uid = $1 and finished_at is not null',
        [uid],
      );
      return rows.length === 1 ? true : undefined;
    });
  });
});

describe('a record that has lost the end of a run', () => {
  /** As after a restore, or a failover that lost what was written last. */
  const lose = (uid: string) =>
    cluster.record.transaction(async (tx) => {
      await tx.query('SET LOCAL session_replication_role = replica');
      await tx.query(
        `UPDATE crucible.evaluations SET phase = 'Running', verdict = NULL, passed = NULL, finished_at = NULL, accepted_attempt = NULL
         WHERE uid = $1`,
        [uid],
      );
      await tx.query(
        `UPDATE crucible.attempts SET state = 'running', verdict = NULL, finalized_at = NULL, finished_at = NULL, exit_code = NULL
         WHERE evaluation_uid = $1`,
        [uid],
      );
    });

  it('takes it from the status, before the Evaluation is deleted and it would count as never seen', async () => {
    const uid = await cluster.submit('lost-end', { retry: { limit: 0 } });
    const pod = await cluster.makePod('lost-end');
    await cluster.running(pod);
    await cluster.ended(pod, 3);
    await cluster.capture(uid, pod);
    await cluster.phase('lost-end', 'Failed');
    await lose(uid);
    const row = await cluster.waitFor('the end in the record', async () => {
      const { rows } = await cluster.record.query<Record<string, any>>(
        `SELECT e.phase, e.verdict, e.finished_at, e.accepted_attempt, a.state, a.exit_code, a.verdict AS attempt_verdict
         FROM crucible.evaluations e JOIN crucible.attempts a ON a.evaluation_uid = e.uid WHERE e.uid = $1 AND e.finished_at IS NOT NULL`,
        [uid],
      );
      return rows[0];
    });
    const from = expect.arrayContaining([expect.objectContaining({ source: 'Evaluation/status' })]);
    expect(row).toMatchObject({
      phase: 'Failed', accepted_attempt: 1, state: 'finalized', exit_code: 3,
      verdict: { class: 'NonZeroExit', evidence: from }, attempt_verdict: { class: 'NonZeroExit', evidence: from },
    });
    expect(row['finished_at'].toISOString()).toBe(new Date((await cluster.status('lost-end')).finishedAt!).toISOString());
  });
});

describe('finalizers', () => {
  it('a second pod of the Job is let go with the first', async () => {
    const uid = await cluster.submit('two-pods');
    const pod = await cluster.makePod('two-pods');
    await cluster.running(pod);
    await cluster.phase('two-pods', 'Running');
    const second = await cluster.makePod('two-pods');
    await cluster.remove('two-pods');
    await cluster.toldToEnd(pod);
    await cluster.ended(pod, 143, { podReason: 'DeadlineExceeded' });
    await cluster.capture(uid, pod);
    await cluster.gone('two-pods');
    await clean(uid);
    expect((await cluster.pod(second))?.['metadata'].finalizers).toBeUndefined();
  });

  it('pods and Jobs that no record knows, because it was restored, are let go', async () => {
    const uid = randomUUID();
    await cluster.strayRun('stray', uid);
    await clean(uid);
  });
});

describe('a pod that no recorder saw', () => {
  it('and that is gone: the run ends within the patience, and says so', async () => {
    await cluster.submit('unseen');
    const pod = await cluster.makePod('unseen');
    await cluster.running(pod);
    await cluster.phase('unseen', 'Running');
    await cluster.destroyPod(pod);
    const status = await cluster.phase('unseen', 'Failed');
    expect(status.verdict?.class).toBe('InternalError');
    await cluster.condition('unseen', 'Captured', 'PodGone');
  });
});
