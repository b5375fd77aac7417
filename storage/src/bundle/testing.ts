// Bundles for tests that need no database.
import { createHash, generateKeyPairSync } from 'node:crypto';
import { pack } from './pack.ts';
import type { BundlePart } from './pack.ts';
import { parseSigningKey } from './signing-key.ts';
import type { SigningKey } from './signing-key.ts';

export const UID = '0b9d6c1e-7a53-4f0e-9c63-5f5d1c6f1a01';

export function newKey(): SigningKey {
  const { privateKey } = generateKeyPairSync('ed25519', { privateKeyEncoding: { type: 'pkcs8', format: 'pem' }, publicKeyEncoding: { type: 'spki', format: 'pem' } });
  return parseSigningKey(privateKey, 'a test');
}

export const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');
const json = (name: string, value: unknown): BundlePart => ({ name, content: Buffer.from(JSON.stringify(value)) });

/** A run with one attempt, output and artifacts under the worst of names. */
export function sampleParts(paths: readonly string[] = ['out/a.txt'], stdout: string | Buffer = 'hello\n'): BundlePart[] {
  const output = Buffer.from(stdout);
  const contents = paths.map((path, index) => Buffer.from(`${index}: ${path}`));
  const ledger = (data: Uint8Array) => ({ bytes: data.length, sha256: sha256(data) });
  return [
    { name: 'README.txt', content: Buffer.from('read me') },
    json('evaluation.json', { uid: UID, name: 'hello' }),
    json('spec.json', { code: 'print("hello")' }),
    { name: 'events/000001.jsonl', content: Buffer.from('{"seq":1}\n') },
    json('attempts/1/attempt.json', { number: 1 }),
    json('attempts/1/capture.json', { state: 'captured', streams: { stdout: ledger(output), stderr: ledger(Buffer.alloc(0)) } }),
    { name: 'attempts/1/summary.json', reason: 'NotSent' },
    { name: 'attempts/1/stdout', content: output },
    { name: 'attempts/1/stderr', content: Buffer.alloc(0) },
    json('attempts/1/artifacts.json', paths.map((path, index) => {
      const content = contents[index] as Buffer;
      return { index, path, size: content.length, sha256: sha256(content), complete: true, refused: null, mode: 420 };
    })),
    ...[...new Map(contents.map((content) => [sha256(content), content]))].sort().map(([name, content]) => ({ name: `artifacts/${name}`, content })),
  ];
}

export async function packed(parts: readonly BundlePart[], key: SigningKey): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of pack(parts, { uid: UID, namespace: 'evals', name: 'hello' }, key)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** In pieces of these sizes, again and again. */
export async function* inPieces(bytes: Uint8Array, sizes: readonly number[] = [65_536]): AsyncGenerator<Uint8Array, void, void> {
  for (let offset = 0, turn = 0; offset < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    yield bytes.subarray(offset, offset + size);
    offset += size;
  }
}
