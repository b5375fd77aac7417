import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { Score, StdoutExpectation } from './expect.ts';

export interface ScoreTask {
  readonly expected: StdoutExpectation;
  readonly stdout: Uint8Array;
}

/** A sensible pattern takes milliseconds, also on the largest output; this is for a busy machine. */
const LIMIT_SECONDS = 5;
/** The limit is counted in so many parts, each of which counts once however long it takes. */
const TICKS = 20;
/** Several times what expect.ts can need; there is always a pattern that needs more. */
const MEMORY_MEGABYTES = 192;

export const TOO_SLOW: Score = {
  passed: false,
  reason: 'MatchTooSlow',
  message:
    'Comparing stdout with spec.expect took too much time or memory and was given up. Simplify the pattern (large repetitions such as {1000} are slow), or print less.',
};

const BROKEN: Score = {
  passed: false,
  reason: 'ScoringFailed',
  message: 'stdout could not be compared with spec.expect.',
};

/**
 * A thread that compares outputs, one at a time, and can be ended: on the event loop a single expensive pattern would
 * stop everything else, until the liveness probe stops the process.
 */
export class ScoreThread {
  readonly #logger: Logger;
  readonly #limitMs: number;
  #worker: Worker | undefined;

  constructor(options: { readonly logger: Logger; readonly limitSeconds?: number }) {
    this.#logger = options.logger;
    this.#limitMs = (options.limitSeconds ?? LIMIT_SECONDS) * 1000;
  }

  /** Not while another one runs. Rejects when aborted, or when no thread could be started: then nothing is known. */
  async score(task: ScoreTask, signal: AbortSignal): Promise<Score> {
    signal.throwIfAborted();
    const worker = (this.#worker ??= await start(signal));
    const over = new AbortController();
    const limit = AbortSignal.any([signal, over.signal]);
    // While this process stands still, or its event loop does, nobody reads an answer: that time is not the pattern's. And one
    // that has come meanwhile is read (poll) before it is too late (check).
    let ticks = 0;
    const clock = setInterval(() => (ticks += 1) >= TICKS && setImmediate(() => over.abort()), this.#limitMs / TICKS);
    try {
      worker.postMessage(task);
      // Rejects with the 'error' of the thread too.
      const [score] = (await once(worker, 'message', { signal: limit })) as [Score];
      return score;
    } catch (error) {
      await this.end();
      signal.throwIfAborted();
      const outOfMemory = (error as { code?: string }).code === 'ERR_WORKER_OUT_OF_MEMORY';
      if (limit.aborted || outOfMemory) return TOO_SLOW;
      this.#logger.error({ err: error }, 'scoring failed');
      return BROKEN;
    } finally {
      clearInterval(clock);
    }
  }

  /** Also gives back the memory; the next task starts another one. */
  async end(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}

async function start(signal: AbortSignal): Promise<Worker> {
  // In the image it is a bundle of its own beside the operator's, as main.ts has it for the other commands.
  const source = import.meta.url.endsWith('.mjs') ? './score-worker.mjs' : './score-worker.ts';
  const worker = new Worker(new URL(source, import.meta.url), {
    // Of the process's environment it needs nothing, and least of all the database's password.
    env: {},
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: MEMORY_MEGABYTES },
  });
  worker.unref();
  try {
    await once(worker, 'message', { signal });
    return worker;
  } catch (error) {
    await worker.terminate();
    throw error;
  }
}
