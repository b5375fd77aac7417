import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeLines } from '../../operator/src/recorder/testing/encoder.ts';
import { NO_QUOTA, PlayedKueue, QUEUE_LABEL, installWorkloads } from './kueue.ts';
import type { Part } from './scenario.ts';
import { Servers } from './servers.ts';
import type { Json } from './state.ts';
import { World } from './world.ts';

// The operator, the recorder and Kubernetes' own Job controller; the node and Kueue are played.

const CASE_MS = 240_000;
/** Far less than the time for which the first one waits for Kueue: a start-up counts from Kueue's word. */
const START_UP_SECONDS = 10;
const WAITED_MS = 12_000;
/** Nothing takes that long, except on a machine with much else to do. */
const PATIENCE_MS = 90_000;

const produced = [{ stream: 'stdout', data: Buffer.from('kept\n') }] as const;
const lines = encodeLines(produced);
const ends = { lines, exitCode: 0, durationMs: 100 };
const goesOn = { ...ends, untilEnded: true };
const part = (name: string, scripts: Part['scripts'], spec: object = {}): Part => ({
  name,
  spec: { queue: 'team-a', ...spec },
  scripts,
  produced,
  files: [],
});
const PARTS = [
  part('waits', [ends]),
  part('cancelled', [ends]),
  part('deleted', [ends]),
  part('preempted', [goesOn]),
  part('retried', [goesOn, ends], { retry: { limit: 1 } }),
  { ...part('built-in', [ends]), spec: {} },
];

let servers: Servers;
let world: World;
let kueue: PlayedKueue;

beforeAll(async () => {
  servers = await Servers.start();
  world = await World.create({
    servers,
    parts: PARTS,
    operatorEnvironment: { CRUCIBLE_KUEUE: 'true', CRUCIBLE_START_UP_SECONDS: String(START_UP_SECONDS), CRUCIBLE_MAX_CONCURRENT: '1' },
  });
  await installWorkloads(world.api);
  kueue = new PlayedKueue(world.api, world.namespace);
  kueue.start();
  world.start();
  await world.submit();
}, CASE_MS);
afterAll(async () => {
  await kueue.stop();
  await world.close();
  await servers.stop();
}, CASE_MS);

const evaluation = async (name: string): Promise<Json | undefined> => {
  const { status, body } = await world.api.get(world.path('evaluations', name));
  return status === 404 ? undefined : body;
};
const jobsOf = async (name: string): Promise<Json[]> => {
  const selector = encodeURIComponent(`crucible.dev/evaluation=${name}`);
  return (await world.must('GET', `/apis/batch/v1/namespaces/${world.namespace}/jobs?labelSelector=${selector}`))['items'] as Json[];
};
const jobOf = (name: string, attempt = 1): Promise<Json> =>
  world.until(`the Job of ${name}`, async () =>
    (await jobsOf(name)).find(({ metadata }) => metadata.labels['crucible.dev/attempt'] === String(attempt)),
  PATIENCE_MS);
const statusWith = async (name: string, what: string, holds: (status: Json) => boolean): Promise<Json> => {
  let last: Json | undefined;
  const look = async (): Promise<Json | undefined> => {
    last = (await evaluation(name))?.['status'] as Json | undefined;
    return last !== undefined && holds(last) ? last : undefined;
  };
  return await world.until(`${name}: ${what}`, look, PATIENCE_MS).catch((error: unknown) => {
    throw new Error(`${String(error)}; it is ${JSON.stringify(last)}`);
  });
};
const queued = (name: string, reason: string) => statusWith(name, reason, ({ phase, queue }) => phase === 'Queued' && queue?.reason === reason);
const finished = (name: string) =>
  statusWith(name, 'finished', ({ conditions = [] }) => (conditions as Json[]).some(({ type, status }) => type === 'Finished' && status === 'True'));
const admitted = (job: Json) =>
  world.until('a Workload', async () => (await kueue.workloadOf(job['metadata'].uid)) ?? undefined).then(() => kueue.admit(job));

