import { isUnavailable, type CapturePosition, type CaptureRepository } from '@crucible/storage';
import type { Clock } from '../kube/index.ts';
import { buildBatch, frameCharge, MAX_MISSING_RANGES } from './batch.ts';
import type { MemoryBudget } from './budget.ts';
import type { DatabaseHealth } from './database.ts';
import { FrameDecoder, type Frame } from './frames.ts';
import type { RecorderMetrics } from './metrics.ts';
import type { LogPass } from './pass.ts';
import { PendingFrames } from './pending.ts';
import type { Slots } from './slots.ts';
import type { Spool, SpoolKey } from './spool.ts';

/** Pending output is written when it reaches this, or after FLUSH_MS. */
const FLUSH_BYTES = 64 * 1024;
const FLUSH_MS = 200;
/**
 * While that is under way a reader may read on up to this, if all together stay within their budget. It goes into one
 * statement: of small ones Postgres takes half as much again for each byte.
 */
const READ_AHEAD_BYTES = 512 * 1024;
/** The launcher stops at 8 MiB for both streams together; more is forged, and named as missing. */
export const MAX_STORED_BYTES = 8 * 1024 * 1024;

/** What was read is kept also when everything else is stopping. */
const NEVER = new AbortController().signal;

/** Someone else finished this capture. */
export class CaptureFinished extends Error {}

export interface WriterOptions {
  readonly key: SpoolKey;
  /** The current claim, written along with every change. */
  readonly recorder: () => string;
  readonly position: CapturePosition;
  /** Nobody has captured anything of it before: the spool has nothing of it but what is put there from now on. */
  readonly fresh?: boolean;
  readonly captures: Pick<CaptureRepository, 'append'>;
  readonly database: DatabaseHealth;
  readonly spool: Spool;
  readonly drains: Slots;
  readonly budget: MemoryBudget;
  readonly clock: Clock;
  readonly metrics: RecorderMetrics;
  readonly signal: AbortSignal;
}

/**
 * Puts the frames of one capture into Postgres, each number once, in order. The compare-and-set on the stored position
 * makes it safe that a flush is repeated after a lost answer, and that a second recorder writes the same capture.
 */
