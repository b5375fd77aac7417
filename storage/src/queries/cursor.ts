import { isUid } from './scope.ts';

/** A place in a list that is ordered by creation, newest first: everything after it is older. */
export interface Place {
  /** Microseconds since the epoch, as Postgres has it: a Date would round, and skip or repeat rows of one millisecond. */
  micros: number;
  uid: string;
}

/** Opaque to clients. It names the last row that was looked at, so rows that are added meanwhile move nothing. */
export function encodeCursor({ micros, uid }: Place): string {
  return Buffer.from(`${micros}/${uid}`).toString('base64url');
}

/** Throws RangeError for what encodeCursor() did not make. */
export function decodeCursor(cursor: string): Place {
  const [micros = '', uid = ''] = Buffer.from(cursor, 'base64url').toString('latin1').split('/');
  if (!/^-?\d{1,16}$/.test(micros) || !Number.isSafeInteger(Number(micros)) || !isUid(uid))
    throw new RangeError('the cursor is not one that a list has given: begin without one');
  return { micros: Number(micros), uid };
}

/** SQL: the time of a place, of its microseconds. Not to_timestamp(), whose double is not exact. */
export function timeOf(micros: string): string {
  return `('epoch'::timestamptz + ${micros}::bigint * interval '1 microsecond')`;
}

/** SQL: the place of a row. */
export const MICROS = `(extract(epoch FROM created_at) * 1000000)::bigint`;
