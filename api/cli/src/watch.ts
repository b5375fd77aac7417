import type { Phase } from '@crucible/crds';
import {
  ProblemError,
  linked,
  pause,
  type Attempt,
  type Evaluation,
  type EvaluationStatus,
  type OutputStream,
  type RunEvent,
  type StartupAwareClient,
} from '@crucible/client';
import { CliError } from './errors.ts';
import { EXIT } from './exit-codes.ts';
import { visibleLine } from './text.ts';

// A run is watched by looking at its record whenever an event says that something happened, and now and then without:
// events are hints, so that a relay or Redis that is away delays what is shown and loses nothing.

export interface Watcher {
  /** Each phase once, in order; `status` knows why and how long when it waits. */
  phase(phase: string, status: EvaluationStatus | undefined): void;
  attempt(attempt: Attempt): void;
  output(stream: OutputStream, attempt: number, data: Uint8Array): Promise<void>;
  outputEnd(stream: OutputStream, attempt: number): void;
}

export interface WatchOptions {
  readonly streams: readonly OutputStream[];
  readonly signal: AbortSignal;
  /** Only this attempt's output. */
  readonly attempt?: number | undefined;
}

/** Between two looks without an event; longer from one to the next, so that many runs at once stay below the API's limits. */
const FIRST_LOOK_SECONDS = 2;
const LONGEST_LOOK_SECONDS = 10;
/** In the order in which a run has them; the last three are ends. */
export const PHASE_RANKS: Readonly<Record<Phase, number>> = {
  Queued: 0,
  Starting: 1,
  Running: 2,
  Capturing: 3,
  Succeeded: 4,
  Failed: 4,
  Cancelled: 4,
};
const ENDED = 4;
const rankOf = (phase: string): number => PHASE_RANKS[phase as Phase] ?? 0;

/** Follows a run to its end, output and all; resolves with its record. */
export async function watch(
  client: StartupAwareClient,
  id: string,
  watcher: Watcher,
  { streams, signal, attempt: only }: WatchOptions,
): Promise<Evaluation> {
  const { controller: done, signal: stop, release } = linked(signal);
  const { controller: heard, signal: deaf } = linked(stop);
  const bell = new Bell();
  const phases = new Phases(watcher);
  const outputs = new Outputs(client, id, watcher, stop, (error) => bell.fail(error));
  // What a stream of events is refused for, a look is refused for too, or it does not matter.
  const events = listen(client, id, deaf, (event) => {
    phases.event(event);
    bell.ring();
  }).catch(() => undefined);
  try {
    for (let seconds = FIRST_LOOK_SECONDS; ; ) {
      const status = await client.status(id, { signal });
      const record = await recordOf(client, id, status, signal);
      for (const attempt of record?.attempts ?? []) {
        if (phases.attempt(attempt) && (only === undefined || only === attempt.number))
          outputs.follow(attempt, streams);
      }
      if (status.refused) throw refusal(id, status);
      phases.status(status);
      if (status.finished && record !== undefined) {
        // Its place among the streams that one may have open is worth more to output that waits for one.
        heard.abort(new DOMException('finished', 'AbortError'));
        await outputs.finished();
        return await client.evaluation(id, { signal });
      }
      const rung = await bell.wait(seconds, signal);
      seconds = rung ? FIRST_LOOK_SECONDS : Math.min(seconds * 1.5, LONGEST_LOOK_SECONDS);
    }
  } finally {
    release();
    done.abort(new DOMException('done', 'AbortError'));
    await events;
  }
}

/** Nothing of it can be waited for: it does not run before something outside of it is changed, if ever. */
const refusal = (id: string, { queueReason, queueMessage }: EvaluationStatus): CliError =>
  new CliError(
    `not accepted: ${visibleLine([queueReason, queueMessage].filter((text) => text !== null).join(': '))}\n` +
      `it stays in the cluster, and starts if that changes: \`kubectl crucible cancel ${id}\` ends it`,
    EXIT.notAccepted,
  );

/** Not there before the operator has recorded it. */
async function recordOf(
  client: StartupAwareClient,
  id: string,
  { finished }: EvaluationStatus,
  signal: AbortSignal,
): Promise<Evaluation | undefined> {
  try {
    return await client.evaluation(id, { signal });
  } catch (error) {
    if (error instanceof ProblemError && error.status === 404 && !finished) return undefined;
    throw error;
  }
}

