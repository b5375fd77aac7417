import { pino } from 'pino';
import { expect, test } from 'vitest';
import { systemClock } from '../kube/index.ts';
import { PATIENCE } from './context.ts';
import { Recorder } from './recorder.ts';
import type { RecorderOptions } from './recorder.ts';

const row = (podUid: string, namespace: string, finalized: boolean) => ({
  evaluationUid: podUid, attempt: 1, podUid, namespace, name: podUid, lastSeq: 0, startedAt: new Date(), finalized,
});

/** Which captures are taken up by two rounds; no pod is in view, and in other namespaces than `seen` none can be. */
async function takenUp(rows: readonly ReturnType<typeof row>[], seen: readonly string[]): Promise<string[]> {
  const taken: string[] = [];
  const take = async ({ evaluationUid }: { evaluationUid: string }): Promise<string> => {
    taken.push(evaluationUid);
    return 'captured';
  };
  const recorder = new Recorder({
    context: {
      metrics: { pods: { inc: () => {}, dec: () => {} } },
      logger: pino({ level: 'silent' }),
      clock: systemClock,
      random: () => 0,
      patience: PATIENCE,
      database: { available: false, persist: (work: () => unknown) => work() },
      claims: { take },
    },
    pods: { list: () => [], stop: async () => {}, sees: (namespace: string) => seen.includes(namespace) },
    unfinished: { listFollowing: async () => rows },
  } as unknown as RecorderOptions);
  await recorder.sweep();
  expect(taken).toEqual([]);
  await recorder.sweep();
  await recorder.stop();
  return taken;
}

test('what has no pod is finished, but not where its pod may be out of sight, unless it is judged already', async () => {
  const rows = [row('a', 'there', false), row('b', 'gone', false), row('c', 'gone', true), row('d', 'elsewhere', true)];
  expect(await takenUp(rows, ['there'])).toEqual(['a', 'c', 'd']);
  expect(await takenUp(rows, ['there', 'gone'])).toEqual(['a', 'b', 'c', 'd']);
});
