import { createHash } from 'node:crypto';
import { IntegrityError } from '../errors.ts';
import type { SigningKey } from './signing-key.ts';
import { BLOCK, FORMAT, MANIFEST, SIGNATURE, padding, tarHeader } from './verify-bundle.ts';
import type { Manifest, ManifestEntry, MissingPart } from './verify-bundle.ts';

/** A document, or content of which the size is known and that is read when its turn comes. */
export interface BundleEntry {
  readonly name: string;
  readonly content: Uint8Array | { readonly size: number; readonly pieces: AsyncIterable<Uint8Array> };
}

export type BundlePart = BundleEntry | MissingPart;

/**
 * The archive, piece by piece: the parts in their order, then the manifest of what was written, then its signature. The
 * same parts and key give the same bytes. Throws, and so breaks the stream off, when content is not as long as announced.
 */
export async function* pack(
  parts: AsyncIterable<BundlePart> | Iterable<BundlePart>,
  evaluation: Manifest['evaluation'],
  key: SigningKey,
): AsyncGenerator<Buffer, void, void> {
  const entries: ManifestEntry[] = [];
  const missing: MissingPart[] = [];
  for await (const part of parts) {
    if ('reason' in part) missing.push({ name: part.name, reason: part.reason });
    else entries.push(yield* writeEntry(part));
  }
  const manifest = manifestText({ format: FORMAT, keyId: key.keyId, evaluation, entries, missing });
  yield* writeEntry({ name: MANIFEST, content: manifest });
  yield* writeEntry({ name: SIGNATURE, content: key.sign(manifest) });
  yield Buffer.alloc(2 * BLOCK);
}

async function* writeEntry({ name, content }: BundleEntry): AsyncGenerator<Buffer, ManifestEntry, void> {
  const size = content instanceof Uint8Array ? content.length : content.size;
  yield tarHeader(name, size);
  const hash = createHash('sha256');
  let written = 0;
  for await (const piece of content instanceof Uint8Array ? [content] : content.pieces) {
    written += piece.length;
    if (written > size) break;
    if (piece.length === 0) continue;
    hash.update(piece);
    yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  }
  if (written !== size) throw new IntegrityError(`${name} has ${written} bytes and was announced with ${size}`);
  if (padding(size) > 0) yield Buffer.alloc(padding(size));
  return { name, size, sha256: hash.digest('hex') };
}

/** One entry a line and always spelt the same, so that sed and sha256sum can do with it. */
function manifestText({ format, keyId, evaluation: { uid, namespace, name }, entries, missing }: Manifest): Buffer {
  const list = (items: readonly object[]): string => (items.length === 0 ? '[]' : `[\n${items.map((item) => `    ${JSON.stringify(item)}`).join(',\n')}\n  ]`);
  const lines = [
    `  "format": ${JSON.stringify(format)}`,
    `  "keyId": ${JSON.stringify(keyId)}`,
    `  "evaluation": ${JSON.stringify({ uid, namespace, name })}`,
    `  "entries": ${list(entries)}`,
    `  "missing": ${list(missing)}`,
  ];
  return Buffer.from(`{\n${lines.join(',\n')}\n}\n`);
}
