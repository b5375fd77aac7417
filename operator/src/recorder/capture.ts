import { SANDBOX_CONTAINER } from '@crucible/crds';
import { isForeignPod, isUnavailable, type CapturePosition } from '@crucible/storage';
import type { Logger } from 'pino';
import { backoffMs, isAborted, KubeError, sleep, type PodLogStream } from '../kube/index.ts';
import { ClaimWatch } from './claims.ts';
import type { PodView, RecorderContext } from './context.ts';
import { finishCapture } from './final.ts';
import { LogPass } from './pass.ts';
import { passOptions } from './quota.ts';
import { claimHolds, logState, sandboxContainer, type SandboxContainer } from './pods.ts';
import type { FollowEnd } from './whole.ts';
import { CaptureFinished, CaptureWriter } from './writer.ts';

const EMPTY = { bytes: 0, lines: 0 };
const NOTHING_STORED: CapturePosition = { lastSeq: 0, missing: [], streams: { stdout: EMPTY, stderr: EMPTY } };

/** `untrusted`: no attempt vouches for the pod. `captured`: by us now, or by anyone before. */
export type CaptureResult = 'captured' | 'untrusted';

/**
 * One pod from the first sight of it to its output being captured: trust, claim, follow while it runs, read once more
 * when it has ended, unless following has seen the whole log. Throws when the signal aborts or the claim is lost; running it again then continues.
 */
export class PodCapture {
  readonly #context: RecorderContext;
  readonly #view: PodView;
  readonly #known: boolean;
  readonly #logger: Logger;
  #followed: LogPass | undefined;
  #passes = 0;
  #end: FollowEnd = 'cut';
  #container: SandboxContainer | undefined;
  #begun = false;

  /** `known`: a capture of this pod has been begun, so it was trusted before. */
  constructor(context: RecorderContext, view: PodView, known = false) {
    this.#context = context;
    this.#known = known;
    this.#view = view;
    const { evaluationUid, attempt, namespace, name } = view.claim;
    this.#logger = context.logger.child({ evaluationUid, attempt, pod: `${namespace}/${name}` });
  }

  /** The claim is ours and has to be renewed. */
  get begun(): boolean {
    return this.#begun;
  }

