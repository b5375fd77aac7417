import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SuiteRepository } from '@crucible/storage';
import { WaitingError } from '../controller/index.ts';
import { SuiteApplier } from './apply.ts';
import { runName } from './run.ts';
import type { RawSuite } from './snapshot.ts';
import { suiteSnapshot } from './testing/builders.ts';
import { SuiteCluster } from './testing/cluster.ts';

// A real API server, Postgres, evaluation operator and suite operator; the Job controller, kubelet and recorder are played.

const cluster = new SuiteCluster({
  patience: { startUp: 300, imagePull: 2, unschedulable: 300, quota: 300, refused: 2, lostCapture: 2 },
});

beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

const holds = (status: { conditions: readonly { type: string; status: string }[] }): string[] =>
  status.conditions.filter(({ status }) => status === 'True').map(({ type }) => type).sort();
const parameters = (...pairs: [string, string[]][]): object[] => pairs.map(([name, values]) => ({ name, values }));

describe('a suite', () => {
  it('runs every cell with its parameters, never more at once than allowed, and counts', async () => {
    const uid = await cluster.submitSuite(
      'whole',
      {
        template: { args: ['--seed=$(SEED)', '$$(SEED)'], env: [{ name: 'FIXED', value: 'x' }] },
        matrix: { parameters: parameters(['MODEL', ['a', 'b']], ['SEED', ['1', '2']]), exclude: [{ MODEL: 'b', SEED: '2' }] },
        parallelism: 2,
        minPassPercent: 60,
      },
      { labels: { team: 'a' } },
    );
    const [first, second] = await cluster.unfinished(uid, 2);
    expect(first!['spec']).toMatchObject({
      args: ['--seed=1', '$(SEED)'],
      env: [{ name: 'FIXED', value: 'x' }, { name: 'MODEL', value: 'a' }, { name: 'SEED', value: '1' }],
    });
    expect(first!['metadata']).toMatchObject({
      name: runName({ name: 'whole', uid }, { cell: 1, sample: 1 }),
      labels: { team: 'a', 'crucible.dev/suite': 'whole', 'crucible.dev/suite-cell': '1', 'crucible.dev/suite-sample': '1' },
      ownerReferences: [{ kind: 'EvaluationSuite', name: 'whole', uid, controller: true }],
    });
    expect(holds(await cluster.suitePhase('whole', 'Running'))).toEqual(['Accepted', 'Reconciling']);
    await cluster.play(first!);
    const [, third] = await cluster.unfinished(uid, 2);
    await cluster.play(second!, 3);
    await cluster.play(third!);
    const status = await cluster.suitePhase('whole', 'Succeeded');
    expect(holds(status)).toEqual(['Accepted', 'Complete', 'Finished', 'Ready']);
    expect(status.observedGeneration).toBe(1);
    expect(status.summary).toMatchObject({
      total: 3, notStarted: 0, running: 0, finished: 3, passed: 2, failed: 1, infrastructureFailed: 0, cancelled: 0, retried: 0,
      verdicts: [{ class: 'Succeeded', count: 2 }, { class: 'NonZeroExit', count: 1 }],
      passRate: '67% (21–94%)',
      passRates: { all: { passed: 2, runs: 3, rate: 0.6667 } },
    });
    expect(status.cells?.map(({ cell, parameters, passed }) => [cell, parameters, passed])).toEqual([
      [1, { MODEL: 'a', SEED: '1' }, 1], [2, { MODEL: 'a', SEED: '2' }, 0], [3, { MODEL: 'b', SEED: '1' }, 1],
    ]);
    expect(await cluster.suiteRow(uid)).toMatchObject({ phase: 'Succeeded', reason: 'Succeeded', total: 3, summary: { passed: 2 } });
    const events = await cluster.record.query<{ type: string }>('select type from crucible.suite_events where suite_uid = $1 order by seq', [uid]);
    expect(events.rows.map(({ type }) => type)).toEqual(['suite.accepted', 'suite.phase', 'suite.finished']);
    await cluster.waitFor('no finalizer', async () => ((await cluster.suite('whole'))?.['metadata'].finalizers ? undefined : true));
    await cluster.waitFor('a Kubernetes event', async () => {
      const { items } = await cluster.must('GET', `${cluster.core('events')}?fieldSelector=involvedObject.uid=${uid}`);
      return items.some(({ reason }: { reason: string }) => reason === 'Succeeded') ? true : undefined;
    });
  });

  it('survives restarts in the middle, without a run twice or one too many, and adopts what it was stopped in creating', async () => {
    const uid = await cluster.submitSuite('restarts', { samples: 5, parallelism: 2 });
    const [first] = await cluster.unfinished(uid, 2);
    await cluster.play(first!);
    await cluster.unfinished(uid, 2);
    await cluster.stopOperator();
    // As if it had been stopped right after creating the next one, before anything was recorded.
    const { rows } = await cluster.record.query<{ sample: number }>('select sample from crucible.suite_runs where suite_uid = $1 order by sample', [uid]);
    expect(rows.map(({ sample }) => sample)).toEqual([1, 2, 3]);
    const name = runName({ name: 'restarts', uid }, { cell: 1, sample: 4 });
    const [, sibling] = await cluster.runsOf(uid);
    const labels = { ...sibling!['metadata'].labels, 'crucible.dev/suite-sample': '4' };
    const { ownerReferences } = sibling!['metadata'];
    await cluster.must('POST', cluster.path('evaluations'), {
      apiVersion: 'crucible.dev/v1alpha1', kind: 'Evaluation', metadata: { name, labels, ownerReferences }, spec: sibling!['spec'],
    });
    await cluster.startOperator();
    for (const expected of [3, 2, 2, 1]) {
      const open = await cluster.unfinished(uid, expected);
      await cluster.play(open[0]!);
    }
    const status = await cluster.suitePhase('restarts', 'Succeeded');
    expect(status.summary).toMatchObject({ total: 5, passed: 5 });
    expect((await cluster.runsOf(uid)).map((run) => run['metadata'].labels['crucible.dev/suite-sample'])).toEqual(['1', '2', '3', '4', '5']);
    const recorded = await cluster.record.query('select sample from crucible.suite_runs where suite_uid = $1', [uid]);
    expect(recorded.rows).toHaveLength(5);
  });

  it('follows a changed parallelism', async () => {
    const uid = await cluster.submitSuite('changing', { samples: 4, parallelism: 1 });
    await cluster.unfinished(uid, 1);
    await cluster.patchSuite('changing', { parallelism: 3 });
    await cluster.unfinished(uid, 3);
    await cluster.waitFor('the generation', async () => ((await cluster.suiteStatus('changing')).observedGeneration === 2 ? true : undefined));
    expect((await cluster.suiteRow(uid))?.['generation']).toBe(2);
    await cluster.removeSuite('changing');
    await cluster.suiteGone('changing');
  });

  it('fails fast: when too few can pass any more the rest is cancelled, with output kept', async () => {
    const uid = await cluster.submitSuite('fast', { samples: 5, parallelism: 2, failFast: true, minPassPercent: 80 });
    const [first, second] = await cluster.unfinished(uid, 2);
    await cluster.play(first!, 1);
    await cluster.play(second!, 1);
    // Four of five would be enough; two have failed.
    await cluster.waitFor('the end', async () => {
      const open = (await cluster.runsOf(uid)).filter(SuiteCluster.isUnfinished);
      return open.length === 0 && (await cluster.suiteStatus('fast')).phase === 'Failed' ? true : undefined;
    }, () => cluster.suiteStatus('fast'));
    const status = await cluster.suiteStatus('fast');
    expect(holds(status)).toEqual(['Accepted', 'Failed', 'Finished', 'Stalled']);
    expect(status.conditions.find(({ type }) => type === 'Failed')?.reason).toBe('FailedFast');
    expect(status.summary?.failed).toBe(2);
    expect(status.summary!.notStarted + status.summary!.cancelled).toBe(3);
  });

  it('is cancelled: what runs is ended and captured, the rest never starts', async () => {
    const uid = await cluster.submitSuite('cancelled', { samples: 3, parallelism: 1 });
    const [first] = await cluster.unfinished(uid, 1);
    const pod = await cluster.makePod(first!['metadata'].name);
    await cluster.running(pod);
    await cluster.phase(first!['metadata'].name, 'Running');
    await cluster.patchSuite('cancelled', { cancel: true });
    await cluster.suitePhase('cancelled', 'Cancelling');
    await cluster.toldToEnd(pod);
    await cluster.ended(pod, 137, { podReason: 'DeadlineExceeded' });
    await cluster.capture(first!['metadata'].uid, pod, 'before the cancel\n');
    const status = await cluster.suitePhase('cancelled', 'Cancelled');
    expect(status.summary).toMatchObject({ cancelled: 1, notStarted: 2, passRates: { all: { passed: 0, runs: 0 } } });
    expect(status.summary?.passRates.all.rate).toBeUndefined();
    expect(holds(status)).toEqual(['Accepted', 'Failed', 'Finished', 'Stalled']);
    // The suite follows the record, which is written before the run's own status.
    await expect.poll(async () => (await cluster.status(first!['metadata'].name)).output?.tail).toBe('before the cancel\n');
  });
});

