export interface Linked {
  readonly controller: AbortController;
  readonly signal: AbortSignal;
  /** The others are forgotten: from now on only the controller aborts it. */
  release(): void;
}

/**
 * A signal that aborts with the first of others, and is held by them. Node.js holds AbortSignal.any() and the signals of
 * requests weakly: once they are collected as garbage, they abort nothing, and a stream that should end goes on for ever.
 */
export function linked(...parents: (AbortSignal | undefined)[]): Linked {
  const controller = new AbortController();
  const releases: (() => void)[] = [];
  for (const parent of parents) {
    if (parent === undefined) continue;
    const abort = (): void => controller.abort(parent.reason);
    if (parent.aborted) abort();
    parent.addEventListener('abort', abort, { once: true });
    releases.push(() => parent.removeEventListener('abort', abort));
  }
  return { controller, signal: controller.signal, release: () => releases.splice(0).forEach((release) => release()) };
}

/** Rejects with the signal's reason when it aborts, else like the work: which may not notice that it was aborted. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason as Error);
    if (signal.aborted) aborted();
    signal.addEventListener('abort', aborted, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}

/** The same bytes; ends with the signal's reason when it aborts. */
export function abortable(
  body: ReadableStream<Uint8Array>,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array> {
  if (signal === undefined) return body;
  const reader = body.getReader();
  const cancel = (): void => void reader.cancel(signal.reason).catch(() => undefined);
  signal.addEventListener('abort', cancel, { once: true });
  const over = (): void => signal.removeEventListener('abort', cancel);
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await unlessAborted(reader.read(), signal);
      if (!done) return controller.enqueue(value);
      over();
      controller.close();
    },
    cancel(reason) {
      over();
      return reader.cancel(reason);
    },
  });
}
