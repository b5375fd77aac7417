import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
}

export interface TlsPair {
  readonly cert: string;
  readonly key: string;
}

/** Anything that can change its certificate while it serves: node:https. */
interface SecureServer {
  setSecureContext(options: TlsPair & { minVersion: 'TLSv1.2' }): void;
}

interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

const POLL_MILLISECONDS = 5_000;

/** Throws one sentence when they are not a certificate and its key. */
export async function readTlsPair(files: TlsFiles): Promise<TlsPair> {
  const [cert, key] = await Promise.all([readFile(files.cert, 'utf8'), readFile(files.key, 'utf8')]);
  let matches: boolean;
  try {
    matches = new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
    createSecureContext({ cert, key });
  } catch (error) {
    throw new Error(`${files.cert} and ${files.key} cannot be used as certificate and key: ${(error as Error).message}`, { cause: error });
  }
  if (!matches) throw new Error(`the key in ${files.key} is not the one of the certificate in ${files.cert}`);
  return { cert, key };
}

/**
 * Looks at the files now and then: a kubelet replaces mounted Secrets by switching a link, which file watches miss. New
 * connections get the new certificate, existing ones stay. A pair that does not fit (half of a renewal) is left for the
 * next look.
 */
export class TlsReloader {
  readonly #files: TlsFiles;
  readonly #server: SecureServer;
  readonly #log: Log;
  #current: TlsPair;
  #timer: NodeJS.Timeout | undefined;
  #looking = false;

  constructor(files: TlsFiles, current: TlsPair, server: SecureServer, log: Log, every = POLL_MILLISECONDS) {
    this.#files = files;
    this.#current = current;
    this.#server = server;
    this.#log = log;
    this.#timer = setInterval(() => void this.look(), every).unref();
  }

  async look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      const pair = await readTlsPair(this.#files);
      if (pair.cert === this.#current.cert && pair.key === this.#current.key) return;
      this.#server.setSecureContext({ ...pair, minVersion: 'TLSv1.2' });
      this.#current = pair;
      this.#log.info({ validTo: new X509Certificate(pair.cert).validTo }, 'a new certificate is served');
    } catch (error) {
      this.#log.warn({ reason: (error as Error).message }, 'the certificate was not renewed; the old one is served');
    } finally {
      this.#looking = false;
    }
  }

  /** In seconds since the epoch. */
  get validTo(): number {
    return new X509Certificate(this.#current.cert).validToDate.getTime() / 1000;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