describe('spec.queue', () => {
  it('makes a suspended Job with Kueue’s label, takes no place of the built-in queue, and says what Kueue says', async () => {
    const job = await jobOf('waits');
    expect(job['spec'].suspend).toBe(true);
    expect(job['metadata'].labels[QUEUE_LABEL]).toBe('team-a');
    // Until Kueue has said why, it is only pending.
    await statusWith('waits', 'told why', ({ queue }) => queue?.reason === 'KueuePending' && queue.message === `Kueue: ${NO_QUOTA}`);
    expect((await finished('built-in'))['phase']).toBe('Succeeded');
    expect(await world.pod('waits')).toBeUndefined();
  }, CASE_MS);

  it('cancelled while suspended: it ends, and its Job goes', async () => {
    await queued('cancelled', 'KueuePending');
    await world.must('PATCH', world.path('evaluations', 'cancelled'), { spec: { cancel: true } }, 'application/merge-patch+json');
    const status = await finished('cancelled');
    expect(status).toMatchObject({ phase: 'Cancelled', verdict: { class: 'Cancelled', attributableTo: 'User' } });
    expect((status['conditions'] as Json[]).find(({ type }) => type === 'Captured')).toMatchObject({ status: 'True', reason: 'NoOutput' });
    await world.until('no Job', async () => ((await jobsOf('cancelled')).length === 0 ? true : undefined));
  }, CASE_MS);

  it('deleted while suspended: it goes, with its Job', async () => {
    await queued('deleted', 'KueuePending');
    await world.must('DELETE', world.path('evaluations', 'deleted'));
    await world.until('no Evaluation', async () => ((await evaluation('deleted')) === undefined ? true : undefined));
    await world.until('no Job', async () => ((await jobsOf('deleted')).length === 0 ? true : undefined));
  }, CASE_MS);

  it('does not count the wait for Kueue as start-up time, and runs once it is admitted', async () => {
    const job = await jobOf('waits');
    const since = Date.parse(job['metadata'].creationTimestamp);
    await world.until('a long wait', () => (Date.now() - since > WAITED_MS ? true : undefined));
    await queued('waits', 'KueuePending');
    await admitted(job);
    expect(await finished('waits')).toMatchObject({ phase: 'Succeeded', output: { tail: 'kept\n' } });
  }, CASE_MS);
});

describe('preempted by Kueue while it runs', () => {
  const startAndPreempt = async (name: string): Promise<void> => {
    const job = await jobOf(name);
    await admitted(job);
    await statusWith(name, 'running', ({ phase }) => phase === 'Running');
    await kueue.preempt(job);
  };

  it('ends as Preempted, with what was captured, and is not started again', async () => {
    await startAndPreempt('preempted');
    const status = await finished('preempted');
    expect(status).toMatchObject({ phase: 'Failed', verdict: { class: 'Preempted', attributableTo: 'Infrastructure', confidence: 'Confirmed' } });
    expect(status['verdict'].evidence.map(({ source }: Json) => source)).toContain('Workload/Preempted');
    expect(status['output'].tail).toContain('kept');
    await world.until('no Job', async () => ((await jobsOf('preempted')).length === 0 ? true : undefined));
    await world.until('no pod', async () => ((await world.pod('preempted')) === undefined ? true : undefined));
  }, CASE_MS);

  it('with spec.retry it queues again as a new attempt', async () => {
    await startAndPreempt('retried');
    const second = await jobOf('retried', 2);
    expect(second['spec'].suspend).toBe(true);
    await queued('retried', 'KueuePending');
    await admitted(second);
    const status = await finished('retried');
    expect((status['attempts'] as Json[]).map(({ verdict }) => verdict.class)).toEqual(['Preempted', 'Succeeded']);
  }, CASE_MS);

  it('and nothing is left or breached', async () => {
    // What is handed over is, once the status says how it ended.
    await world.until('no Job of nobody', async () => {
      const { jobs } = await world.state();
      return jobs.every(({ metadata }) => (metadata.ownerReferences ?? []).length > 0) ? true : undefined;
    });
    expect([...world.operator.crashes, ...world.recorder.crashes]).toEqual([]);
    expect([...servers.node.failures, ...kueue.failures]).toEqual([]);
  }, CASE_MS);
});
