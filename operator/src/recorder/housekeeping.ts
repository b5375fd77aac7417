import { expire, isUnavailable, maintainEventPartitions, RETENTION_CLASSES, sweepFiles, type Database, type FileStore } from '@crucible/storage';
import type { Logger } from 'pino';
import { sleep, type Clock } from '../kube/index.ts';
import type { RecorderMetrics } from './metrics.ts';
import type { StorageConfig } from './storage-config.ts';

/** Of each class in one turn: the rest waits for the next, so that captures keep their share of the database. */
const MAX_RUNS = 2_000;
const TEMPORARY_SECONDS = 86_400;

export interface HousekeepingOptions {
  readonly config: StorageConfig;
  readonly database: Database;
  readonly files: FileStore & { sweepTemporary?(olderThanSeconds: number): Promise<number> };
  readonly metrics: RecorderMetrics;
  readonly logger: Logger;
  readonly clock: Clock;
}

/**
 * Retention and the sweep of the file store, in turns until the signal aborts. Every replica does it: rows that one has
 * locked the others skip, and two sweeps take turns.
 */
export async function keepHouse(options: HousekeepingOptions, signal: AbortSignal): Promise<void> {
  const { config, logger, clock } = options;
  while (!signal.aborted) {
    await sleep(clock, config.housekeepingSeconds * 1000, signal);
    if (signal.aborted) return;
    try {
      await tidy(options, signal);
    } catch (error) {
      if (isUnavailable(error)) logger.warn({ reason: error.message }, 'housekeeping was interrupted');
      else logger.error({ err: error }, 'housekeeping failed');
    }
  }
}

/** One turn. Expiry first: what it lets go of the sweep can take. */
export async function tidy({ config, database, files, metrics, logger }: HousekeepingOptions, signal: AbortSignal): Promise<void> {
  for (const kind of RETENTION_CLASSES) {
    const days = config.retentionDays[kind];
    if (days === 0 || signal.aborted) continue;
    const runs = await expire(database, { class: kind, days, maxRuns: MAX_RUNS, signal });
    metrics.expired.inc({ class: kind }, runs);
    if (runs > 0) logger.info({ class: kind, days, runs }, 'retention deleted what was old');
  }
  if (signal.aborted) return;
  const partitions = await maintainEventPartitions(database);
  if (partitions.made + partitions.dropped > 0) logger.info({ ...partitions }, 'partitions of events made ahead or dropped');
  if (config.orphanGraceHours === 0 || signal.aborted) return;
  await files.sweepTemporary?.(TEMPORARY_SECONDS);
  const swept = await sweepFiles(database, files, { graceSeconds: config.orphanGraceHours * 3600, signal });
  metrics.sweptBytes.inc(swept.bytes);
  if (swept.deleted > 0) logger.info({ ...swept }, 'swept files that no artifact names');
}
