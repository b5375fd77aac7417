import { randomBytes } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { SetupError, freePort, isExecutable } from './processes.ts';
import type { Sandbox } from './processes.ts';

const S3_SECONDS = 15;
const REGION = 'us-east-1';

export interface TestS3 {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** Versity's S3 gateway over a folder, on 127.0.0.1; returns a URL with its keys: http://access:secret@127.0.0.1:port. */
export async function startS3(sandbox: Sandbox): Promise<string> {
  const program = s3Binary();
  const folder = sandbox.folder('s3');
  const [accessKeyId, secretAccessKey] = [randomBytes(10).toString('hex'), randomBytes(20).toString('hex')];
  const port = await freePort();
  const server = sandbox.start('s3', program, [
    '--port',
    `127.0.0.1:${port}`,
    '--access',
    accessKeyId,
    '--secret',
    secretAccessKey,
    '--region',
    REGION,
    '--quiet',
    'posix',
    // Not every file system of a test machine has extended attributes.
    '--sidecar', // it takes a name that begins like the folder's for one inside it
    sandbox.folder('metadata-of-s3'),
    folder,
  ]);
  // Any answer will do: without a signature it is a refusal.
  await server.ready(async () => (await fetch(`http://127.0.0.1:${port}/`)).status > 0, S3_SECONDS);
  return `http://${accessKeyId}:${secretAccessKey}@127.0.0.1:${port}`;
}

export function parseTestS3(url: string): TestS3 {
  const { origin, username, password } = new URL(url);
  return { endpoint: origin, region: REGION, accessKeyId: username, secretAccessKey: password };
}

function s3Binary(): string {
  const cache =
    process.env['CRUCIBLE_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'crucible');
  const path = process.env['CRUCIBLE_S3_BIN'] ?? join(cache, 'bin/versitygw');
  if (!isExecutable(path)) {
    throw new SetupError(`no S3 server at ${path}: \`make test-integration\` builds it, or name one with CRUCIBLE_S3_BIN`);
  }
  return path;
}
