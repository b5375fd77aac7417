import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import type { Stats } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { IntegrityError, LimitError, NotFoundError, StorageError, UnavailableError } from './errors.ts';
import type { FileInfo, FileStore, StoredFile } from './files.ts';

const SHA256 = /^[0-9a-f]{64}$/;
const SHARD = /^[0-9a-f]{2}$/;
const TEMPORARY = 'tmp';
const READ_BYTES = 256 * 1024;
const DEFAULT_MAX_FILE_BYTES = 64 * 1024 * 1024;
/** The group reads: recorder and api may share the volume under different users. */
const DIRECTORY_MODE = 0o750;
const FILE_MODE = 0o640;
const MEDIUM_CODES = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'ESTALE', 'ENOTCONN', 'ETIMEDOUT', 'EMFILE', 'ENFILE', 'EACCES', 'EPERM']);

export interface DirectoryFileStoreOptions {
  /** An existing directory of the store's own. */
  directory: string;
  /** Of one object. */
  maxFileBytes?: number;
}

/** Objects are `<first two digits>/<other 62>`; what is being written is `tmp/<uuid>`, on the same file system. */
export class DirectoryFileStore implements FileStore {
  readonly #root: string;
  readonly #maxFileBytes: number;
  /** Names in the root that are on disk. */
  readonly #durable = new Set<string>();

  constructor(options: DirectoryFileStoreOptions) {
    this.#root = options.directory;
    this.#maxFileBytes = options.maxFileBytes ?? DEFAULT_MAX_FILE_BYTES;
  }

  async put(content: Uint8Array | AsyncIterable<Uint8Array>, options: { sha256?: string } = {}): Promise<StoredFile> {
    return await translated(async () => {
      await this.#makeDirectory(TEMPORARY);
      const temporary = join(this.#root, TEMPORARY, randomUUID());
      try {
        const stored = await this.#write(temporary, content);
        if (options.sha256 !== undefined && options.sha256 !== stored.sha256) {
          throw new IntegrityError(`the content is ${stored.sha256}, expected was ${options.sha256}`);
        }
        await this.#publish(temporary, stored.sha256);
        return stored;
      } finally {
        await rm(temporary, { force: true });
      }
    });
  }

  async read(sha256: string): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of this.stream(sha256)) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async *stream(sha256: string): AsyncIterable<Buffer> {
    const handle = await translated(() => open(this.#path(sha256), constants.O_RDONLY | constants.O_NOFOLLOW), sha256);
    try {
      const hash = createHash('sha256');
      for (;;) {
        const { bytesRead, buffer } = await translated(() => handle.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES));
        if (bytesRead === 0) break;
        const piece = buffer.subarray(0, bytesRead);
        hash.update(piece);
        yield piece;
      }
      if (hash.digest('hex') !== sha256) throw new IntegrityError(`the stored content of ${sha256} is damaged`);
    } finally {
      await handle.close();
    }
  }

  async stat(sha256: string): Promise<FileInfo | undefined> {
    const found = await translated(() => statOrNothing(this.#path(sha256)));
    return found === undefined ? undefined : { sha256, size: found.size, modifiedAt: found.mtime };
  }

  async has(sha256: string): Promise<boolean> {
    return (await this.stat(sha256)) !== undefined;
  }

  async delete(sha256: string): Promise<boolean> {
    const existed = await this.has(sha256);
    await translated(() => rm(this.#path(sha256), { force: true }));
    return existed;
  }

  async *list(): AsyncIterable<FileInfo> {
    for (const shard of await translated(() => readdir(this.#root))) {
      if (!SHARD.test(shard)) continue;
      for (const rest of await translated(() => readdir(join(this.#root, shard)))) {
        const info = SHA256.test(shard + rest) ? await this.stat(shard + rest) : undefined;
        if (info !== undefined) yield info;
      }
    }
  }

  /** Removes what writers left that were killed: temporary files not touched for so long. Returns how many. */
  async sweepTemporary(olderThanSeconds: number, now: Date = new Date()): Promise<number> {
    return await translated(async () => {
      await this.#makeDirectory(TEMPORARY);
      let swept = 0;
      for (const name of await readdir(join(this.#root, TEMPORARY))) {
        const path = join(this.#root, TEMPORARY, name);
        const found = await statOrNothing(path);
        if (found === undefined || now.getTime() - found.mtimeMs < olderThanSeconds * 1000) continue;
        await rm(path, { force: true, recursive: true });
        swept += 1;
      }
      return swept;
    });
  }

  #path(sha256: string): string {
    if (!SHA256.test(sha256)) throw new RangeError('not a sha256 in lower-case hex');
    return join(this.#root, sha256.slice(0, 2), sha256.slice(2));
  }

  async #write(path: string, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<StoredFile> {
    const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, FILE_MODE);
    try {
      const hash = createHash('sha256');
      let size = 0;
      for await (const piece of content instanceof Uint8Array ? [content] : content) {
        size += piece.length;
        if (size > this.#maxFileBytes) throw new LimitError(`the content is larger than ${this.#maxFileBytes} bytes`);
        hash.update(piece);
        await writeAll(handle, piece);
      }
      await handle.sync();
      return { sha256: hash.digest('hex'), size };
    } finally {
      await handle.close();
    }
  }

  /** Also over an existing object: the same bytes, and if that one was damaged, this one heals it. */
  async #publish(temporary: string, sha256: string): Promise<void> {
    const shard = sha256.slice(0, 2);
    await this.#makeDirectory(shard);
    await rename(temporary, this.#path(sha256));
    await syncDirectory(join(this.#root, shard));
  }

  /** Durable, also when it was there: who made it may have been killed before it was on disk. Each is synced once. */
  async #makeDirectory(name: string): Promise<void> {
    try {
      await mkdir(join(this.#root, name), { mode: DIRECTORY_MODE });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (this.#durable.has(name)) return;
    }
    await syncDirectory(this.#root);
    this.#durable.add(name);
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length; ) {
    offset += (await handle.write(bytes, offset, bytes.length - offset)).bytesWritten;
  }
}

/** A rename survives a crash only once its directory is on disk. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function statOrNothing(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function translated<T>(work: () => Promise<T>, sha256?: string): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StorageError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code === 'ENOENT' && sha256 !== undefined) throw new NotFoundError(`the file store has no ${sha256}`);
    if (MEDIUM_CODES.has(code) || code === 'ENOENT') {
      throw new UnavailableError(`the file store is not available: ${code}`, { cause: error });
    }
    throw error;
  }
}
