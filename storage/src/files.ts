/**
 * Content by its sha256 (64 hex digits), never by a name that somebody chose: what a sandbox calls its files cannot
 * reach a path. Writing the same content twice is one object.
 */
export interface FileStore {
  /**
   * Durable when it returns. Throws LimitError over the size limit, IntegrityError when `sha256` is given and the content
   * is another, UnavailableError when the medium is full or away; then nothing is stored.
   */
  put(content: Uint8Array | AsyncIterable<Uint8Array>, options?: { sha256?: string }): Promise<StoredFile>;
  /** The whole content, verified. Throws NotFoundError, IntegrityError. */
  read(sha256: string): Promise<Buffer>;
  /** In pieces; throws IntegrityError after the last one when they were not the content, and NotFoundError. */
  stream(sha256: string): AsyncIterable<Buffer>;
  /** Size in bytes and time of the last put, without reading the content. */
  stat(sha256: string, call?: FileCall): Promise<FileInfo | undefined>;
  has(sha256: string, call?: FileCall): Promise<boolean>;
  /** False when there was none. */
  delete(sha256: string, call?: FileCall): Promise<boolean>;
  /** Everything stored, in no order; may miss what is put meanwhile. */
  list(): AsyncIterable<FileInfo>;
}

/** For calls that others wait for. */
export interface FileCall {
  /**
   * Once it aborts no further request is sent, and the call fails with UnavailableError. What is under way in a file system
   * cannot be stopped: only a store with a network in between obeys.
   */
  signal?: AbortSignal;
}

export interface StoredFile {
  sha256: string;
  size: number;
}

export interface FileInfo extends StoredFile {
  modifiedAt: Date;
}
