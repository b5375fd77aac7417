import { Problem } from '../problems.ts';

/** Storage says with an error of its own what it cannot read of a request; the caller is told its words. */
export async function badRequestOn<T>(kind: new () => Error, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof kind) throw new Problem(400, error.message);
    throw error;
  }
}
