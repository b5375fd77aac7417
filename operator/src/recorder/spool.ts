import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { encodeFrame, type Frame } from './frames.ts';

export interface SpoolKey {
  readonly evaluationUid: string;
  readonly attempt: number;
  readonly podUid: string;
}

/** The directory may be shared: what others append to it or remove is known for this long at most, or until it seems full. */
const COUNTED_MS = 60_000;

/** The spool is at its size limit: the reader has to wait instead. */
export class SpoolFull extends Error {}

/**
 * Where frames wait while Postgres is away. A file holds frames exactly as the launcher wrote them, so it is read back
 * like any log: numbers that are stored already are skipped, and a line torn by a crash is no frame.
 *
 * Why a spool and not only back-pressure: a paused follow loses nothing as long as the kubelet keeps the log, and that
 * is true of every pod that merely ends (its finalizer waits for the capture). But a pod deleted by force, evicted with
 * its node or swept with its namespace while Postgres is away takes its log along. Back-pressure remains the answer
 * when the spool itself is full or its disk fails.
 */
export class Spool {
  readonly #directory: string;
  #file = newFileName();
  readonly #maxBytes: number;
  /** In the directory when it was counted, and appended or removed by this process since. */
  #stored = 0;
  #appending = 0;
  #countedAt = 0;
  #counting: Promise<void> | undefined;

  constructor(directory: string, maxBytes: number) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#stored + this.#appending;
  }

  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await this.#count();
  }

  /**
   * Frames on disk when this returns. A crash or an error in the middle leaves a torn last line, which no reader takes for
   * a frame. Nothing is ever written behind one, which would make it a frame with wrong text: every process, and every
   * append after a failed one, begins a new file. So replicas may share the directory too.
   */
  async append(key: SpoolKey, frames: Iterable<Frame>): Promise<void> {
    const data = Buffer.concat(Array.from(frames, encodeFrame));
    const full = (): boolean => this.bytes + data.length > this.#maxBytes;
    if (full() || performance.now() - this.#countedAt > COUNTED_MS) await this.#countOnce();
    if (full()) throw new SpoolFull('the spool is full');
    const path = join(this.#directory, `${prefixOf(key)}${this.#file}.frames`);
    // At once: others append meanwhile.
    this.#appending += data.length;
    let before = 0;
    try {
      const file = await open(path, 'a', 0o600);
      try {
        before = (await file.stat()).size;
        await file.appendFile(data);
        await file.datasync();
      } finally {
        await file.close();
      }
      await syncDirectory(this.#directory);
      this.#stored += data.length;
    } catch (error) {
      this.rotate();
      const { size } = await stat(path).catch(() => ({ size: before }));
      this.#stored += size - before;
      throw error;
    } finally {
      this.#appending -= data.length;
    }
  }

  /** Nothing is appended to the present files any more. */
  rotate(): void {
    this.#file = newFileName();
  }

  /** The files of a capture, of all recorders. */
  async files(key: SpoolKey): Promise<string[]> {
    const prefix = prefixOf(key);
    const names = await readdir(this.#directory);
    return names
      .filter((name) => name.startsWith(prefix) && name.endsWith('.frames'))
      .sort()
      .map((name) => join(this.#directory, name));
  }

  read(path: string): AsyncIterable<Uint8Array> {
    return createReadStream(path);
  }

  /** After everything in it is stored. */
  async remove(path: string): Promise<void> {
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    await rm(path, { force: true });
    this.#stored = Math.max(0, this.#stored - size);
  }

  #countOnce(): Promise<void> {
    this.#counting ??= this.#count().finally(() => {
      this.#counting = undefined;
    });
    return this.#counting;
  }

  /** What is appended meanwhile may be counted twice, until it is counted again: too much, never too little. */
  async #count(): Promise<void> {
    const names = (await readdir(this.#directory)).filter((name) => name.endsWith('.frames'));
    let bytes = 0;
    for (const name of names) bytes += (await stat(join(this.#directory, name)).catch(() => ({ size: 0 }))).size;
    this.#stored = bytes;
    this.#countedAt = performance.now();
  }
}

function prefixOf(key: SpoolKey): string {
  // Names are hashes: a pod's word never becomes part of a path.
  return `${createHash('sha256').update(`${key.evaluationUid}/${key.attempt}/${key.podUid}`).digest('hex')}.`;
}

function newFileName(): string {
  return randomBytes(6).toString('hex');
}

async function syncDirectory(path: string): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    await handle.sync();
  } finally {
    await handle?.close();
  }
}
