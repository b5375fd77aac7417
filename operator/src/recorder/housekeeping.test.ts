import { UnavailableError, type Database } from '@crucible/storage';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import type { Clock } from '../kube/index.ts';
import { keepHouse, type HousekeepingOptions } from './housekeeping.ts';
import { RecorderMetrics } from './metrics.ts';
import { DEFAULT_STORAGE } from './storage-config.ts';

const HOUR = 3600;

it('keeps house soon after the start and every hour; at once while there is more, soon again after an outage', async () => {
  const stop = new AbortController();
  const waits: number[] = [];
  let time = 0;
  // Looking at it takes a thousand seconds: a turn's hour is over after three looks.
  const clock: Clock = {
    now: () => time,
    monotonic: () => (time += 1_000_000),
    after: (ms, go) => {
      if (waits.push(ms / 1000) === 4) setImmediate(() => stop.abort());
      else setImmediate(go);
      return () => undefined;
    },
  };
  let old = 8_000;
  const query = async (text: string, values: readonly unknown[]): Promise<unknown> => {
    if (waits.length === 2) throw new UnavailableError('away');
    if (!text.includes('crucible.expire(')) return { rows: [] };
    const runs = Math.min(old, values[2] as number);
    old -= runs;
    return { rows: [{ runs }] };
  };
  const options: HousekeepingOptions = {
    config: { ...DEFAULT_STORAGE, retentionDays: { output: 7, artifacts: 0, records: 0 }, orphanGraceHours: 0, housekeepingSeconds: HOUR },
    database: { query } as unknown as Database,
    files: {} as HousekeepingOptions['files'],
    metrics: new RecorderMetrics(new Registry(), () => true),
    logger: pino({ level: 'silent' }),
    clock,
  };
  await keepHouse(options, stop.signal);
  expect(waits).toEqual([60, 0, 60, HOUR]);
  expect(old).toBe(0);
});
