import type { Redis } from 'ioredis';
import { isUp } from './connection.ts';

/** Longer than any run; it bounds what a lost `finished` leaves behind. */
export const PENDING_TTL_SECONDS = 86_400;

export function pendingKey(evaluationUid: string): string {
  return `pending:${evaluationUid}`;
}

/**
 * A hint that an evaluation was accepted and has not finished, set and removed by the relay with the events that say so.
 * Speed only: true is nearly always right, undefined (no key, or no Redis) says nothing. Postgres is asked first or after.
 */
export async function isPending(redis: Redis | undefined, evaluationUid: string): Promise<true | undefined> {
  if (redis === undefined || !isUp(redis)) return undefined;
  const count = await redis.exists(pendingKey(evaluationUid)).catch(() => 0);
  return count === 1 ? true : undefined;
}

/**
 * For whoever submits, before the operator has seen it: the relay's events come later and end it. Not when it is there
 * already. False when there is no Redis to keep it: nothing is lost by that.
 */
export async function markPending(redis: Redis | undefined, evaluationUid: string): Promise<boolean> {
  if (redis === undefined || !isUp(redis)) return false;
  return await redis.set(pendingKey(evaluationUid), '1', 'EX', PENDING_TTL_SECONDS, 'NX').then(
    () => true,
    () => false,
  );
}
