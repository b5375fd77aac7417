import {
  expire,
  isUnavailable,
  maintainEventPartitions,
  RETENTION_CLASSES,
  sweepFiles,
  type Database,
  type FileStore,
  type RetentionClass,
} from '@crucible/storage';
import type { Logger } from 'pino';
import { sleep, type Clock } from '../kube/index.ts';
import type { RecorderMetrics } from './metrics.ts';
import type { StorageConfig } from './storage-config.ts';

/** Of one class before the next has its share. */
const MAX_RUNS = 2_000;
/** After the start, and after Postgres was away: a process that is started anew more often than it keeps house does so too. */
const SOON_SECONDS = 60;
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
 * locked the others skip, and two sweeps take turns. Short transactions one after another on a connection of its own
 * leave captures their share of the database, however much there is to delete.
 */
export async function keepHouse(options: HousekeepingOptions, signal: AbortSignal): Promise<void> {
  const { config, logger, clock } = options;
  const soon = Math.min(SOON_SECONDS, config.housekeepingSeconds);
  for (let waitSeconds = soon; ;) {
    await sleep(clock, waitSeconds * 1000, signal);
    if (signal.aborted) return;
    waitSeconds = config.housekeepingSeconds;
    try {
      if ((await tidy(options, signal)) === 'more') waitSeconds = 0;
    } catch (error) {
      if (isUnavailable(error)) {
        waitSeconds = soon;
        logger.warn({ reason: error.message }, 'housekeeping was interrupted');
      } else logger.error({ err: error }, 'housekeeping failed');
    }
  }
}

/** One turn. Expiry first: what it lets go of the sweep can take. `more`: its time was not enough for all that is old. */
export async function tidy(options: HousekeepingOptions, signal: AbortSignal): Promise<'done' | 'more'> {
  const result = await expireAll(options, signal);
  if (!signal.aborted) await maintain(options, signal);
  return result;
}

/** Each class in its turn until none has anything left, for the length of a turn at most: the sweep must have its turn too. */
async function expireAll({ config, database, metrics, logger, clock }: HousekeepingOptions, signal: AbortSignal): Promise<'done' | 'more'> {
  const end = clock.monotonic() + config.housekeepingSeconds * 1000;
  let classes = RETENTION_CLASSES.filter((kind) => config.retentionDays[kind] > 0);
  while (classes.length > 0 && !signal.aborted && clock.monotonic() < end) {
    const unfinished: RetentionClass[] = [];
    for (const kind of classes) {
      const days = config.retentionDays[kind];
      const runs = await expire(database, { class: kind, days, maxRuns: MAX_RUNS, signal });
      metrics.expired.inc({ class: kind }, runs);
      if (runs > 0) logger.info({ class: kind, days, runs }, 'retention deleted what was old');
      if (runs >= MAX_RUNS) unfinished.push(kind);
    }
    classes = unfinished;
  }
  return classes.length > 0 ? 'more' : 'done';
}

/** Partitions of events, and files that nobody names. */
async function maintain({ config, database, files, metrics, logger }: HousekeepingOptions, signal: AbortSignal): Promise<void> {
  const partitions = await maintainEventPartitions(database);
  if (partitions.made + partitions.dropped > 0) logger.info({ ...partitions }, 'partitions of events made ahead or dropped');
  if (config.orphanGraceHours === 0 || signal.aborted) return;
  await files.sweepTemporary?.(TEMPORARY_SECONDS);
  const swept = await sweepFiles(database, files, { graceSeconds: config.orphanGraceHours * 3600, signal });
  metrics.sweptBytes.inc(swept.bytes);
  if (swept.deleted > 0) logger.info({ ...swept }, 'swept files that no artifact names');
}
