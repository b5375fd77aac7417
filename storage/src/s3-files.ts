import { createHash } from 'node:crypto';
import {
  DeleteObjectCommand, GetObjectCommand, HeadObjectCommand, PutObjectCommand, S3Client, paginateListObjectsV2,
} from '@aws-sdk/client-s3';
import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import { IntegrityError, LimitError, NotFoundError, StorageError, UnavailableError } from './errors.ts';
import type { FileCall, FileInfo, FileStore, StoredFile } from './files.ts';

const SHA256 = /^[0-9a-f]{64}$/;
const KEY = /^([0-9a-f]{2})\/([0-9a-f]{62})$/;
/** An object is held in memory and sent in one request, so that its checksum goes along and a retry can repeat it. */
const DEFAULT_MAX_FILE_BYTES = 8 * 1024 * 1024;
const LIST_PAGE = 1000;
/**
 * A conditional put leaves the time of an object that is already there as it was, and a sweep goes by that time. An older
 * one is therefore written again.
 */
const REFRESH_SECONDS = 3600;
const CONNECT_MS = 5_000;
const REQUEST_MS = 30_000;
const ATTEMPTS = 3;

export interface S3FileStoreOptions {
  bucket: string;
  /** Without a slash at either end; empty: the whole bucket. Nothing else may live below it. */
  prefix?: string;
  region: string;
  /** Of a server other than AWS, with http:// or https://. */
  endpoint?: string;
  /** From configuration and nowhere else: the SDK's own search (environment, files, metadata service) is not used. */
  credentials: { accessKeyId: string; secretAccessKey: string };
  /** Of one object. */
  maxFileBytes?: number;
  /** For one request, retries not counted. */
  requestTimeoutMs?: number;
}

/** Objects are `<prefix>/<first two digits>/<other 62>`, path-style. A put is atomic in S3: whole, or not there. */
export class S3FileStore implements FileStore {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #maxFileBytes: number;
  /** Cleared by a server that does not know If-None-Match. */
  #conditional = true;

