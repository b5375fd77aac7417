import type { Redis } from 'ioredis';
import { CaptureRepository } from '../captures.ts';
import type { ArtifactRules } from '../artifact-rules.ts';
import type { Database } from '../database.ts';
import type { AppendChunks, AppendOutcome, BeginCapture, BeginOutcome, CaptureKey, FinishCapture, FinishCaptureOutcome, Reconcile } from '../types.ts';
import { isUp } from './connection.ts';

/** Published to after every change of a capture. The message is empty: what there is, Postgres says. */
export function outputChannel({ evaluationUid, attempt }: CaptureKey): string {
  return `crucible:output:${evaluationUid}/${attempt}`;
}

/** Captures that wait to be told of, at most; more are found by looking. */
const MAX_WAITING = 10_000;
const MAX_BATCH = 500;

/**
 * Tells through Redis that there is more output, so that readers need not look all the time. Output itself never goes
 * that way: a flood costs Redis a few bytes for each capture, however much it writes. Nobody waits: `announce` returns at
 * once, one batch is under way at a time, and what happens meanwhile to one capture becomes one message.
 */
export class OutputAnnouncer {
  readonly #redis: Redis | undefined;
  readonly #waiting = new Set<string>();
  #sending = false;
  #announced = 0;

  constructor(redis: Redis | undefined) {
    this.#redis = redis;
  }

  /** Messages that Redis took. */
  get announced(): number {
    return this.#announced;
  }

  /** Only after the row is committed: whoever is woken must find it. */
  announce(key: CaptureKey): void {
    if (this.#redis === undefined || !isUp(this.#redis) || this.#waiting.size >= MAX_WAITING) return;
    this.#waiting.add(outputChannel(key));
    if (!this.#sending) void this.#send(this.#redis);
  }

  async #send(redis: Redis): Promise<void> {
    this.#sending = true;
    while (this.#waiting.size > 0) {
      const batch = [...this.#waiting].slice(0, MAX_BATCH);
      for (const channel of batch) this.#waiting.delete(channel);
      const pipeline = redis.pipeline();
      for (const channel of batch) pipeline.publish(channel, '');
      const results = await pipeline.exec().catch(() => null);
      this.#announced += results?.filter(([error]) => error === null).length ?? 0;
      // Lost for good: readers look for themselves, and nothing must pile up here.
      if (!isUp(redis)) this.#waiting.clear();
    }
    this.#sending = false;
  }
}

/** The recorder's captures: as they are, and told of. */
export class AnnouncingCaptures extends CaptureRepository {
  readonly #announcer: OutputAnnouncer;

  constructor(db: Database, announcer: OutputAnnouncer) {
    super(db);
    this.#announcer = announcer;
  }

  override async begin(input: BeginCapture): Promise<BeginOutcome> {
    const outcome = await super.begin(input);
    if (outcome.outcome === 'begun') this.#announcer.announce(input);
    return outcome;
  }

  override async append(input: AppendChunks): Promise<AppendOutcome> {
    const outcome = await super.append(input);
    if (outcome.outcome === 'appended') this.#announcer.announce(input);
    return outcome;
  }

  override async reconcile(input: Reconcile): Promise<AppendOutcome> {
    const outcome = await super.reconcile(input);
    if (outcome.outcome === 'appended') this.#announcer.announce(input);
    return outcome;
  }

  override async finish(input: FinishCapture, rules?: ArtifactRules): Promise<FinishCaptureOutcome> {
    const outcome = await super.finish(input, rules);
    if (outcome.outcome === 'captured') this.#announcer.announce(input);
    return outcome;
  }
}
