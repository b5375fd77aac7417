import { ArtifactRepository } from './artifacts.ts';
import { SWEEP_LOCK } from './artifact-rules.ts';
import type { Database } from './database.ts';
import type { FileInfo, FileStore } from './files.ts';

/** `output`: bytes of both streams; `artifacts`: their content; `records`: everything about a run. */
export const RETENTION_CLASSES = ['output', 'artifacts', 'records'] as const;
export type RetentionClass = (typeof RETENTION_CLASSES)[number];

const EXPIRE_BATCH = 50;
/**
 * Under the lock for which every finishing capture waits: few, and not for long. With the last candidate's look and delete
 * less than the 15 s that a capture's statement may wait.
 */
const SWEEP_BATCH = 20;
const SWEEP_BATCH_MS = 3_000;
const SWEEP_CALL_MS = 5_000;
/** The lock must outlive a delete that is under way; a process that stands still must not keep it for ever. */
const SWEEP_IDLE = '60s';

/**
 * Deletes what a class holds of runs that finished more than so many days ago (at least one: the database refuses less).
 * In short transactions, oldest first, until nothing is left, `maxRuns` are done or the signal aborts. Returns how many runs.
 */
export async function expire(
  db: Database,
  options: { class: RetentionClass; days: number; maxRuns: number; signal?: AbortSignal },
): Promise<number> {
  if (options.class === 'records') await expireSuites(db, options);
  let total = 0;
  while (total < options.maxRuns && options.signal?.aborted !== true) {
    const batch = Math.min(EXPIRE_BATCH, options.maxRuns - total);
    const { rows } = await db.query<{ runs: number }>('SELECT crucible.expire($1, make_interval(days => $2), $3) AS runs', [
      options.class, options.days, batch,
    ]);
    const runs = rows[0]?.runs ?? 0;
    total += runs;
    if (runs < batch) break;
  }
  return total;
}

/** Suites go with the records of their runs. */
async function expireSuites(db: Database, { days, maxRuns, signal }: { days: number; maxRuns: number; signal?: AbortSignal }): Promise<void> {
  for (let total = 0; total < maxRuns && signal?.aborted !== true; total += EXPIRE_BATCH) {
    const { rows } = await db.query<{ suites: number }>('SELECT crucible.expire_suites(make_interval(days => $1), $2) AS suites', [
      days, EXPIRE_BATCH,
    ]);
    if ((rows[0]?.suites ?? 0) < EXPIRE_BATCH) return;
  }
}

/**
 * Partitions of events: makes those of the coming months, drops those of past ones that retention has emptied. Any number
 * of callers at once; throws UnavailableError when the table is busy: the next call does it.
 */
export async function maintainEventPartitions(db: Database): Promise<{ made: number; dropped: number }> {
  const { rows } = await db.query<{ made: number; dropped: number }>('SELECT made, dropped FROM crucible.maintain_event_partitions()');
  return rows[0] ?? { made: 0, dropped: 0 };
}

export interface SweepResult {
  seen: number;
  deleted: number;
  bytes: number;
}

/**
 * Deletes files that no row names and that were last put more than `graceSeconds` ago. Safe beside running captures, and
 * beside other sweeps: see SWEEP_LOCK. The store must belong to this database alone.
 */
export async function sweepFiles(
  db: Database,
  files: Pick<FileStore, 'list' | 'stat' | 'delete'>,
  options: { graceSeconds: number; now?: () => number; signal?: AbortSignal },
): Promise<SweepResult> {
  const now = options.now ?? Date.now;
  const isOld = (info: FileInfo): boolean => now() - info.modifiedAt.getTime() > options.graceSeconds * 1000;
  const result: SweepResult = { seen: 0, deleted: 0, bytes: 0 };
  let batch: FileInfo[] = [];
  for await (const info of files.list()) {
    if (options.signal?.aborted === true) return result;
    result.seen += 1;
    if (isOld(info)) batch.push(info);
    if (batch.length < SWEEP_BATCH) continue;
    await sweepBatch(db, files, batch, isOld, result);
    batch = [];
  }
  await sweepBatch(db, files, batch, isOld, result);
  return result;
}

async function sweepBatch(
  db: Database,
  files: Pick<FileStore, 'stat' | 'delete'>,
  batch: readonly FileInfo[],
  isOld: (info: FileInfo) => boolean,
  result: SweepResult,
): Promise<void> {
  const artifacts = new ArtifactRepository(db);
  const names = batch.map(({ sha256 }) => sha256);
  // Without the lock first: nearly everything in a store is named by a row.
  const known = await artifacts.referenced(names);
  const candidates = names.filter((name) => !known.has(name));
  if (candidates.length === 0) return;
  await db.transaction(async (tx) => {
    await tx.query(`SET LOCAL idle_in_transaction_session_timeout = '${SWEEP_IDLE}'`);
    await tx.query('SELECT pg_advisory_xact_lock($1)', [SWEEP_LOCK]);
    const end = performance.now() + SWEEP_BATCH_MS;
    for (const name of candidates) {
      if (performance.now() > end) return;
      // Somebody may have put it again since it was listed; whose row is still to come.
      const info = await files.stat(name, { signal: AbortSignal.timeout(SWEEP_CALL_MS) });
      if (info === undefined || !isOld(info)) continue;
      // Asked last: it fails when the session is gone, and with it the lock.
      if ((await artifacts.referenced([name], tx)).size > 0) continue;
      if (!(await files.delete(name, { signal: AbortSignal.timeout(SWEEP_CALL_MS) }))) continue;
      result.deleted += 1;
      result.bytes += info.size;
    }
  });
}