async function listen(
  client: StartupAwareClient,
  id: string,
  signal: AbortSignal,
  onEvent: (event: RunEvent) => void,
): Promise<void> {
  for await (const event of client.events(id, { signal })) onEvent(event);
}

/** Phases in their order, each once for an attempt: events and looks overtake each other. */
class Phases {
  readonly #watcher: Watcher;
  readonly #attempts = new Map<number, boolean>();
  #rank = -1;
  #shown = '';

  constructor(watcher: Watcher) {
    this.#watcher = watcher;
  }

  event({ type, data }: RunEvent): void {
    const { to } = data;
    if (type === 'dev.crucible.evaluation.phase' && typeof to === 'string' && rankOf(to) !== ENDED)
      this.#show(to, undefined);
  }

  status(status: EvaluationStatus): void {
    this.#show(status.phase, status);
  }

  /** True when there is something of it to follow. */
  attempt(attempt: Attempt): boolean {
    const { number, capture } = attempt;
    if (!this.#attempts.has(number)) {
      this.#attempts.set(number, false);
      if (number > 1) this.#rank = -1;
      if (number > 1) this.#watcher.attempt(attempt);
    }
    if (this.#attempts.get(number) === true || capture === null) return false;
    this.#attempts.set(number, true);
    return true;
  }

  #show(phase: string, status: EvaluationStatus | undefined): void {
    const rank = rankOf(phase);
    const text = `${phase}/${status?.queueReason ?? ''}/${status?.queuePosition ?? ''}`;
    const waitsDifferently = rank === this.#rank && phase === 'Queued' && status !== undefined && text !== this.#shown;
    if (rank <= this.#rank && !waitsDifferently) return;
    this.#rank = rank;
    this.#shown = text;
    this.#watcher.phase(phase, status);
  }
}

class Outputs {
  readonly #client: StartupAwareClient;
  readonly #id: string;
  readonly #watcher: Watcher;
  readonly #signal: AbortSignal;
  readonly #onError: (error: unknown) => void;
  readonly #running: Promise<void>[] = [];

  constructor(
    client: StartupAwareClient,
    id: string,
    watcher: Watcher,
    signal: AbortSignal,
    onError: (error: unknown) => void,
  ) {
    this.#client = client;
    this.#id = id;
    this.#watcher = watcher;
    this.#signal = signal;
    this.#onError = onError;
  }

  follow({ number }: Attempt, streams: readonly OutputStream[]): void {
    for (const stream of streams) {
      const reading = this.#read(stream, number);
      // Told at once, not only when the run is over.
      reading.catch((error: unknown) => {
        if (!this.#signal.aborted) this.#onError(error);
      });
      this.#running.push(reading);
    }
  }

  async finished(): Promise<void> {
    await Promise.all(this.#running);
  }

  async #read(stream: OutputStream, attempt: number): Promise<void> {
    for await (const { data } of this.#client.followOutput(this.#id, stream, { attempt, signal: this.#signal }))
      await this.#watcher.output(stream, attempt, data);
    this.#watcher.outputEnd(stream, attempt);
  }
}

/** Wakes whoever waits, or the next who does; carries the failure of what runs beside it. */
class Bell {
  #rung = Promise.withResolvers<void>();

  constructor() {
    this.#quiet();
  }

  ring(): void {
    this.#rung.resolve();
  }

  fail(error: unknown): void {
    this.#rung.reject(error as Error);
  }

  /** Whether it rang; false: the time is over. */
  async wait(seconds: number, signal: AbortSignal): Promise<boolean> {
    const { controller: over, signal: stop, release } = linked(signal);
    try {
      return await Promise.race([this.#rung.promise.then(() => true), pause(seconds, stop).then(() => false)]);
    } finally {
      release();
      over.abort(new DOMException('woken', 'AbortError'));
      this.#rung = Promise.withResolvers();
      this.#quiet();
    }
  }

  /** Its failure is for who waits; nobody may. */
  #quiet(): void {
    this.#rung.promise.catch(() => undefined);
  }
}
