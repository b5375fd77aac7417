import { fileURLToPath } from 'node:url';
import { DirectoryFileStore } from './directory-files.ts';
import type { S3FileStore } from './s3-files.ts';

export type FileStoreLocation =
  | { type: 'directory'; directory: string }
  | { type: 's3'; bucket: string; prefix: string; region: string; endpoint: string | undefined };

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const PREFIX = /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/;
const REGION = /^[a-z0-9-]{1,63}$/;
const S3_PARAMETERS = new Set(['endpoint', 'region']);

/**
 * `file:///data/files`, or `s3://bucket[/prefix]?region=…[&endpoint=https://…]`. Throws one sentence that does not repeat
 * the value: somebody may have put a password into it.
 */
export function parseFileStoreUrl(value: string): FileStoreLocation {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.username !== '' || url.password !== '') {
    throw new Error('the file store needs a URL without user and password, file:///directory or s3://bucket/prefix');
  }
  if (url.protocol === 'file:') {
    if (url.host !== '' || url.search !== '' || url.pathname.length < 2) {
      throw new Error('a directory as file store is file:///an/absolute/path');
    }
    return { type: 'directory', directory: fileURLToPath(url) };
  }
  if (url.protocol !== 's3:') throw new Error('the file store is file:///directory or s3://bucket/prefix');
  return parseS3(url);
}

function parseS3(url: URL): FileStoreLocation {
  const prefix = url.pathname.replace(/^\/|\/$/g, '');
  const region = url.searchParams.get('region') ?? '';
  const endpoint = url.searchParams.get('endpoint') ?? undefined;
  if (!BUCKET.test(url.host)) throw new Error('the bucket of the file store has no valid name');
  // URL has resolved "." and ".." already.
  if (prefix !== '' && !PREFIX.test(prefix)) {
    throw new Error('the prefix of the file store may have letters, digits, ".", "_", "-" and "/"');
  }
  if (!REGION.test(region)) throw new Error('the file store needs a region, as in s3://bucket?region=eu-central-1');
  if (endpoint !== undefined && !/^https?:\/\/[^/?#@]+\/?$/.test(endpoint)) {
    throw new Error('the endpoint of the file store is http:// or https://, a host and perhaps a port');
  }
  if ([...url.searchParams.keys()].some((name) => !S3_PARAMETERS.has(name))) {
    throw new Error('the file store knows the parameters endpoint and region');
  }
  return { type: 's3', bucket: url.host, prefix, region, endpoint };
}

export interface FileStoreCredentials {
  accessKeyId: string;
  secretAccessKey: string;
}

/**
 * Opens what a URL names. A directory must exist. Credentials are for S3, which needs them. The SDK is loaded only for S3:
 * it would cost every other process 30 MB.
 */
export async function openFileStore(
  location: FileStoreLocation,
  options: { credentials?: FileStoreCredentials | undefined; maxFileBytes?: number } = {},
): Promise<DirectoryFileStore | S3FileStore> {
  const limit = options.maxFileBytes === undefined ? {} : { maxFileBytes: options.maxFileBytes };
  if (location.type === 'directory') return new DirectoryFileStore({ directory: location.directory, ...limit });
  if (options.credentials === undefined) throw new Error('a file store in S3 needs an access key and a secret key');
  const { bucket, prefix, region, endpoint } = location;
  const s3 = await import('./s3-files.ts');
  return new s3.S3FileStore({
    bucket,
    prefix,
    region,
    ...(endpoint !== undefined && { endpoint }),
    credentials: options.credentials,
    ...limit,
  });
}
