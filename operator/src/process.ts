/** Runs until SIGTERM or SIGINT, and ends within the grace period even if something hangs. */
export async function runUntilSignalled(
  shutdownSeconds: number,
  run: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => {
      stop.abort();
      setTimeout(() => process.exit(1), shutdownSeconds * 1000).unref();
    });
  }
  await run(stop.signal);
}

export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
