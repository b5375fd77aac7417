/** Runs the work with at most `limit` at once; results in the order of the work. The first failure is thrown when it happens. */
export async function inParallel<T>(work: readonly (() => Promise<T>)[], limit: number): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < work.length) {
      const mine = next++;
      results[mine] = await work[mine]!();
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, work.length) }, worker));
  return results;
}
