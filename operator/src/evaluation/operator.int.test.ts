import { randomUUID } from 'node:crypto';
import { SubmissionRepository, readQueue, readState } from '@crucible/storage';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { receiptDigest } from './receipt.ts';
import type { Receipt } from './receipt.ts';
import { TestCluster } from './testing/cluster.ts';

// An image is waited for longer than a state passes: it is to be seen.
const cluster = new TestCluster({
  patience: { startUp: 300, imagePull: 5, unschedulable: 300, quota: 300, refused: 2, lostCapture: 2 },
});

beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

const holds = (status: { conditions: readonly { type: string; status: string }[] }): string[] =>
  status.conditions
    .filter((condition) => condition.status === 'True')
    .map(({ type }) => type)
    .sort();

describe('a run', () => {
  it('goes from applied to Succeeded, with output, record, events and nothing left behind', async () => {
    const uid = await cluster.submit('happy', { expect: { stdout: { contains: 'hello' } } });
    const pod = await cluster.makePod('happy');
    await cluster.phase('happy', 'Starting');
    // Long enough that its deadline is worth a write.
    await cluster.running(pod, new Date(Date.now() - 6000));
    await cluster.phase('happy', 'Running');
    // 60 s to run, 5 s of grace, 3 s of margin: lowered from the initial deadline with its start-up time.
    await cluster.waitFor('the lower deadline', async () =>
      (await cluster.pod(pod))?.['spec'].activeDeadlineSeconds === 61 ? true : undefined,
    );
    await cluster.ended(pod, 0);
    await cluster.phase('happy', 'Capturing');
    await cluster.capture(uid, pod);
    const status = await cluster.phase('happy', 'Succeeded');
    expect(holds(await cluster.status('happy'))).toEqual([
      'Accepted',
      'Captured',
      'Complete',
      'Contained',
      'Finished',
      'Passed',
      'Ready',
      'Started',
    ]);
    expect(status).toMatchObject({
      exitCode: 0,
      observedGeneration: 1,
      verdict: { class: 'Succeeded' },
      output: { stdoutBytes: 6, complete: true, tail: 'hello\n' },
    });
    const stored = await cluster.record.query<{ receipt: Receipt }>(
      'select receipt from crucible.attempts where evaluation_uid = $1',
      [uid],
    );
    expect(stored.rows[0]!.receipt).toMatchObject({ attempt: 1, mismatches: [], kubernetes: { pod: { name: pod } } });
    expect(status.receipt).toMatchObject({ digest: receiptDigest(stored.rows[0]!.receipt) });
    expect(status.attempts).toMatchObject([{ number: 1, podName: pod, node: 'node-1', exitCode: 0 }]);
    await cluster.waitFor(
      'a clean end',
      async () => ((await cluster.leftovers(uid)).length === 0 ? true : undefined),
      () => cluster.leftovers(uid),
    );
    const { rows } = await cluster.record.query(
      "select phase, passed, accepted_attempt, verdict->>'class' as class from crucible.evaluations where uid = $1",
      [uid],
    );
    expect(rows).toEqual([{ phase: 'Succeeded', passed: true, accepted_attempt: 1, class: 'Succeeded' }]);
    const events = await cluster.record.query<{ type: string }>(
      'select type from crucible.events where evaluation_uid = $1 order by seq',
      [uid],
    );
    expect(events.rows.map(({ type }) => type)).toEqual([
      'evaluation.accepted',
      'attempt.created',
      'attempt.started',
      'evaluation.phase',
      'evaluation.phase',
      'capture.finished',
      'attempt.finalized',
      'attempt.accepted',
      'evaluation.finished',
    ]);
    await cluster.waitFor('no finalizer', async () => ((await cluster.evaluation('happy'))?.['metadata'].finalizers === undefined ? true : undefined));
    await cluster.waitFor('a Kubernetes event', async () => {
      const { items } = await cluster.must('GET', `${cluster.core('events')}?fieldSelector=involvedObject.uid=${uid}`);
      return items.some((event: { reason: string }) => event.reason === 'Succeeded') ? true : undefined;
    });
  });

  it('ends Failed with the exit code when the code fails', async () => {
    const uid = await cluster.submit('failing');
    const pod = await cluster.makePod('failing');
    await cluster.running(pod);
    await cluster.ended(pod, 3);
    await cluster.capture(uid, pod, 'oh no\n');
    const status = await cluster.phase('failing', 'Failed');
    expect(status.verdict).toMatchObject({ class: 'NonZeroExit', attributableTo: 'Code', confidence: 'Confirmed' });
    expect(status.exitCode).toBe(3);
    expect(holds(await cluster.status('failing'))).toEqual([
      'Accepted',
      'Captured',
      'Contained',
      'Failed',
      'Finished',
      'Stalled',
      'Started',
    ]);
  });

  it('ends TimedOut by the kubelet’s own times', async () => {
    const uid = await cluster.submit('slow', { timeoutSeconds: 5 });
    const pod = await cluster.makePod('slow');
    await cluster.running(pod);
    await cluster.ended(pod, 124, { seconds: 5 });
    await cluster.capture(uid, pod);
    expect((await cluster.phase('slow', 'Failed')).verdict).toMatchObject({
      class: 'TimedOut',
      attributableTo: 'Code',
    });
  });

  it('ends ImagePullFailed after the grace period, by the kubelet, and deletes the Job', async () => {
    const uid = await cluster.submit('no-image', {
      runtime: undefined,
      code: undefined,
      image: 'nowhere/nothing:1',
      command: ['true'],
    });
    const pod = await cluster.makePod('no-image');
    await cluster.waiting(pod, 'ImagePullBackOff');
    await cluster.condition('no-image', 'Started', 'ImagePullFailing');
    await cluster.toldToEnd(pod);
    await cluster.endedBeforeStart(pod);
    await cluster.captureNothing(uid, pod);
    const status = await cluster.phase('no-image', 'Failed');
    expect(status.verdict).toMatchObject({ class: 'ImagePullFailed', attributableTo: 'User' });
    await cluster.waitFor(
      'a clean end',
      async () => ((await cluster.leftovers(uid)).length === 0 ? true : undefined),
      () => cluster.leftovers(uid),
    );
  });

  it('retries what the infrastructure broke, with a new Job, and accepts one attempt', async () => {
    const uid = await cluster.submit('retried', { retry: { limit: 1 } });
    const first = await cluster.makePod('retried');
    await cluster.running(first);
    await cluster.ended(first, 137, { podReason: 'Evicted' });
    await cluster.capture(uid, first);
    const second = await cluster.makePod('retried', 2);
    await cluster.running(second);
    await cluster.ended(second, 0);
    await cluster.capture(uid, second, 'hello\n', 2);
    const status = await cluster.phase('retried', 'Succeeded');
    expect(status.attempts?.map(({ number, verdict }) => [number, verdict?.class])).toEqual([
      [1, 'Evicted'],
      [2, 'Succeeded'],
    ]);
    const { rows } = await cluster.record.query('select accepted_attempt from crucible.evaluations where uid = $1', [
      uid,
    ]);
    expect(rows).toEqual([{ accepted_attempt: 2 }]);
  });
});

