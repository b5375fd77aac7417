import type { FollowingCapture } from '@crucible/storage';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { systemClock } from '../kube/index.ts';
import { PATIENCE, type RecorderContext } from './context.ts';
import { RecorderMetrics } from './metrics.ts';
import { Recorder, type RecorderOptions } from './recorder.ts';

const DAY_MS = 86_400_000;
const row = (namespace: string, days: number, finalized = false): FollowingCapture => ({
  evaluationUid: `${namespace}-${days}`, attempt: 1, podUid: `${namespace}-${days}`, namespace, name: 'run', lastSeq: 0, finalized,
  startedAt: new Date(Date.now() - days * DAY_MS),
});

it('ends captures where it may not look once no run can last, and removes what it spooled of what others have finished', async () => {
  const rows = [row('ours', 0), row('taken', 3), row('taken', 1), row('taken', 0, true)];
  const [asked, removed]: [string[], string[]] = [[], []];
  const context = {
    clock: systemClock,
    random: Math.random,
    patience: PATIENCE,
    logger: pino({ level: 'silent' }),
    metrics: new RecorderMetrics(new Registry()),
    database: { persist: (work: () => Promise<unknown>) => work() },
    claims: {
      take: async ({ evaluationUid }: { evaluationUid: string }) => {
        asked.push(evaluationUid);
        return 'captured';
      },
    },
    spool: { files: async ({ podUid }: { podUid: string }) => [podUid], remove: async (path: string) => void removed.push(path) },
  } as unknown as RecorderContext;
  const pods = { list: () => [], sees: (namespace: string) => namespace === 'ours' } as unknown as RecorderOptions['pods'];
  const recorder = new Recorder({ context, pods, unfinished: { listFollowing: async () => rows } });
  await recorder.sweep();
  expect(asked).toEqual([]);
  await recorder.sweep();
  await expect.poll(() => removed).toHaveLength(3);
  expect(removed.sort()).toEqual(['ours-0', 'taken-0', 'taken-3']);
  expect(asked.sort()).toEqual(removed);
});