describe('deletion', () => {
  it('of a suite waits until every run is captured, and the record keeps all', async () => {
    const uid = await cluster.submitSuite('deleted', { samples: 3, parallelism: 2 });
    const [first, second] = await cluster.unfinished(uid, 2);
    await cluster.play(first!);
    const { name, uid: runUid } = second!['metadata'];
    const pod = await cluster.makePod(name);
    await cluster.running(pod);
    await cluster.phase(name, 'Running');
    await cluster.removeSuite('deleted');
    await cluster.toldToEnd(pod);
    expect(await cluster.suite('deleted')).toBeDefined();
    await cluster.ended(pod, 137, { podReason: 'DeadlineExceeded' });
    await cluster.capture(runUid, pod, 'almost lost\n');
    await cluster.suiteGone('deleted');
    expect(await cluster.suiteRow(uid)).toMatchObject({ phase: 'Cancelled', reason: 'Deleted', summary: { passed: 1, running: 0 } });
    const { rows } = await cluster.record.query<{ text: string }>(
      `select convert_from(data, 'UTF8') as text from crucible.output_chunks where evaluation_uid = $1`, [runUid],
    );
    expect(rows).toEqual([{ text: 'almost lost\n' }]);
    expect((await cluster.runsOf(uid)).filter(SuiteCluster.isUnfinished)).toEqual([]);
  });

  it('of a run is counted honestly: from the record when it had ended, else as cancelled; and it is not made again', async () => {
    const uid = await cluster.submitSuite('pruned', { samples: 3, parallelism: 3 });
    const [first, second, third] = await cluster.unfinished(uid, 3);
    await cluster.stopOperator();
    await cluster.startOperator();
    await cluster.play(first!);
    await cluster.remove(first!['metadata'].name);
    await cluster.remove(second!['metadata'].name);
    await cluster.play(third!);
    const status = await cluster.suitePhase('pruned', 'Failed');
    expect(status.summary).toMatchObject({ passed: 2, cancelled: 1, notStarted: 0, passRates: { all: { passed: 2, runs: 2, rate: 1 } } });
    expect(status.conditions.find(({ type }) => type === 'Failed')?.reason).toBe('TooFewPassed');
    expect(await cluster.runsOf(uid)).toHaveLength(1);
  });

  it('by force leaves a record that is ended by the sweep', async () => {
    const uid = await cluster.submitSuite('forced', { samples: 2, parallelism: 1 });
    const [first] = await cluster.unfinished(uid, 1);
    await cluster.stopOperator();
    await cluster.must('PATCH', cluster.path('evaluationsuites', 'forced'), { metadata: { finalizers: null } }, 'application/merge-patch+json');
    await cluster.removeSuite('forced');
    await cluster.startOperator();
    // The garbage collector’s part.
    await cluster.remove(first!['metadata'].name);
    await cluster.waitFor('an ended record', async () => ((await cluster.suiteRow(uid))?.['finished_at'] ? true : undefined), () => cluster.suiteRow(uid));
    expect(await cluster.suiteRow(uid)).toMatchObject({ phase: 'Cancelled', reason: 'Deleted' });
  });

  it('of one that cannot be read any more ends its record with its runs, not before', async () => {
    const uid = await cluster.submitSuite('unreadable', { samples: 3, parallelism: 2 });
    const [first, second] = await cluster.unfinished(uid, 2);
    await cluster.play(first!);
    await cluster.waitFor('its result', async () => ((await cluster.suiteRow(uid))?.['summary'].passed === 1 ? true : undefined));
    await cluster.stopOperator();
    await cluster.record.query(`update crucible.suites set spec = '{"template": "of a newer operator"}' where uid = $1`, [uid]);
    await cluster.must('PATCH', cluster.path('evaluationsuites', 'unreadable'), { metadata: { finalizers: null } }, 'application/merge-patch+json');
    await cluster.removeSuite('unreadable');
    await cluster.startOperator();
    const { name, uid: runUid } = second!['metadata'];
    const pod = await cluster.makePod(name);
    await cluster.running(pod);
    await cluster.phase(name, 'Running');
    // Rounds of the sweep go by meanwhile: there is one each second.
    expect((await cluster.suiteRow(uid))?.['finished_at']).toBeNull();
    // The garbage collector’s part, and the other run that was created when the first had ended.
    for (const run of (await cluster.runsOf(uid)).filter(SuiteCluster.isUnfinished)) await cluster.remove(run['metadata'].name);
    await cluster.toldToEnd(pod);
    await cluster.ended(pod, 137, { podReason: 'DeadlineExceeded' });
    await cluster.capture(runUid, pod);
    await cluster.waitFor('an ended record', async () => ((await cluster.suiteRow(uid))?.['finished_at'] ? true : undefined), () => cluster.suiteRow(uid));
    const { summary } = (await cluster.suiteRow(uid))!;
    expect(summary).toMatchObject({ total: 3, passed: 1, cancelled: 2, running: 0, notStarted: 0 });
  });

  it('waits for a run that the API server knows and the watch has not brought', async () => {
    const uid = await cluster.submitSuite('unseen', { samples: 2, parallelism: 1 });
    const [run] = await cluster.unfinished(uid, 1);
    const { client, caches } = cluster.current;
    const { settings } = cluster;
    const applier = new SuiteApplier({ client, caches, settings, suites: new SuiteRepository(cluster.record), epoch: () => cluster.epoch });
    const raw = (await cluster.suite('unseen')) as RawSuite;
    const confirm = (sample: number): Promise<unknown> => {
      const name = runName({ name: 'unseen', uid }, { cell: 1, sample });
      return applier.apply(suiteSnapshot({ changes: { raw } }), [{ type: 'confirmAbsent', names: [name] }], new AbortController().signal);
    };
    await expect(confirm(1)).rejects.toThrow(WaitingError);
    await confirm(2);
    await cluster.play(run!);
    await cluster.removeSuite('unseen');
    await cluster.suiteGone('unseen');
  });
});