describe('admission', () => {
  it('refuses an unknown runtime with what to change, and goes on when it appears', async () => {
    const name = `later-${cluster.runtime}`;
    const uid = await cluster.submit('waits', { runtime: name });
    const refused = await cluster.condition('waits', 'Accepted', 'RuntimeNotFound');
    expect(refused['message']).toContain(cluster.runtime);
    expect(holds(await cluster.status('waits'))).toEqual(['Stalled']);
    // Nobody told the API of it: who asks there is answered all the same.
    await cluster.waitFor('the reason in the record', async () => {
      const state = await readState(cluster.record, uid, 'all');
      return state?.state === 'accepted' && state.refused && state.queueReason === 'RuntimeNotFound' ? true : undefined;
    });
    const { items } = await readQueue(cluster.record, 'all');
    expect(items.find((item) => item.uid === uid)).toMatchObject({ stage: 'Submitted', reason: 'RuntimeNotFound' });
    await cluster.createRuntime(name);
    await cluster.phase('waits', 'Starting');
    expect(await readState(cluster.record, uid, 'all')).toMatchObject({ refused: false });
    await cluster.must('DELETE', `/apis/crucible.dev/v1alpha1/evaluationruntimes/${name}`);
    await cluster.remove('waits');
    await cluster.gone('waits');
  });

  it('what was submitted and is gone before it was seen ends as withdrawn', async () => {
    const uid = randomUUID();
    const record = cluster.record;
    await new SubmissionRepository(record).record({ uid, namespace: cluster.namespace, namespaceUid: randomUUID(), name: 'never', submittedBy: 'ada' });
    await record.query(`UPDATE crucible.submissions SET submitted_at = now() - interval '2 minutes' WHERE uid = $1`, [uid]);
    await cluster.waitFor('its end', async () => ((await readState(record, uid, 'all'))?.state === 'finished' ? true : undefined));
  });

  it('refuses a namespace that is not enabled', async () => {
    const other = `${cluster.namespace}-other`;
    await cluster.must('POST', '/api/v1/namespaces', { metadata: { name: other } });
    const path = `/apis/crucible.dev/v1alpha1/namespaces/${other}/evaluations`;
    await cluster.must('POST', path, {
      apiVersion: 'crucible.dev/v1alpha1',
      kind: 'Evaluation',
      metadata: { name: 'elsewhere' },
      spec: { runtime: cluster.runtime, code: '1' },
    });
    const condition = await cluster.waitFor('a refusal', async () => {
      const { status } = await cluster.must('GET', `${path}/elsewhere`);
      return status?.conditions?.find((candidate: { type: string }) => candidate.type === 'Accepted');
    });
    expect(condition).toMatchObject({ status: 'False', reason: 'NamespaceNotEnabled' });
  });
});

