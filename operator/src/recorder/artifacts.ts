import { createHash, type Hash } from 'node:crypto';
import * as z from 'zod';
import { safeText } from './text.ts';

export interface ArtifactLimits {
  readonly maxFiles: number;
  readonly maxFileBytes: number;
  /** Over all files of an attempt. */
  readonly maxTotalBytes: number;
  readonly maxPathBytes: number;
}

/** Above what an evaluation may ask for (4 MiB by default), below what one log file can carry as base64. */
export const ARTIFACT_LIMITS: ArtifactLimits = {
  maxFiles: 1000,
  maxFileBytes: 8 * 1024 * 1024,
  maxTotalBytes: 8 * 1024 * 1024,
  maxPathBytes: 4096,
};

/** A verified file, or one that was refused and why. `seq` is its first frame, unique in the attempt. */
export type ArtifactResult =
  | {
      readonly kind: 'complete';
      readonly seq: number;
      readonly path: string;
      readonly sha256: string;
      readonly mode: number;
      readonly data: Buffer;
    }
  | { readonly kind: 'refused'; readonly seq: number; readonly path: string; readonly reason: string };

export interface ArtifactTotals {
  count: number;
  bytes: number;
  refused: number;
  /** Refused here; the others were refused by the launcher, which is its right. */
  broken: number;
  /** The launcher's closing frame came, and everything that it sent is verified. */
  complete: boolean;
}

const chunkFrame = z.object({ path: z.string(), index: z.int().min(0), chunk: z.string() });
const doneFrame = z.object({
  path: z.string(),
  index: z.int().min(0),
  size: z.int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  mode: z.union([z.int(), z.string()]).optional(),
  done: z.literal(true),
});
const refusedFrame = z.object({ path: z.string(), refused: z.string() });
const endFrame = z.object({ end: z.literal(true), count: z.int().min(0), complete: z.boolean().optional() });

interface OpenFile {
  readonly seq: number;
  readonly index: number;
  readonly path: string;
  readonly chunks: Buffer[];
  readonly hash: Hash;
  size: number;
  /** Set once the file is beyond saving; its remaining frames are then only skipped. */
  broken: string | undefined;
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/**
 * Puts files together from artifact frames. Every reading pass starts at the beginning of the log with a fresh
 * assembler, so there is no state to resume, and storing a file twice is harmless (its name is its hash). Paths are
 * data: nothing here or behind it ever opens one.
 */
export class ArtifactAssembler {
  readonly #limits: ArtifactLimits;
  #open: OpenFile | undefined;
  #files = 0;
  #ended: z.infer<typeof endFrame> | undefined;
  readonly #totals = { count: 0, bytes: 0, refused: 0, broken: 0 };

  constructor(limits: ArtifactLimits = ARTIFACT_LIMITS) {
    this.#limits = limits;
  }