  async run(signal: AbortSignal): Promise<CaptureResult> {
    const { database, metrics, clock } = this.#context;
    if (!this.#known && !(await this.#trusted(signal))) return 'untrusted';
    const position = await this.#begin(signal);
    if (position === 'captured') await this.#discardSpool();
    if (position === 'captured' || position === 'untrusted') return position;
    this.#begun = true;
    const { captures, spool, claims, drains, writeBudget } = this.#context;
    const writer = new CaptureWriter({
      key: this.#view.claim,
      recorder: claims.recorder,
      position,
      // With an empty spool: what is there may be of a capture that Postgres has lost in a failover.
      fresh: position === NOTHING_STORED && spool.bytes === 0,
      captures,
      database,
      spool,
      drains,
      budget: writeBudget,
      clock,
      metrics,
      signal,
    });
    try {
      await writer.recover();
      await this.#follow(writer, signal);
      const endedAt = clock.monotonic();
      const left = writer.recovered ? await this.#replay(writer, signal) : undefined;
      // Unless following has seen as much.
      if (left !== undefined && left.sequence.lastSeq > (this.#followed?.sequence.lastSeq ?? -1)) this.#followed = left;
      await finishCapture({
        context: this.#context,
        view: this.#view,
        writer,
        followed: this.#followed,
        following: {
          fresh: position === NOTHING_STORED && !writer.recovered,
          passes: this.#passes,
          end: this.#end,
          container: this.#container,
        },
        logger: this.#logger,
        signal,
      });
      metrics.captureSeconds.observe((clock.monotonic() - endedAt) / 1000);
      return 'captured';
    } catch (error) {
      // What was read is worth keeping, whatever went wrong: at shutdown above all.
      await writer.flush().catch(() => {});
      if (!(error instanceof CaptureFinished)) throw error;
      await this.#discardSpool();
      return 'captured';
    } finally {
      await writer.close();
    }
  }

  /**
   * With a permit, as final reads, for it holds files as they do. Also while the log is there: it may go before it is read.
   */
  async #replay(writer: CaptureWriter, signal: AbortSignal): Promise<LogPass> {
    const { createdAt, evaluationUid } = this.#view.claim;
    const pass = () => new LogPass({ ...passOptions(this.#context, evaluationUid), maxReadBytes: Infinity });
    return await this.#context.finals.run(createdAt, signal, () => writer.replay(pass()));
  }

  /** Somebody else has finished the capture: what is left here is nobody's. */
  async #discardSpool(): Promise<void> {
    const { spool } = this.#context;
    for (const path of await spool.files(this.#view.claim)) await spool.remove(path);
  }

  async #trusted(signal: AbortSignal): Promise<boolean> {
    const { attempts, database, clock, patience } = this.#context;
    const { claim } = this.#view;
    const deadline = clock.monotonic() + patience.unknownAttemptMs;
    while (this.#view.current() !== undefined || clock.monotonic() < deadline) {
      const owner = await database.persist(() => attempts.findByJobUid(claim.jobUid), signal);
      if (owner !== undefined) {
        const { evaluationUid, number, namespace, podUid } = owner;
        const holds = claimHolds(claim, { evaluationUid, attempt: number, namespace, podUid: podUid ?? undefined });
        if (!holds) this.#logger.warn('the pod claims an attempt that is not its own');
        return holds;
      }
      if (clock.monotonic() >= deadline) break;
      await sleep(clock, patience.unknownRetryMs, signal);
      signal.throwIfAborted();
    }
    this.#logger.warn('no attempt is known for the pod');
    return false;
  }

  async #begin(signal: AbortSignal): Promise<CapturePosition | CaptureResult> {
    const { claims, captures, database, clock, patience } = this.#context;
    const { evaluationUid, attempt, podUid } = this.#view.claim;
    if (!this.#known && (await database.persist(() => this.#beginFirst(), signal))) return NOTHING_STORED;
    const watch = new ClaimWatch(patience.heldMs);
    for (;;) {
      const take = () => claims.take({ evaluationUid, attempt }, watch.abandoned(database.outages));
      const claimed = await database.persist(take, signal);
      if (claimed === 'captured') return 'captured';
      if (typeof claimed === 'object') watch.saw(claimed.heldBy);
      else {
        const result = await database.persist(
          () => captures.begin({ evaluationUid, attempt, podUid, recorder: claims.recorder() }),
          signal,
        );
        if (result.outcome === 'captured') return 'captured';
        if (result.outcome === 'foreignPod') {
          this.#logger.warn('the attempt belongs to another pod');
          return 'untrusted';
        }
        if (result.outcome !== 'unknownAttempt') return result.position;
      }
      await sleep(clock, patience.heldMs, signal);
      signal.throwIfAborted();
    }
  }

  /** As nearly every capture begins. */
  async #beginFirst(): Promise<boolean> {
    try {
      return await this.#context.claims.begin(this.#view.claim);
    } catch (error) {
      if (isForeignPod(error)) return false;
      throw error;
    }
  }

  /** Returns when the log has ended: nothing will be added to it any more, or it is gone. */
  async #follow(writer: CaptureWriter, signal: AbortSignal): Promise<void> {
    const { patience, random, metrics } = this.#context;
    for (let fruitless = 0; ;) {
      const state = this.#state();
      if (state === 'ended') return;
      if (state === 'waiting') {
        await this.#view.changed(signal);
        signal.throwIfAborted();
        continue;
      }
      const before = writer.readSeq;
      let end: FollowEnd = 'end';
      try {
        end = await this.#followOnce(writer, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof KubeError)) throw error;
        end = 'cut';
        this.#logger.debug({ code: error.code, reason: error.reason }, 'follow was cut');
      }
      this.#end = end;
      metrics.reads.inc({ read: 'follow', end });
      // More than any launcher writes: the rest is counted by the final read, which is bounded as well.
      if (end === 'flood') return await this.#ended(signal);
      fruitless = writer.readSeq > before ? 0 : fruitless + 1;
      // A clean end usually means that the container has ended; its status follows within moments.
      const least = end === 'end' && this.#followed?.endsWithSummary === true ? patience.endedMs : 0;
      const delay = backoffMs(fruitless, patience.reconnectBaseMs, patience.reconnectMaxMs, random);
      await this.#pause(Math.max(least, delay), signal);
    }
  }

  /** Waits, but not longer than until the pod has ended. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const both = AbortSignal.any([signal, over.signal]);
    const cancel = this.#context.clock.after(ms, () => over.abort());
    while (!both.aborted && this.#state() === 'running') await this.#view.changed(both);
    cancel();
    over.abort();
    signal.throwIfAborted();
  }

  async #ended(signal: AbortSignal): Promise<void> {
    while (this.#state() !== 'ended') {
      await this.#view.changed(signal);
      signal.throwIfAborted();
    }
  }

  #state(): 'waiting' | 'running' | 'ended' {
    const pod = this.#view.current();
    if (pod === undefined) return 'ended';
    const { kind } = logState(pod);
    return kind === 'neverStarted' ? 'ended' : kind;
  }

  async #followOnce(writer: CaptureWriter, signal: AbortSignal): Promise<FollowEnd> {
    const { metrics, artifactBudget } = this.#context;
    const { claim } = this.#view;
    // Also one that comes to nothing: the one before it has not seen the end.
    this.#passes += 1;
    const release = await this.#slot(signal);
    if (release === undefined) return 'end';
    metrics.follows.inc();
    const whole = new AbortController();
    const until = this.#untilDrained(signal, whole.signal);
    try {
      const pass = new LogPass({ ...passOptions(this.#context, claim.evaluationUid), budget: artifactBudget });
      const stream = await this.#open(until.signal);
      try {
        return await pass.read(
          readyForMore(stream, () => pass.endsWithSummary && whole.abort()),
          (frame) => writer.offer(frame),
          () => writer.relieve(),
        );
      } catch (error) {
        if (!isAborted(error) || !until.left()) throw error;
        pass.decoder.end();
        return 'left';
      } finally {
        // A reconnect that finds less than was seen before (the log is gone) teaches nothing.
        if (pass.sequence.lastSeq >= (this.#followed?.sequence.lastSeq ?? 0)) this.#followed = pass;
        await writer.flush();
      }
    } catch (error) {
      // An artifact store that is away must not stop the output: the final read stores artifacts again.
      if (isUnavailable(error) || isAborted(error))
        throw new KubeError({ code: 0, reason: 'Interrupted', message: 'the follow was interrupted' });
      throw error;
    } finally {
      until.cancel();
      metrics.follows.dec();
      release();
    }
  }

  /** In turn, and not while too much waits for Postgres: what a log holds comes at once. */
  async #open(signal: AbortSignal): Promise<PodLogStream> {
    const { clock, logs, openings, patience, writeBudget } = this.#context;
    const { namespace, name, createdAt } = this.#view.claim;
    const pod = this.#view.current();
    this.#container = pod && sandboxContainer(pod);
    const release = await openings.acquire(createdAt, signal);
    await writeBudget.room(signal);
    const cancel = clock.after(patience.openingMs, () => release?.());
    try {
      return await logs.podLog(namespace, name, { container: SANDBOX_CONTAINER, follow: true, signal });
    } finally {
      cancel();
      release?.();
    }
  }

  /** A signal that aborts once the container has ended: a moment later if the log is read to its last frame, else more. */
  #untilDrained(signal: AbortSignal, whole: AbortSignal): { signal: AbortSignal; left: () => boolean; cancel: () => void } {
    const over = new AbortController();
    const both = AbortSignal.any([signal, over.signal]);
    const { clock, patience } = this.#context;
    void (async () => {
      while (!both.aborted && this.#state() === 'running') await this.#view.changed(both);
      await sleep(clock, patience.drainMs, AbortSignal.any([both, whole]));
      if (whole.aborted) await sleep(clock, patience.listenMs, both);
      over.abort();
    })();
    return { signal: both, left: () => over.signal.aborted && !signal.aborted, cancel: () => over.abort() };
  }

  /** A permit to follow, or undefined when the pod ended while waiting: it is then read in one go. */
  async #slot(signal: AbortSignal): Promise<(() => void) | undefined> {
    const over = new AbortController();
    const both = AbortSignal.any([signal, over.signal]);
    const permit = this.#context.follows.acquire(this.#view.claim.createdAt, both);
    const watching = (async () => {
      while (!both.aborted && this.#state() === 'running') await this.#view.changed(both);
    })();
    const release = await Promise.race([permit, watching.then(() => undefined)]);
    over.abort();
    // Granted in the same moment: give it back.
    if (release === undefined) void permit.then((late) => late?.());
    signal.throwIfAborted();
    return release;
  }
}

/** Tells when the reader is done with a piece and wants the next. */
async function* readyForMore(stream: AsyncIterable<Uint8Array>, ready: () => void): AsyncGenerator<Uint8Array> {
  for await (const piece of stream) {
    yield piece;
    ready();
  }
}