describe('what keeps runs from being created', () => {
  it('an unknown runtime is said and waited for; nothing is created before', async () => {
    const runtime = `later-${cluster.runtime}`;
    const uid = await cluster.submitSuite('early', { template: { runtime } });
    const refused = await cluster.suiteCondition('early', 'Accepted', 'RuntimeNotFound');
    expect(refused['message']).toContain(runtime);
    expect(holds(await cluster.suiteStatus('early'))).toEqual(['Stalled']);
    expect(await cluster.runsOf(uid)).toEqual([]);
    expect(await cluster.suiteRow(uid)).toBeUndefined();
    await cluster.createRuntime(runtime);
    const [run] = await cluster.unfinished(uid, 1);
    // A runtime that goes while it is used breaks neither the run nor what is finished.
    const pod = await cluster.makePod(run!['metadata'].name);
    await cluster.running(pod);
    await cluster.phase(run!['metadata'].name, 'Running');
    await cluster.must('DELETE', `/apis/crucible.dev/v1alpha1/evaluationruntimes/${runtime}`);
    await cluster.ended(pod, 0);
    await cluster.capture(run!['metadata'].uid, pod);
    expect(await cluster.phase(run!['metadata'].name, 'Succeeded')).toMatchObject({ exitCode: 0, output: { complete: true } });
    expect((await cluster.suitePhase('early', 'Succeeded')).summary).toMatchObject({ passed: 1 });
    const before = await cluster.evaluation(run!['metadata'].name);
    await cluster.stopOperator();
    await cluster.startOperator();
    await cluster.patch(run!['metadata'].name, { spec: { priority: 7 } });
    await cluster.waitFor('another look', async () => ((await cluster.status(run!['metadata'].name)).observedGeneration === 2 ? true : undefined));
    const { phase, verdict, output, exitCode } = before!['status'];
    expect(await cluster.status(run!['metadata'].name)).toMatchObject({ phase, verdict, output, exitCode });
  });

  it('a runtime that goes is said while the run under way goes on, and one that comes back is seen at once', async () => {
    const runtime = `going-${cluster.runtime}`;
    await cluster.createRuntime(runtime);
    const uid = await cluster.submitSuite('going', { samples: 2, parallelism: 1, template: { runtime } });
    const [run] = await cluster.unfinished(uid, 1);
    const pod = await cluster.makePod(run!['metadata'].name);
    await cluster.running(pod);
    await cluster.phase(run!['metadata'].name, 'Running');
    await cluster.must('DELETE', `/apis/crucible.dev/v1alpha1/evaluationruntimes/${runtime}`);
    const { message } = await cluster.suiteCondition('going', 'Reconciling', 'RuntimeNotFound');
    expect(message).toMatch(/^The runs under way go on and are counted; no other can start/);
    expect(holds(await cluster.suiteStatus('going'))).toEqual(['Accepted', 'Reconciling']);
    await cluster.createRuntime(runtime);
    // Nothing else moves, and it looks again by itself only after a minute.
    await cluster.suiteCondition('going', 'Reconciling', 'Running');
    await cluster.ended(pod, 0);
    await cluster.capture(run!['metadata'].uid, pod);
    await cluster.unfinished(uid, 1);
    await cluster.removeSuite('going');
    await cluster.suiteGone('going');
  });

  it('a template that the API server refuses is said, with its words', async () => {
    const uid = await cluster.submitSuite('refused', {}, { labels: { 'not a key': 'x' } });
    const { message } = await cluster.suiteCondition('refused', 'Accepted', 'InvalidTemplate');
    expect(message).toContain('metadata.labels');
    expect(holds(await cluster.suiteStatus('refused'))).toEqual(['Stalled']);
    expect(await cluster.runsOf(uid)).toEqual([]);
    await cluster.removeSuite('refused');
    await cluster.suiteGone('refused');
  });

  it('a cell that would be too large is named', async () => {
    const env = Array.from({ length: 64 }, (_, index) => ({ name: `V${index}`, value: '' }));
    await cluster.submitSuite('too-large', { template: { env }, matrix: { parameters: parameters(['A', ['1']]) } });
    const { message } = await cluster.suiteCondition('too-large', 'Accepted', 'InvalidSpec');
    expect(message).toContain('The Evaluation of cell 1 would be refused: spec.env');
  });

  it('an empty matrix is said', async () => {
    await cluster.submitSuite('empty', { matrix: { parameters: parameters(['A', ['1']]), exclude: [{ A: '1' }] } });
    await cluster.suiteCondition('empty', 'Accepted', 'EmptyMatrix');
  });

  it('a quota is waited for', async () => {
    const quota = cluster.core('resourcequotas', 'few');
    const open = (await cluster.must('GET', cluster.path('evaluations')))['items'].length as number;
    const hard = (count: number): object => ({ 'count/evaluations.crucible.dev': String(count) });
    await cluster.must('POST', cluster.core('resourcequotas'), { metadata: { name: 'few' }, spec: { hard: hard(open + 1) } });
    // The quota controller’s part.
    const raise = (count: number): Promise<unknown> =>
      cluster.must('PATCH', `${quota}/status`, { status: { hard: hard(count), used: hard(open) } }, 'application/merge-patch+json');
    await raise(open + 1);
    const uid = await cluster.submitSuite('over-quota', { samples: 2, parallelism: 2 });
    const { message } = await cluster.suiteCondition('over-quota', 'Reconciling', 'QuotaExceeded');
    expect(message).toContain('few');
    expect(await cluster.runsOf(uid)).toHaveLength(1);
    expect(holds(await cluster.suiteStatus('over-quota'))).toEqual(['Accepted', 'Reconciling']);
    await cluster.must('DELETE', quota);
    await cluster.unfinished(uid, 2);
    await cluster.suiteCondition('over-quota', 'Reconciling', 'Running');
    await cluster.removeSuite('over-quota');
    await cluster.suiteGone('over-quota');
  });

  it('somebody else’s Evaluation of that name is named and not counted', async () => {
    await cluster.stopOperator();
    const uid = await cluster.submitSuite('taken');
    const name = runName({ name: 'taken', uid }, { cell: 1, sample: 1 });
    await cluster.submit(name);
    await cluster.startOperator();
    const { message } = await cluster.suiteCondition('taken', 'Reconciling', 'NameTaken');
    expect(message).toContain(name);
    expect((await cluster.suiteStatus('taken')).summary).toMatchObject({ running: 0, notStarted: 1 });
    await cluster.remove(name);
    await cluster.gone(name);
    const [own] = await cluster.unfinished(uid, 1);
    await cluster.play(own!);
    await cluster.suitePhase('taken', 'Succeeded');
  });

  it('Postgres that is away: nothing is created until it is back', async () => {
    await cluster.postgresAway();
    const uid = await cluster.submitSuite('patient');
    await cluster.suiteCondition('patient', 'Accepted', 'RecordUnavailable');
    expect(await cluster.runsOf(uid)).toEqual([]);
    await cluster.postgresBack();
    await cluster.unfinished(uid, 1);
    await cluster.removeSuite('patient');
    await cluster.suiteGone('patient');
  });
});