  get totals(): ArtifactTotals {
    const { count, broken } = this.#totals;
    const complete = this.#ended !== undefined && this.#ended.count === count && broken === 0;
    return { ...this.#totals, complete };
  }

  get anything(): boolean {
    return this.#files > 0 || this.#ended !== undefined;
  }

  /** Bytes held in memory now. */
  get heldBytes(): number {
    return this.#open?.broken === undefined ? (this.#open?.size ?? 0) : 0;
  }

  feed(seq: number, text: Buffer): ArtifactResult[] {
    const json = parseJson(text);
    const chunk = chunkFrame.safeParse(json);
    if (chunk.success) return this.#chunk(seq, chunk.data);
    const done = doneFrame.safeParse(json);
    if (done.success) return this.#done(seq, done.data);
    const refused = refusedFrame.safeParse(json);
    if (refused.success) return this.#refusedByLauncher(seq, refused.data);
    const end = endFrame.safeParse(json);
    if (end.success) {
      this.#ended ??= end.data;
      return this.#abandon();
    }
    if (this.#open !== undefined) this.#break(this.#open, 'malformed artifact frame');
    return [];
  }

  /** The log is over: what is still open is refused. */
  finish(): ArtifactResult[] {
    return this.#abandon();
  }

  /** A frame between two artifact frames was lost, so the open file cannot be whole. */
  gap(): void {
    if (this.#open !== undefined) this.#break(this.#open, 'some of its frames were lost');
  }

  #chunk(seq: number, frame: z.infer<typeof chunkFrame>): ArtifactResult[] {
    const results = this.#open !== undefined && this.#open.index !== frame.index ? this.#abandon() : [];
    this.#open ??= this.#begin(seq, frame.index, frame.path);
    const file = this.#open;
    if (file.broken !== undefined) return results;
    if (file.path !== frame.path) this.#break(file, 'its path changed in the middle');
    else if (!BASE64.test(frame.chunk)) this.#break(file, 'a chunk is not base64');
    else this.#append(file, Buffer.from(frame.chunk, 'base64'));
    return results;
  }

  #append(file: OpenFile, data: Buffer): void {
    file.size += data.length;
    if (file.size > this.#limits.maxFileBytes)
      return this.#break(file, `larger than ${this.#limits.maxFileBytes} bytes`);
    if (this.#totals.bytes + file.size > this.#limits.maxTotalBytes) {
      return this.#break(file, `all files together are larger than ${this.#limits.maxTotalBytes} bytes`);
    }
    file.hash.update(data);
    file.chunks.push(data);
  }

  #done(seq: number, frame: z.infer<typeof doneFrame>): ArtifactResult[] {
    const results = this.#open !== undefined && this.#open.index !== frame.index ? this.#abandon() : [];
    const file = this.#open ?? this.#begin(seq, frame.index, frame.path); // an empty file has no chunks
    this.#open = undefined;
    const sha256 = file.hash.digest('hex');
    if (file.broken === undefined && file.path !== frame.path) file.broken = 'its path changed in the middle';
    if (file.broken === undefined && file.size !== frame.size)
      file.broken = `has ${file.size} bytes, announced ${frame.size}`;
    if (file.broken === undefined && sha256 !== frame.sha256) file.broken = 'its sha256 differs from the announced one';
    if (file.broken !== undefined) return [...results, ...this.#fail(file, file.broken)];
    this.#totals.count += 1;
    this.#totals.bytes += file.size;
    const data = Buffer.concat(file.chunks);
    return [
      ...results,
      { kind: 'complete', seq: file.seq, path: file.path, sha256, mode: parseMode(frame.mode), data },
    ];
  }

  #begin(seq: number, index: number, path: string): OpenFile {
    this.#files += 1;
    const file: OpenFile = { seq, index, path, chunks: [], hash: createHash('sha256'), size: 0, broken: undefined };
    if (this.#files > this.#limits.maxFiles) this.#break(file, `more than ${this.#limits.maxFiles} files`);
    else if (path === '' || safeText(path, this.#limits.maxPathBytes) !== path)
      this.#break(file, 'its path is not storable');
    return file;
  }

  #break(file: OpenFile, reason: string): void {
    file.broken ??= reason;
    file.chunks.length = 0;
  }

  #abandon(): ArtifactResult[] {
    const file = this.#open;
    this.#open = undefined;
    return file === undefined ? [] : this.#fail(file, file.broken ?? 'its last frame never came');
  }

  /** Also the end of a file that was begun: it grew, shrank or went away while the launcher read it. */
  #refusedByLauncher(seq: number, frame: z.infer<typeof refusedFrame>): ArtifactResult[] {
    if (this.#open?.path === frame.path && this.#open.broken === undefined) this.#open = undefined;
    return [...this.#abandon(), ...this.#refuse(seq, frame.path, frame.refused)];
  }

  #fail(file: OpenFile, reason: string): ArtifactResult[] {
    this.#totals.broken += 1;
    return this.#refuse(file.seq, file.path, reason);
  }

  #refuse(seq: number, path: string, reason: string): ArtifactResult[] {
    this.#totals.refused += 1;
    // A million refusals are one number, not a million rows.
    if (this.#totals.refused > this.#limits.maxFiles) return [];
    return [{ kind: 'refused', seq, path: safeText(path, this.#limits.maxPathBytes), reason: safeText(reason, 256) }];
  }
}

function parseMode(mode: number | string | undefined): number {
  const value = typeof mode === 'string' ? Number.parseInt(mode, 8) : (mode ?? 0o644);
  return Number.isInteger(value) ? value & 0o777 : 0o644;
}

export function parseJson(text: Buffer): unknown {
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    return undefined;
  }
}
