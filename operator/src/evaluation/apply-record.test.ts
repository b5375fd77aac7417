import { expect, it } from 'vitest';
import { WaitingError } from '../controller/index.ts';
import type { Action } from './actions.ts';
import { RecordWriter } from './apply-record.ts';
import type { RecordDependencies } from './apply-record.ts';
import { snapshot } from './testing/builders.ts';
import { find } from './testing/plans.ts';

const begin = find(snapshot(), 'recordAttempt') as Extract<Action, { type: 'recordAttempt' }>;

async function write(assumed: boolean, isNew: boolean): Promise<string[]> {
  const done: string[] = [];
  const said = (what: string, answer?: unknown) => async (): Promise<unknown> => (done.push(what), answer);
  const deps = {
    database: { transaction: async (work: (tx: object) => Promise<void>) => await work({}) },
    evaluations: { upsertAccepted: said('accepted'), setPhase: said('phase') },
    attempts: { createFirst: said('first', isNew), create: said('attempt') },
    epoch: () => 1,
  } as unknown as RecordDependencies;
  const record = { evaluation: undefined, attempts: [], ...(assumed && { assumed: true as const }) };
  await new RecordWriter(deps).attempt(snapshot({ record }), begin).catch((error: unknown) => {
    if (!(error instanceof WaitingError)) throw error;
    done.push(`again in ${error.afterSeconds} s`);
  });
  return done;
}

it('begins what nobody has begun in one statement, whether that was read or assumed', async () => {
  expect([await write(false, true), await write(true, true)]).toEqual([['first'], ['first']]);
});

it('asks before it goes on with what was assumed and is not so: it may be over', async () => {
  expect(await write(true, false)).toEqual(['first', 'again in 0 s']);
  expect(await write(false, false)).toEqual(['first', 'accepted', 'attempt', 'phase']);
});

it('hands the end of a run over with its pod, and takes the steps when that is refused', async () => {
  const ends: unknown[] = [];
  const pod = { podUid: 'u', podName: 'p', node: 'n', startedAt: new Date(0) };
  const attempt = { number: 1, podUid: 'u', startedAt: new Date(0), finishedAt: new Date(0), exitCode: 0, signal: null, verdict: {} as never, pod };
  const evaluation = { phase: 'Succeeded', verdict: {} as never, passed: null, score: undefined, finishedAt: new Date(0), acceptedAttempt: 1 } as const;
  const end = async (atOnce: boolean): Promise<string[]> => {
    const steps: string[] = [];
    const step = (name: string) => async (): Promise<string> => (steps.push(name), 'finalized');
    const deps = {
      database: { transaction: async (work: (tx: object) => Promise<void>) => await work({}) },
      evaluations: { finish: step('finish') },
      attempts: { finishRun: async (...given: unknown[]) => (ends.push(given.at(-1)), atOnce), setPod: step('pod'), finalize: step('end'), accept: step('accept') },
      epoch: () => 1,
    } as unknown as RecordDependencies;
    await new RecordWriter(deps).end('uid', { type: 'recordEnd', attempt, evaluation });
    return steps;
  };
  expect([await end(true), await end(false)]).toEqual([[], ['pod', 'end', 'accept', 'finish']]);
  expect(ends).toEqual([pod, pod]);
});
