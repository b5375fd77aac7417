// Checks an evidence bundle, offline. This file, Node.js 22.18 or newer, the archive and the installation's public key are
// all it takes; docs/evidence-bundle.md says how to do the same with openssl, tar and sha256sum.
//
//     node verify-bundle.ts BUNDLE.tar PUBLIC-KEY.pem [--evaluation=UID]
//
// It imports nothing but Node.js, so that it can be copied and read alone. What writes bundles (pack.ts) imports the format from here.
import { createHash, createPublicKey, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createReadStream, readFileSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';

export const FORMAT = 'crucible-bundle/1';
export const MANIFEST = 'manifest.json';
export const SIGNATURE = 'manifest.sig';
export const BLOCK = 512;
/** Larger than anything the format can hold: 11 octal digits. */
const MAX_SIZE = 8 ** 11 - 1;
const MAX_ENTRIES = 100_000;
/** Of the documents that are kept to be compared with each other. */
const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024;
const MAX_KEPT_BYTES = 64 * 1024 * 1024;
const SIGNATURE_BYTES = 64;

/** The only names there are. What a sandbox chose (paths of artifacts) is data inside of documents, never a name. */
const NAMES = new RegExp(
  `^(README\\.txt|evaluation\\.json|spec\\.json|events/\\d{6}\\.jsonl|artifacts/[0-9a-f]{64}|manifest\\.json|manifest\\.sig|` +
    `attempts/[1-9]\\d{0,8}/(attempt\\.json|capture\\.json|receipt\\.json|summary\\.json|artifacts\\.json|stdout|stderr))$`,
);

export interface ManifestEntry {
  readonly name: string;
  readonly size: number;
  /** Hex. */
  readonly sha256: string;
}

/** A part that the record names and the archive does not have. */
export interface MissingPart {
  readonly name: string;
  /** CamelCase, see docs/evidence-bundle.md. */
  readonly reason: string;
}

export interface Manifest {
  readonly format: string;
  /** sha256 (hex) of the public key as DER. */
  readonly keyId: string;
  readonly evaluation: { readonly uid: string; readonly namespace: string; readonly name: string };
  /** Everything before the manifest, in the archive's order. */
  readonly entries: readonly ManifestEntry[];
  readonly missing: readonly MissingPart[];
}

/** The archive is not what the installation signed, or not a bundle; the message says where it shows. */
export class BundleError extends Error {
  override readonly name = 'BundleError';
}

/** Nothing is said about an archive: what is given to check it with is no public key. */
export class PublicKeyError extends Error {
  override readonly name = 'PublicKeyError';
}

export function isEntryName(name: string): boolean {
  return NAMES.test(name);
}

/** The one header that an entry of this name and size can have: so each of its 512 bytes is known to the verifier. */
export function tarHeader(name: string, size: number): Buffer {
  if (!isEntryName(name)) throw new BundleError(`${JSON.stringify(name)} is not a name in a bundle`);
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_SIZE) throw new BundleError(`${name}: a size of ${size} bytes`);
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, 100, 'latin1');
  header.write('0000644\0' + '0000000\0' + '0000000\0', 100, 'latin1');
  header.write(`${size.toString(8).padStart(11, '0')}\0` + '00000000000\0', 124, 'latin1');
  header.write(' '.repeat(8) + '0', 148, 'latin1');
  header.write('ustar\0' + '00', 257, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

export const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

export function keyIdOf(publicKey: KeyObject): string {
  return createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('hex');
}

export interface VerifiedBundle {
  readonly manifest: Manifest;
  readonly bytes: number;
}

/**
 * Reads the whole archive once, in bounded memory. `publicKeys` is PEM, one or several Ed25519 keys (after a rotation).
 * Throws BundleError at the first thing that is not as it was signed, PublicKeyError before anything is read of it.
 */
export async function verifyBundle(source: AsyncIterable<Uint8Array>, publicKeys: string): Promise<VerifiedBundle> {
  const keys = readPublicKeys(publicKeys);
  const archive = await readArchive(new Reader(source));
  const manifest = openManifest(archive, keys);
  compareEntries(archive.entries, manifest.entries);
  checkRecord(archive, manifest);
  return { manifest, bytes: archive.bytes };
}

function readPublicKeys(pem: string): KeyObject[] {
  const blocks = pem.match(/-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----/g) ?? [];
  const keys = blocks.map((block) => {
    try {
      return createPublicKey(block);
    } catch {
      throw new PublicKeyError('the public key cannot be read: a PEM file with "BEGIN PUBLIC KEY" is expected');
    }
  });
  if (keys.length === 0) throw new PublicKeyError('no public key: a PEM file with "BEGIN PUBLIC KEY" is expected');
  if (keys.some((key) => key.asymmetricKeyType !== 'ed25519')) throw new PublicKeyError('the public key is not an Ed25519 key');
  return keys;
}

// ---------------------------------------------------------------------------------------------- the archive

interface Archive {
  readonly entries: ManifestEntry[];
  /** What is compared with each other, and the manifest with its signature. */
  readonly documents: Map<string, Buffer>;
  bytes: number;
}

async function readArchive(reader: Reader): Promise<Archive> {
  const archive: Archive = { entries: [], documents: new Map(), bytes: 0 };
  let kept = 0;
  for (;;) {
    const header = await reader.take(BLOCK);
    if (header.every((byte) => byte === 0)) break;
    const { name, size } = readHeader(header, archive.entries.length + 1);
    if (archive.entries.length >= MAX_ENTRIES) throw new BundleError(`more than ${MAX_ENTRIES} entries`);
    const keep = isDocument(name);
    if (keep && (size > MAX_DOCUMENT_BYTES || (kept += size) > MAX_KEPT_BYTES)) throw new BundleError(`${name} is too large`);
    archive.entries.push({ name, size, sha256: await readContent(reader, name, size, keep ? archive.documents : undefined) });
  }
  if (!(await reader.take(BLOCK)).every((byte) => byte === 0)) throw new BundleError('the end of the archive is not two blocks of zeros');
  if (!(await reader.ended())) throw new BundleError('there are bytes behind the end of the archive');
  archive.bytes = reader.position;
  return archive;
}

const isDocument = (name: string): boolean =>
  name === MANIFEST || name === SIGNATURE || name === 'evaluation.json' || /^attempts\/\d+\/(capture|artifacts)\.json$/.test(name);

function readHeader(header: Buffer, number: number): { name: string; size: number } {
  const name = header.toString('latin1', 0, header.indexOf(0) === -1 ? 100 : Math.min(header.indexOf(0), 100));
  const octal = header.toString('latin1', 124, 135);
  if (!isEntryName(name)) throw new BundleError(`entry ${number} has a name that no bundle has: ${JSON.stringify(name)}`);
  if (!/^[0-7]{11}$/.test(octal)) throw new BundleError(`${name}: the size is not one`);
  const size = Number.parseInt(octal, 8);
  if (!header.equals(tarHeader(name, size))) throw new BundleError(`${name}: the header has been changed`);
  return { name, size };
}

async function readContent(reader: Reader, name: string, size: number, documents: Map<string, Buffer> | undefined): Promise<string> {
  const hash = createHash('sha256');
  const pieces: Buffer[] = [];
  for (let left = size; left > 0; ) {
    const piece = await reader.some(left);
    hash.update(piece);
    if (documents !== undefined) pieces.push(piece);
    left -= piece.length;
  }
  if (documents?.has(name)) throw new BundleError(`${name} is there twice`);
  documents?.set(name, Buffer.concat(pieces));
  const rest = await reader.take(padding(size));
  if (!rest.every((byte) => byte === 0)) throw new BundleError(`${name}: the padding behind it has been changed`);
  return hash.digest('hex');
}

/** Takes bytes from a stream; holds no more than one of its pieces, or a block. */
class Reader {
  position = 0;
  readonly #source: AsyncIterator<Uint8Array>;
  #piece: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Between 1 and `most` bytes. */
  async some(most: number): Promise<Buffer> {
    if (await this.ended()) throw new BundleError(`the archive ends too early, after ${this.position} bytes`);
    const bytes = this.#piece.subarray(0, most);
    this.#piece = this.#piece.subarray(bytes.length);
    this.position += bytes.length;
    return bytes;
  }

  async take(count: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for (let left = count; left > 0; left -= pieces.at(-1)?.length ?? 0) pieces.push(await this.some(left));
    return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
  }

  async ended(): Promise<boolean> {
    while (this.#piece.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) return true;
      this.#piece = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    return false;
  }
}

// ---------------------------------------------------------------------------------------------- what was signed

function openManifest({ entries, documents }: Archive, keys: readonly KeyObject[]): Manifest {
  const [manifest, signature] = entries.slice(-2);
  if (manifest?.name !== MANIFEST || signature?.name !== SIGNATURE) throw new BundleError(`the last entries are not ${MANIFEST} and ${SIGNATURE}`);
  const text = documents.get(MANIFEST) ?? Buffer.alloc(0);
  const signed = documents.get(SIGNATURE) ?? Buffer.alloc(0);
  const key = keys.find((candidate) => signed.length === SIGNATURE_BYTES && verify(null, text, candidate, signed));
  if (key === undefined) throw new BundleError(`the signature is not one of ${MANIFEST} by ${keys.length === 1 ? 'this key' : 'these keys'}`);
  const parsed = parse(text, MANIFEST);
  if (!isManifest(parsed) || parsed.keyId !== keyIdOf(key)) throw new BundleError(`${MANIFEST} is signed, and not of the format ${FORMAT}`);
  return parsed;
}

function compareEntries(found: readonly ManifestEntry[], signed: readonly ManifestEntry[]): void {
  const content = found.slice(0, -2);
  for (let index = 0; index < Math.max(content.length, signed.length); index += 1) {
    const [here, there] = [content[index], signed[index]];
    if (there === undefined) throw new BundleError(`entry ${index + 1}, ${here?.name}, is not in the manifest`);
    if (here?.name !== there.name) throw new BundleError(`entry ${index + 1} is ${here?.name ?? 'missing'}, and was ${there.name}`);
    if (here.size !== there.size || here.sha256 !== there.sha256) throw new BundleError(`${here.name} has been changed`);
  }
}

/** Signed is not yet consistent: what the record says of output and artifacts must be what is here, or said to be missing. */
function checkRecord({ documents }: Archive, { entries, missing, evaluation }: Manifest): void {
  const present = new Map(entries.map((entry) => [entry.name, entry]));
  const absent = new Set(missing.map(({ name }) => name));
  const expectContent = (name: string, size: unknown, sha256: unknown, said: string): void => {
    const entry = present.get(name);
    if (entry === undefined ? !absent.has(name) : entry.size !== size || entry.sha256 !== sha256) {
      throw new BundleError(`${name} is not what ${said} says`);
    }
  };
  for (const name of absent) if (present.has(name)) throw new BundleError(`${name} is there and called missing`);
  for (const { name, sha256 } of entries) {
    if (name.startsWith('artifacts/') && name !== `artifacts/${sha256}`) throw new BundleError(`${name} has another sha256`);
  }
  for (const [name, document] of documents) {
    const [, attempt, kind] = /^attempts\/(\d+)\/(capture|artifacts)\.json$/.exec(name) ?? [];
    const content = kind === undefined && name !== 'evaluation.json' ? undefined : parse(document, name);
    if (name === 'evaluation.json' && at(content, 'uid') !== evaluation.uid) throw new BundleError('evaluation.json is of another evaluation');
    if (kind === 'capture' && at(content, 'state') === 'captured') {
      for (const stream of ['stdout', 'stderr']) {
        const ledger = at(at(content, 'streams'), stream);
        expectContent(`attempts/${attempt}/${stream}`, at(ledger, 'bytes'), at(ledger, 'sha256'), name);
      }
    }
    for (const artifact of kind === 'artifacts' && Array.isArray(content) ? content : []) {
      if (at(artifact, 'complete') === true) expectContent(`artifacts/${String(at(artifact, 'sha256'))}`, at(artifact, 'size'), at(artifact, 'sha256'), name);
    }
  }
}

const at = (value: unknown, key: string): unknown => (isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined);

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parse(text: Buffer, name: string): unknown {
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    throw new BundleError(`${name} is not JSON`);
  }
}

function isManifest(value: unknown): value is Manifest {
  const listed = (key: string, check: (item: unknown) => boolean): boolean => {
    const items = at(value, key);
    return Array.isArray(items) && items.every(check);
  };
  const named = (item: unknown): boolean => typeof at(item, 'name') === 'string' && isEntryName(String(at(item, 'name')));
  return (
    at(value, 'format') === FORMAT &&
    ['uid', 'namespace', 'name'].every((key) => /^[a-z0-9][a-z0-9.-]{0,252}$/.test(String(at(at(value, 'evaluation'), key)))) &&
    listed('entries', (item) => named(item) && Number.isSafeInteger(at(item, 'size')) && typeof at(item, 'sha256') === 'string') &&
    listed('missing', (item) => named(item) && /^[A-Za-z]{1,60}$/.test(String(at(item, 'reason'))))
  );
}

// ---------------------------------------------------------------------------------------------- the command

export const USAGE = 'usage: node verify-bundle.ts BUNDLE.tar PUBLIC-KEY.pem [--evaluation=UID]   (BUNDLE.tar may be - for standard input)';

/** Opened when somebody reads: a file that is not there is an error of who reads it, and of nobody else. */
export async function* contentOf(file: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(file);
}

/** What is printed, and the exit code: 0 as it was signed, 1 not so, 2 it could not be checked. */
export async function runVerify(args: readonly string[]): Promise<{ code: 0 | 1 | 2; lines: string[] }> {
  const files = args.filter((arg) => !arg.startsWith('--'));
  const options = args.filter((arg) => arg.startsWith('--'));
  const [bundle, key] = files;
  if (bundle === undefined || key === undefined || files.length > 2 || options.some((option) => !option.startsWith('--evaluation='))) {
    return { code: 2, lines: [USAGE] };
  }
  try {
    const source = bundle === '-' ? process.stdin : contentOf(bundle);
    const { manifest, bytes } = await verifyBundle(source, readFileSync(key, 'utf8'));
    const wanted = options.at(-1)?.slice('--evaluation='.length);
    if (wanted !== undefined && wanted !== manifest.evaluation.uid) {
      return { code: 1, lines: [`FAILED: this is a genuine bundle of another evaluation, ${manifest.evaluation.uid}`] };
    }
    return { code: 0, lines: report(manifest, bytes) };
  } catch (error) {
    if (error instanceof BundleError) return { code: 1, lines: [`FAILED: ${error.message}`] };
    return { code: 2, lines: [`not checked: ${error instanceof Error ? error.message : String(error)}`] };
  }
}

function report({ evaluation, entries, missing, keyId }: Manifest, bytes: number): string[] {
  return [
    `OK: evaluation ${evaluation.namespace}/${evaluation.name}, uid ${evaluation.uid}`,
    `    ${entries.length} entries, ${bytes} bytes, all as signed by the key ${keyId}`,
    ...missing.map(({ name, reason }) => `    not in it: ${name} (${reason})`),
  ];
}

// By its name too: within another program that carries it (the CLI) it is not the one that was started.
if (/^verify-bundle\.m?[jt]s$/.test(basename(import.meta.filename)) && process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  const { code, lines } = await runVerify(process.argv.slice(2));
  (code === 0 ? process.stdout : process.stderr).write(`${lines.join('\n')}\n`);
  process.exitCode = code;
}