describe('cancel', () => {
  const clean = (uid: string) =>
    cluster.waitFor(
      'a clean end',
      async () => ((await cluster.leftovers(uid)).length === 0 ? true : undefined),
      () => cluster.leftovers(uid),
    );

  it('before there is a pod, or before it has a node: it is withdrawn', async () => {
    for (const name of ['cancel-no-pod', 'cancel-no-node']) {
      const uid = await cluster.submit(name);
      await cluster.phase(name, 'Starting');
      const pod = name === 'cancel-no-node' ? await cluster.makePod(name, 1, { placed: false }) : undefined;
      await cluster.patch(name, { spec: { cancel: true } });
      const status = await cluster.phase(name, 'Cancelled');
      expect(status.verdict).toMatchObject({ class: 'Cancelled', message: 'Cancelled before the code started.' });
      await cluster.condition(name, 'Captured', 'NoOutput');
      await clean(uid);
      if (pod !== undefined) expect(await cluster.pod(pod)).toBeUndefined();
    }
  });

  it('on a node, before it was seen to start: the kubelet ends it, and what it printed is kept', async () => {
    const uid = await cluster.submit('cancel-placed');
    const pod = await cluster.makePod('cancel-placed');
    await cluster.patch('cancel-placed', { spec: { cancel: true } });
    await cluster.toldToEnd(pod);
    expect(await cluster.jobs('cancel-placed')).toHaveLength(1);
    // It ran all the time; its status comes late.
    await cluster.ended(pod, 143, { podReason: 'DeadlineExceeded' });
    await cluster.phase('cancel-placed', 'Capturing');
    await cluster.capture(uid, pod, 'already printed\n');
    const status = await cluster.phase('cancel-placed', 'Cancelled');
    expect(status.verdict?.message).toBe('Cancelled while it ran; its output until then is kept.');
    expect(status.output?.tail).toBe('already printed\n');
    await clean(uid);
  });

  it('on a node, and it never started', async () => {
    const uid = await cluster.submit('cancel-early');
    const pod = await cluster.makePod('cancel-early');
    await cluster.patch('cancel-early', { spec: { cancel: true } });
    await cluster.toldToEnd(pod);
    await cluster.endedBeforeStart(pod);
    await cluster.captureNothing(uid, pod);
    const status = await cluster.phase('cancel-early', 'Cancelled');
    expect(status.verdict).toMatchObject({
      class: 'Cancelled',
      attributableTo: 'User',
      message: 'Cancelled before the code started.',
    });
    await cluster.condition('cancel-early', 'Captured', 'NoOutput');
    await clean(uid);
  });

  it('a pod that gets its node while it is withdrawn is not deleted', async () => {
    await cluster.submit('cancel-race');
    const pod = await cluster.makePod('cancel-race', 1, { placed: false });
    await Promise.all([cluster.place(pod), cluster.patch('cancel-race', { spec: { cancel: true } })]);
    await cluster.toldToEnd(pod);
    expect((await cluster.pod(pod))?.['metadata'].deletionTimestamp).toBeUndefined();
    await cluster.ended(pod, 143, { podReason: 'DeadlineExceeded' });
    await cluster.capture((await cluster.evaluation('cancel-race'))?.['metadata'].uid, pod);
    await cluster.phase('cancel-race', 'Cancelled');
  });

  it('while it runs: the pod is ended by its deadline and the output is kept', async () => {
    const uid = await cluster.submit('cancel-late');
    const pod = await cluster.makePod('cancel-late');
    await cluster.running(pod);
    await cluster.phase('cancel-late', 'Running');
    await cluster.patch('cancel-late', { spec: { cancel: true } });
    await cluster.waitFor('a deadline of 1 s', async () =>
      (await cluster.pod(pod))?.['spec'].activeDeadlineSeconds === 1 ? true : undefined,
    );
    await cluster.ended(pod, 143, { podReason: 'DeadlineExceeded' });
    await cluster.capture(uid, pod, 'so far\n');
    const status = await cluster.phase('cancel-late', 'Cancelled');
    expect(status.verdict?.class).toBe('Cancelled');
    expect(status.output?.tail).toBe('so far\n');
  });
});

