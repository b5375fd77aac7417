import type { Logger } from 'pino';
import { sleep, systemClock } from './kube/index.ts';
import type { Clock, LeaderStopReason, LeaderTerm } from './kube/index.ts';

/** What runs while this replica leads. */
export interface Operator {
  start(epoch: number, signal: AbortSignal): Promise<void>;
  stop(limitSeconds: number): Promise<void>;
}

export interface TermEnd {
  readonly reason: LeaderStopReason;
  /** For the whole process: the release of the lease and what comes after it must fit into the rest. */
  readonly shutdownSeconds: number;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export async function startTerm(operators: readonly Operator[], { epoch, signal }: LeaderTerm): Promise<void> {
  for (const operator of operators) {
    if (signal.aborted) return;
    await operator.start(epoch, signal);
  }
}

/**
 * Resolves when all have stopped, or when there is no more time for it. Who then still waits, for a Postgres that does not
 * answer for example, has been aborted, and what it writes to the record is fenced by the epoch: no reason to keep the lease
 * from its successor until it runs out.
 */
export async function endTerm(operators: readonly Operator[], end: TermEnd): Promise<void> {
  const { reason, shutdownSeconds, logger, clock = systemClock } = end;
  // Time to finish is there only while nobody else can lead.
  const limitSeconds = reason === 'lost' ? 0 : shutdownSeconds * 0.5;
  const enough = new AbortController();
  const stopped = Promise.all(operators.map((operator) => operator.stop(limitSeconds))).then(() => true);
  const late = sleep(clock, shutdownSeconds * 0.6 * 1000, enough.signal).then(() => false);
  try {
    if (!(await Promise.race([stopped, late]))) logger.warn({ reason }, 'not everything ended in time');
  } finally {
    enough.abort();
  }
}