  constructor(options: S3FileStoreOptions) {
    this.#bucket = options.bucket;
    this.#prefix = options.prefix === undefined || options.prefix === '' ? '' : `${options.prefix}/`;
    this.#maxFileBytes = options.maxFileBytes ?? DEFAULT_MAX_FILE_BYTES;
    this.#client = new S3Client({
      region: options.region,
      ...(options.endpoint !== undefined && { endpoint: options.endpoint }),
      forcePathStyle: true,
      credentials: options.credentials,
      maxAttempts: ATTEMPTS,
      // We send SHA-256 ourselves and hash what we read; the SDK's CRC trailers trouble older servers.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: {
        connectionTimeout: CONNECT_MS,
        requestTimeout: options.requestTimeoutMs ?? REQUEST_MS,
        throwOnRequestTimeout: true,
        socketTimeout: options.requestTimeoutMs ?? REQUEST_MS,
      },
      // The SDK warns on the console otherwise; what goes wrong is thrown, without headers.
      logger: { trace: ignore, debug: ignore, info: ignore, warn: ignore, error: ignore },
    });
  }

  async put(content: Uint8Array | AsyncIterable<Uint8Array>, options: { sha256?: string } = {}): Promise<StoredFile> {
    const body = await this.#collect(content);
    const digest = createHash('sha256').update(body).digest();
    const stored = { sha256: digest.toString('hex'), size: body.length };
    if (options.sha256 !== undefined && options.sha256 !== stored.sha256) {
      throw new IntegrityError(`the content is ${stored.sha256}, expected was ${options.sha256}`);
    }
    const checksum = digest.toString('base64');
    if (this.#conditional && (await this.#create(stored, body, checksum))) return stored;
    await translated(() => this.#client.send(new PutObjectCommand(this.#object(stored.sha256, body, checksum))));
    return stored;
  }

  async read(sha256: string): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of this.stream(sha256)) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async *stream(sha256: string): AsyncIterable<Buffer> {
    const at = this.#at(sha256);
    const abort = new AbortController();
    const { Body } = await translated(
      () => this.#client.send(new GetObjectCommand(at), { abortSignal: abort.signal }),
      sha256,
    );
    const hash = createHash('sha256');
    const pieces = (Body as AsyncIterable<Uint8Array> | undefined)?.[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await translated(async () => await pieces?.next());
        if (next === undefined || next.done === true) break;
        hash.update(next.value);
        yield Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
      }
    } finally {
      // A reader that stops early must not leave a connection behind that nobody drains.
      abort.abort();
    }
    if (hash.digest('hex') !== sha256) throw new IntegrityError(`the stored content of ${sha256} is damaged`);
  }

  async stat(sha256: string, call: FileCall = {}): Promise<FileInfo | undefined> {
    const head = await this.#head(sha256, call);
    return head === undefined ? undefined : infoOf(sha256, head);
  }

  async has(sha256: string, call: FileCall = {}): Promise<boolean> {
    return (await this.stat(sha256, call)) !== undefined;
  }

  async delete(sha256: string, call: FileCall = {}): Promise<boolean> {
    const at = this.#at(sha256);
    const existed = await this.has(sha256, call);
    await translated(() => this.#client.send(new DeleteObjectCommand(at), sendOptions(call)));
    return existed;
  }

  async *list(): AsyncIterable<FileInfo> {
    const input = { Bucket: this.#bucket, Prefix: this.#prefix };
    const pages = paginateListObjectsV2({ client: this.#client, pageSize: LIST_PAGE }, input)[Symbol.asyncIterator]();
    for (;;) {
      const page = await translated(() => pages.next());
      if (page.done === true) return;
      for (const { Key, Size, LastModified } of page.value.Contents ?? []) {
        const [, shard, rest] = KEY.exec((Key ?? '').slice(this.#prefix.length)) ?? [];
        // What is not named like ours is not ours.
        if (shard === undefined || rest === undefined) continue;
        yield { sha256: shard + rest, size: Size ?? 0, modifiedAt: LastModified ?? new Date() };
      }
    }
  }

  close(): void {
    this.#client.destroy();
  }

  async #collect(content: Uint8Array | AsyncIterable<Uint8Array>): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let size = 0;
    for await (const piece of content instanceof Uint8Array ? [content] : content) {
      size += piece.length;
      if (size > this.#maxFileBytes) throw new LimitError(`the content is larger than ${this.#maxFileBytes} bytes`);
      pieces.push(piece);
    }
    return content instanceof Uint8Array ? content : Buffer.concat(pieces);
  }

  /** False when it has to be written without a condition: the server has none, or what is there is old or damaged. */
  async #create(stored: StoredFile, body: Uint8Array, checksum: string): Promise<boolean> {
    try {
      const input = { ...this.#object(stored.sha256, body, checksum), IfNoneMatch: '*' };
      await translated(() => this.#client.send(new PutObjectCommand(input)));
      return true;
    } catch (error) {
      const status = statusOf((error as Error).cause ?? error);
      if (status === 501) this.#conditional = false;
      // 409: another writer of the same content is at it. 404: it was deleted meanwhile.
      if (![404, 409, 412, 501].includes(status ?? 0)) throw error;
      if (status !== 412) return false;
    }
    const head = await this.#head(stored.sha256);
    if (head === undefined || head.ContentLength !== stored.size) return false;
    // Servers without checksums keep none: then only reading would tell, and writing again costs less.
    if (head.ChecksumSHA256 !== checksum) return false;
    return head.LastModified !== undefined && Date.now() - head.LastModified.getTime() < REFRESH_SECONDS * 1000;
  }

  async #head(sha256: string, call: FileCall = {}): Promise<HeadObjectCommandOutput | undefined> {
    const at = this.#at(sha256);
    try {
      const head = new HeadObjectCommand({ ...at, ChecksumMode: 'ENABLED' });
      return await translated(() => this.#client.send(head, sendOptions(call)), sha256);
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  }

  #object(sha256: string, body: Uint8Array, checksum: string) {
    return {
      ...this.#at(sha256),
      Body: body,
      ContentLength: body.length,
      ContentType: 'application/octet-stream',
      ChecksumSHA256: checksum,
    };
  }

  #at(sha256: string): { Bucket: string; Key: string } {
    if (!SHA256.test(sha256)) throw new RangeError('not a sha256 in lower-case hex');
    return { Bucket: this.#bucket, Key: `${this.#prefix}${sha256.slice(0, 2)}/${sha256.slice(2)}` };
  }
}

function infoOf(sha256: string, { ContentLength, LastModified }: HeadObjectCommandOutput): FileInfo {
  return { sha256, size: ContentLength ?? 0, modifiedAt: LastModified ?? new Date() };
}

/** Ends the tries after a failure too. */
function sendOptions({ signal }: FileCall): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

function ignore(): void {}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } } | undefined)?.$metadata?.httpStatusCode;
}

/**
 * Errors of the SDK carry the request, and with it the signature: only name and status are kept. A wrong key, a missing
 * bucket and a refused request are "not available" too: somebody has to repair them, and until then nothing may be lost.
 */
async function translated<T>(work: () => Promise<T>, sha256?: string): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StorageError) throw error;
    const { name } = error as Error;
    const status = statusOf(error);
    if (status === 404 && name !== 'NoSuchBucket' && sha256 !== undefined) {
      throw new NotFoundError(`the file store has no ${sha256}`);
    }
    const reason = status === undefined ? ((error as NodeJS.ErrnoException).code ?? name) : `${name}, HTTP ${status}`;
    throw new UnavailableError(`the file store is not available: ${reason}`, { cause: { name, $metadata: { httpStatusCode: status } } });
  }
}