describe('postgres', () => {
  it('away: nothing is admitted, what runs is ended on time; back: everything continues', async () => {
    // Its own time: without the record nothing says what the runtime allowed when it began.
    const uid = await cluster.submit('during', { timeoutSeconds: 60 });
    const pod = await cluster.makePod('during');
    await cluster.phase('during', 'Starting');
    await cluster.postgresAway();
    await cluster.submit('after');
    await cluster.condition('after', 'Accepted', 'RecordUnavailable');
    expect(await cluster.jobs('after')).toEqual([]);
    await cluster.running(pod);
    await cluster.waitFor('the lower deadline', async () =>
      (await cluster.pod(pod))?.['spec'].activeDeadlineSeconds === 61 ? true : undefined,
    );
    await cluster.ended(pod, 0);
    await cluster.capture(uid, pod);
    await cluster.postgresBack();
    await cluster.phase('during', 'Succeeded');
    const other = await cluster.makePod('after');
    await cluster.running(other);
    await cluster.phase('after', 'Running');
    await cluster.remove('after');
    await cluster.ended(other, 0);
    await cluster.capture((await cluster.evaluation('after'))?.['metadata'].uid, other);
    await cluster.gone('after');
  });
});

describe('deletion', () => {
  const clean = async (uid: string): Promise<void> => {
    await cluster.waitFor(
      'a clean end',
      async () => ((await cluster.leftovers(uid)).length === 0 ? true : undefined),
      () => cluster.leftovers(uid),
    );
  };
  const phaseInRecord = async (uid: string): Promise<string | undefined> =>
    (await cluster.record.query<{ phase: string }>('select phase from crucible.evaluations where uid = $1', [uid]))
      .rows[0]?.phase;

  it('while refused: goes at once', async () => {
    await cluster.submit('delete-refused', { runtime: 'no-such-runtime' });
    await cluster.condition('delete-refused', 'Accepted', 'RuntimeNotFound');
    await cluster.remove('delete-refused');
    await cluster.gone('delete-refused');
  });

  it('while Starting on a node: it is ended first, and the record says Cancelled', async () => {
    const uid = await cluster.submit('delete-starting');
    const pod = await cluster.makePod('delete-starting');
    await cluster.remove('delete-starting');
    await cluster.toldToEnd(pod);
    await cluster.endedBeforeStart(pod);
    await cluster.captureNothing(uid, pod);
    await cluster.gone('delete-starting');
    await clean(uid);
    expect(await phaseInRecord(uid)).toBe('Cancelled');
  });

  it('while Running: the pod is ended by its deadline, captured, and only then everything goes', async () => {
    const uid = await cluster.submit('delete-running');
    const pod = await cluster.makePod('delete-running');
    await cluster.running(pod);
    await cluster.phase('delete-running', 'Running');
    await cluster.remove('delete-running');
    await cluster.waitFor('a deadline of 1 s', async () =>
      (await cluster.pod(pod))?.['spec'].activeDeadlineSeconds === 1 ? true : undefined,
    );
    await cluster.ended(pod, 143, { podReason: 'DeadlineExceeded' });
    await cluster.phase('delete-running', 'Capturing');
    expect((await cluster.pod(pod))?.['metadata'].finalizers).toContain('crucible.dev/capture');
    await cluster.capture(uid, pod);
    await cluster.gone('delete-running');
    await clean(uid);
    expect(await phaseInRecord(uid)).toBe('Cancelled');
  });

  it('while Capturing: waits for the capture and keeps the verdict', async () => {
    const uid = await cluster.submit('delete-capturing');
    const pod = await cluster.makePod('delete-capturing');
    await cluster.running(pod);
    await cluster.ended(pod, 0);
    await cluster.phase('delete-capturing', 'Capturing');
    await cluster.remove('delete-capturing');
    await cluster.capture(uid, pod);
    await cluster.gone('delete-capturing');
    await clean(uid);
    expect(await phaseInRecord(uid)).toBe('Succeeded');
  });

  it('once finished: goes at once and the record stays', async () => {
    const uid = await cluster.submit('delete-finished');
    const pod = await cluster.makePod('delete-finished');
    await cluster.running(pod);
    await cluster.ended(pod, 0);
    await cluster.capture(uid, pod);
    await cluster.phase('delete-finished', 'Succeeded');
    await cluster.remove('delete-finished');
    await cluster.gone('delete-finished');
    expect(await phaseInRecord(uid)).toBe('Succeeded');
  });
});