export class CaptureWriter {
  readonly #options: WriterOptions;
  #position: CapturePosition;
  /** Highest number taken, whether stored, spooled or pending. */
  #readSeq: number;
  #pending = new PendingFrames();
  #pendingCharge = 0;
  #cancelTimer: (() => void) | undefined;
  #tail: Promise<void> = Promise.resolve();
  #failure: unknown;
  /** Flushes that are not over. */
  #writing = 0;
  #spooled = false;
  #direct = true;
  /** Nothing of it can be in the spool, which need not be looked through: most captures begin and end so. */
  #unspooled: boolean;
  /** Of an earlier process or capture, by their first number: their output is stored. */
  #recovered: readonly string[] = [];
  #awaitingReturn = false;
  #closed = false;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#unspooled = options.fresh ?? false;
    this.#position = options.position;
    this.#readSeq = options.position.lastSeq;
  }

  get position(): CapturePosition {
    return this.#position;
  }

  /** What the database said of it elsewhere (the final reconciliation). */
  set position(position: CapturePosition) {
    this.#position = position;
    this.#readSeq = Math.max(this.#readSeq, position.lastSeq);
  }

  /** What was stored since the beginning this writer has appended itself, and nothing of it came by way of the spool. */
  get direct(): boolean {
    return this.#direct;
  }

  get readSeq(): number {
    return this.#readSeq;
  }

  /** Takes a frame unless its number has been passed. The text is copied. */
  offer(frame: Frame): boolean {
    if (frame.seq <= this.#readSeq) return false;
    this.#readSeq = frame.seq;
    const charge = frameCharge(frame);
    this.#pending.add(frame);
    this.#pendingCharge += charge;
    this.#options.budget.change(charge);
    // A failure of the timed flush is kept and thrown by the reader's next own flush.
    this.#cancelTimer ??= this.#options.clock.after(FLUSH_MS, () => void this.flush().catch(() => {}));
    return true;
  }

  /** After each piece of a log: begins to write what is due, and returns what to wait for before more is read. */
  relieve(): Promise<void> | undefined {
    if (this.#failure !== undefined) return this.flush();
    const waits = this.#pendingCharge >= READ_AHEAD_BYTES || (this.#pendingCharge > 0 && this.#options.budget.exceeded);
    if (waits) return this.flush();
    if (this.#pendingCharge < FLUSH_BYTES) return undefined;
    if (this.#writing === 0) void this.flush().catch(() => {});
    return undefined;
  }

  /** Everything offered so far is in Postgres or in the spool. */
  flush(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#writing += 1;
    const run = this.#tail.then(() => this.#flushPending());
    this.#tail = run
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#writing -= 1;
      });
    return run;
  }

  /** Everything offered so far is in Postgres. */
  async settle(): Promise<void> {
    await this.flush();
    await this.#options.database.persist(() => this.#drain(), this.#options.signal);
  }

  /** Before anything is offered: stores the output that an earlier process left in the spool, whose files stay for replay(). */
  async recover(): Promise<void> {
    const { database, spool, signal } = this.#options;
    this.#recovered = await database.persist(() => this.#storeSpooled(), signal);
    // An earlier capture in this process may have left them: what is spooled from now on is not stored yet.
    if (this.recovered) spool.rotate();
  }

  /** An earlier process left something, which replay() reads. */
  get recovered(): boolean {
    return this.#recovered.length > 0;
  }

  /**
   * What else an earlier process left (summary, artifacts), for if the pod is gone nobody will read that again. After the
   * log has ended: an artifact store that is away must not stop the output.
   */
  async replay(pass: LogPass): Promise<LogPass> {
    for (const path of this.#recovered) {
      await pass.read(
        this.#options.spool.read(path),
        () => undefined,
        () => undefined,
      );
    }
    await pass.finish();
    return pass;
  }

  /** Nobody offers any more: what is still spooled is for whoever takes the capture up again. */
  close(): Promise<void> {
    this.#closed = true;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    return this.#tail;
  }

  /** After the capture is finished: nothing of it is needed any more. */
  async discardSpool(): Promise<void> {
    if (this.#unspooled) return;
    for (const path of await this.#options.spool.files(this.#options.key)) await this.#options.spool.remove(path);
  }

  async #flushPending(): Promise<void> {
    const [frames, charge] = [this.#pending, this.#pendingCharge];
    this.#pending = new PendingFrames();
    this.#pendingCharge = 0;
    try {
      if (this.#failure !== undefined) throw this.#failure;
      if (frames.size > 0 || (this.#spooled && !this.#closed)) await this.#write(frames);
    } finally {
      frames.release();
      this.#options.budget.change(-charge);
    }
  }

  async #write(frames: PendingFrames): Promise<void> {
    const { database } = this.#options;
    try {
      if (!this.#spooled) return await this.#store(frames);
      if (database.available) {
        await this.#drain();
        return await this.#store(frames);
      }
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      database.reportDown();
    }
    if (frames.size > 0) await this.#park(frames);
    if (this.#spooled) this.#awaitReturn();
  }

  /** What is spooled is stored once Postgres is back, also when the log has no more to say. */
  #awaitReturn(): void {
    if (this.#awaitingReturn || this.#closed) return;
    this.#awaitingReturn = true;
    const { database, signal } = this.#options;
    void database
      .whenAvailable(signal)
      .then(() => {
        this.#awaitingReturn = false;
        // A failure is kept and thrown by the reader's next own flush.
        if (this.#spooled && !this.#closed && !signal.aborted) void this.flush().catch(() => {});
      });
  }

  /** Postgres is away: to the spool, or wait here, which stops the reader. */
  async #park(frames: PendingFrames): Promise<void> {
    const { spool, key, database, signal, metrics } = this.#options;
    // Also of an append that fails some is on disk.
    this.#unspooled = false;
    this.#direct = false;
    try {
      await spool.append(key, frames);
      this.#spooled = true;
      metrics.spooled.inc(frames.textBytes);
      return;
    } catch {
      metrics.stalls.inc();
    }
    await database.persist(async () => {
      await this.#drain();
      await this.#store(frames);
    }, signal);
  }

  async #store(frames: Iterable<Frame>): Promise<void> {
    const { captures, key, metrics } = this.#options;
    for (;;) {
      const { streams, missing, lastSeq } = this.#position;
      const batch = buildBatch(frames, lastSeq, {
        bytesLeft: MAX_STORED_BYTES - streams.stdout.bytes - streams.stderr.bytes,
        rangesLeft: MAX_MISSING_RANGES - missing.length,
      });
      if (batch.lastSeq === batch.afterSeq) return;
      const { outcome, position } = await captures.append({ ...key, recorder: this.#options.recorder(), ...batch });
      if (outcome === 'captured') throw new CaptureFinished('the capture is finished');
      // Stale: these numbers, or the first of them, are stored already: by an append whose answer was lost, or by
      // another recorder from the same log, which may have a spool too. Go on behind them.
      if (outcome === 'stale') this.#unspooled = this.#direct = false;
      if (outcome === 'stale' && position.lastSeq <= batch.afterSeq) throw new Error('a stale append did not advance');
      this.position = position;
      if (outcome !== 'appended') continue;
      for (const chunk of batch.chunks) metrics.bytes.inc({ stream: chunk.stream }, chunk.data.length);
      return;
    }
  }

  async #drain(): Promise<void> {
    const { spool } = this.#options;
    for (const path of await this.#storeSpooled()) await spool.remove(path);
    this.#spooled = false;
  }

  /** The files, which may go only now that all of them are stored: a repetition must find everything again. */
  async #storeSpooled(): Promise<string[]> {
    const { spool, drains } = this.#options;
    if ((await this.#spoolFiles()).length === 0) return [];
    const release = await drains.acquire(0, NEVER);
    try {
      const files = await Promise.all(
        (await this.#spoolFiles()).map(async (path) => ({ path, first: await firstSeq(spool.read(path)) })),
      );
      // By their first number: a file that begins later must not make an earlier one look like a hole.
      files.sort((a, b) => a.first - b.first);
      for (const { path } of files) {
        const batch = new DrainBatch((frames) => this.#store(frames));
        await readFrames(spool.read(path), batch);
        await batch.flush();
      }
      return files.map(({ path }) => path);
    } finally {
      release?.();
    }
  }

  async #spoolFiles(): Promise<string[]> {
    if (this.#unspooled) return [];
    const files = await this.#options.spool.files(this.#options.key);
    return files.filter((path) => !this.#recovered.includes(path));
  }
}

class DrainBatch {
  readonly #store: (frames: Iterable<Frame>) => Promise<void>;
  readonly #frames = new PendingFrames();
  #charge = 0;

  constructor(store: (frames: Iterable<Frame>) => Promise<void>) {
    this.#store = store;
  }

  add(frame: Frame): void {
    this.#frames.add(frame);
    this.#charge += frameCharge(frame);
  }

  async relieve(): Promise<void> {
    if (this.#charge >= FLUSH_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    try {
      await this.#store(this.#frames);
    } finally {
      this.#frames.release();
      this.#charge = 0;
    }
  }
}

async function readFrames(source: AsyncIterable<Uint8Array>, batch: DrainBatch): Promise<void> {
  const decoder = new FrameDecoder();
  for await (const chunk of source) {
    for (const frame of decoder.push(chunk)) batch.add(frame);
    await batch.relieve();
  }
}

async function firstSeq(source: AsyncIterable<Uint8Array>): Promise<number> {
  const decoder = new FrameDecoder();
  for await (const chunk of source) for (const frame of decoder.push(chunk)) return frame.seq;
  return Number.MAX_SAFE_INTEGER;
}
