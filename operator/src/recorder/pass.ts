import { LimitError, QUOTA_REASON, type ArtifactInput, type FileStore } from '@crucible/storage';
import { announcedArtifacts, parseAdvisory, type AdvisoryObject } from './advisory.ts';
import { ArtifactAssembler, ARTIFACT_LIMITS, type ArtifactLimits, type ArtifactResult } from './artifacts.ts';
import type { MemoryBudget } from './budget.ts';
import { FrameDecoder, type Frame } from './frames.ts';
import type { RecorderMetrics } from './metrics.ts';
import { Sequencer } from './sequencer.ts';

/**
 * More than this of one log is not read: the launcher emits 8 MiB, and the runtime's own log file ends at 10 MiB. Only a
 * sandbox that writes past its launcher gets here, and must not occupy a reader for ever.
 */
export const MAX_READ_BYTES = 64 * 1024 * 1024;

const KUBELET_ERROR =
  /^(unable to retrieve container logs for|failed to (try resolving symlinks in path|open log file|create fsnotify watcher)|rpc error:)/;

export type PassEnd = 'end' | 'flood';

export interface PassOptions {
  readonly files: Pick<FileStore, 'put'>;
  readonly metrics: RecorderMetrics;
  readonly limits?: ArtifactLimits;
  readonly maxReadBytes?: number;
  /** How much the namespace may still store; asked once, at the first file. Without it: anything. */
  readonly allowance?: () => Promise<number>;
  /**
   * What all passes together may hold of unfinished files: followers put files together only as far as memory allows, the
   * final read does it again anyway. Without one, the caller bounds how many passes run.
   */
  readonly budget?: MemoryBudget;
}

/** One reading of a log from its start. What it learns besides output: summary, receipt, artifacts, and its own holes. */
export class LogPass {
  readonly decoder = new FrameDecoder();
  readonly sequence = new Sequencer();
  readonly artifacts: ArtifactInput[] = [];
  receipt: AdvisoryObject | undefined;
  summary: AdvisoryObject | undefined;
  /** Number of the newest summary frame: it ends a whole log. */
  summarySeq = 0;
  readonly #options: PassOptions;
  readonly #assembler: ArtifactAssembler;
  #budgeted = 0;
  #artifactsLost = false;
  #overBudget = false;
  #allowance: Promise<number> | undefined;
  #results: ArtifactResult[] = [];

  constructor(options: PassOptions) {
    this.#options = options;
    this.#assembler = new ArtifactAssembler(options.limits ?? ARTIFACT_LIMITS);
  }

  /** Whether all artifacts that the launcher sent are stored. With none announced that is known only of a complete log. */
  artifactsComplete(logComplete: boolean): boolean {
    if (this.#artifactsLost) return false;
    if (this.#assembler.anything) return this.#assembler.totals.complete;
    // What this pass did not see (it read a spool that begins in the middle) may have been artifacts: ask the summary.
    return logComplete && (this.sequence.gaps.size === 0 || announcedArtifacts(this.summary) === 0);
  }

  /** As a whole log ends: the launcher writes nothing after its summary. */
  get endsWithSummary(): boolean {
    return this.summarySeq > 0 && this.summarySeq === this.sequence.lastSeq;
  }

  /** The log held no frame but an error message of the kubelet, which answers 200 before it finds the file gone. */
  get kubeletLostLog(): boolean {
    return this.decoder.stats.frames === 0 && KUBELET_ERROR.test(this.decoder.firstForeign ?? '');
  }

  /** Reads to the end. `take` sees every frame whose number is new in this pass; after each piece `relieve` may wait. */
  async read(
    source: AsyncIterable<Uint8Array>,
    take: (frame: Frame) => void,
    relieve: () => Promise<void> | undefined,
  ): Promise<PassEnd> {
    const limit = this.#options.maxReadBytes ?? MAX_READ_BYTES;
    try {
      for await (const piece of source) {
        for (const frame of this.decoder.push(piece)) if (this.#observe(frame)) take(frame);
        await relieve();
        if (this.#results.length > 0) await this.#storeArtifacts();
        if (this.decoder.stats.bytes > limit) return 'flood';
      }
      this.decoder.end();
      return 'end';
    } finally {
      this.#options.budget?.change(-this.#budgeted);
      this.#budgeted = 0;
    }
  }

  /** After the last byte: what is still open will not come. */
  async finish(): Promise<void> {
    this.#results.push(...this.#assembler.finish());
    await this.#storeArtifacts();
  }

  #observe(frame: Frame): boolean {
    const before = this.sequence.lastSeq;
    const arrival = this.sequence.accept(frame.seq);
    if (arrival === 'duplicate') return false;
    if (arrival === 'new' && frame.seq > before + 1) this.#assembler.gap();
    if (frame.kind === 'summary') {
      this.summary = parseAdvisory(frame.text);
      this.summarySeq = frame.seq;
    } else if (frame.kind === 'receipt') {
      // The launcher sends it before the code starts. A later one is from whoever has taken the launcher over.
      if (frame.seq === 1) this.receipt = parseAdvisory(frame.text);
    } else if (frame.kind === 'artifact' && !this.#overBudget) {
      this.#results.push(...this.#assembler.feed(frame.seq, frame.text));
      this.#account();
    }
    return true;
  }

  #account(): void {
    const { budget } = this.#options;
    const held = this.#assembler.heldBytes;
    if (budget === undefined || held === this.#budgeted) return;
    const within = budget.change(held - this.#budgeted);
    this.#budgeted = held;
    if (within) return;
    this.#artifactsLost = true;
    this.#overBudget = true;
    this.#assembler.gap();
    budget.change(-held);
    this.#budgeted = 0;
  }

  async #allowed(bytes: number): Promise<boolean> {
    this.#allowance ??= this.#options.allowance?.() ?? Promise.resolve(Infinity);
    const left = await this.#allowance;
    if (bytes > left) return false;
    this.#allowance = Promise.resolve(left - bytes);
    return true;
  }

  async #storeArtifacts(): Promise<void> {
    const results = this.#results;
    this.#results = [];
    for (const result of results) this.artifacts.push(await this.#storeArtifact(result, this.artifacts.length));
  }

  async #storeArtifact(result: ArtifactResult, index: number): Promise<ArtifactInput> {
    const refused = (reason: string, size = 0): ArtifactInput => {
      this.#options.metrics.artifacts.inc({ result: 'refused' });
      return { index, path: result.path, size, sha256: null, complete: false, refused: reason };
    };
    if (result.kind === 'refused') return refused(result.reason);
    const { path, sha256, mode, data } = result;
    if (!(await this.#allowed(data.length))) {
      this.#artifactsLost = true;
      return refused(QUOTA_REASON, data.length);
    }
    try {
      await this.#options.files.put(data, { sha256 });
    } catch (error) {
      // A store that is away is waited for by whoever runs the pass; one that is full says so in the record.
      if (!(error instanceof LimitError)) throw error;
      this.#artifactsLost = true;
      return refused('the file store does not take it', data.length);
    }
    this.#options.metrics.artifacts.inc({ result: 'stored' });
    return { index, path, size: data.length, sha256, complete: true, mode };
  }
}