describe('an orphan', () => {
  it('whose finalizer was taken off by hand: is ended, captured, recorded and cleaned up all the same', async () => {
    const uid = await cluster.submit('orphan');
    const pod = await cluster.makePod('orphan');
    await cluster.running(pod);
    await cluster.phase('orphan', 'Running');
    await cluster.remove('orphan');
    await cluster.patch('orphan', { metadata: { finalizers: null } });
    await cluster.gone('orphan');
    await cluster.waitFor('a deadline of 1 s', async () =>
      (await cluster.pod(pod))?.['spec'].activeDeadlineSeconds === 1 ? true : undefined,
    );
    await cluster.ended(pod, 143, { podReason: 'DeadlineExceeded' });
    await cluster.capture(uid, pod);
    await cluster.waitFor(
      'a clean end',
      async () => ((await cluster.leftovers(uid)).length === 0 ? true : undefined),
      () => cluster.leftovers(uid),
    );
    const { rows } = await cluster.record.query('select phase from crucible.evaluations where uid = $1', [uid]);
    expect(rows).toEqual([{ phase: 'Cancelled' }]);
  });
});

describe('after all of this', () => {
  it('nothing is written any more', async () => {
    const versions = async () =>
      (await cluster.must('GET', cluster.path('evaluations')))['items'].map(
        ({ metadata }: any) => `${metadata.name} ${metadata.resourceVersion}`,
      );
    const before = await versions();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect(await versions()).toEqual(before);
  });
});

describe('a restart', () => {
  it('in the middle of a run goes on with the same attempt', async () => {
    const uid = await cluster.submit('restart');
    const pod = await cluster.makePod('restart');
    await cluster.running(pod);
    await cluster.phase('restart', 'Running');
    await cluster.stopOperator();
    await cluster.ended(pod, 0);
    await cluster.capture(uid, pod);
    await cluster.startOperator();
    const status = await cluster.phase('restart', 'Succeeded');
    expect(status.attempts).toHaveLength(1);
  });
});
