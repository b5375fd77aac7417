import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { IntegrityError } from '../errors.ts';
import { pack } from './pack.ts';
import type { BundleEntry } from './pack.ts';
import { openSigningKey, parseSigningKey } from './signing-key.ts';
import { UID, inPieces, newKey, packed, sampleParts, sha256 } from './testing.ts';
import { BLOCK, BundleError, padding, runVerify, tarHeader, verifyBundle } from './verify-bundle.ts';

const VERIFIER = join(import.meta.dirname, 'verify-bundle.ts');
const key = newKey();
let folder: string;

beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'crucible-bundle-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const check = (bytes: Uint8Array, publicKey = key.publicKey, sizes?: readonly number[]) => verifyBundle(inPieces(bytes, sizes), publicKey);
const refused = async (bytes: Uint8Array, publicKey?: string): Promise<string> =>
  await check(bytes, publicKey).then(
    () => 'verified',
    (error: unknown) => (error instanceof BundleError ? error.message : `not a BundleError: ${String(error)}`),
  );

/** The archive cut into its entries, header and padding included; the end is the last one. */
function entriesOf(archive: Buffer): Buffer[] {
  const entries: Buffer[] = [];
  for (let offset = 0; ; ) {
    if (archive[offset] === 0) return [...entries, archive.subarray(offset)];
    const size = Number.parseInt(archive.toString('latin1', offset + 124, offset + 135), 8);
    const end = offset + BLOCK + size + padding(size);
    entries.push(archive.subarray(offset, end));
    offset = end;
  }
}

test('what was packed is verified, whatever pieces it comes in, and says what it is and what is missing', async () => {
  const archive = await packed(sampleParts(), key);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 5 }), async (sizes) => {
      const { manifest, bytes } = await check(archive, key.publicKey, sizes);
      expect(bytes).toBe(archive.length);
      expect(manifest.evaluation.uid).toBe(UID);
      expect(manifest.missing).toEqual([{ name: 'attempts/1/summary.json', reason: 'NotSent' }]);
    }),
    { numRuns: 50 },
  );
  expect(await packed(sampleParts(), key)).toEqual(archive);
});

describe('what was changed is found', () => {
  test('a flipped bit in any byte', { timeout: 120_000 }, async () => {
    const archive = await packed(sampleParts(), key);
    const unseen: number[] = [];
    for (let offset = 0; offset < archive.length; offset += 1) {
      const bit = 1 << (offset * 7) % 8;
      archive[offset] = (archive[offset] as number) ^ bit;
      if ((await refused(archive)) === 'verified') unseen.push(offset);
      archive[offset] = (archive[offset] as number) ^ bit;
    }
    expect(unseen).toEqual([]);
    expect(await refused(archive)).toBe('verified');
  });

  test('any byte taken out, put in or cut off', { timeout: 120_000 }, async () => {
    const archive = await packed(sampleParts(), key);
    const change = fc.record({ offset: fc.nat(archive.length), length: fc.integer({ min: 1, max: 2000 }), byte: fc.nat(255), how: fc.nat(2) });
    await fc.assert(
      fc.asyncProperty(change, async ({ offset, length, byte, how }) => {
        const filler = Buffer.alloc(length, byte);
        const changed = [
          () => Buffer.concat([archive.subarray(0, offset), archive.subarray(Math.min(offset + length, archive.length))]),
          () => Buffer.concat([archive.subarray(0, offset), filler, archive.subarray(offset)]),
          () => archive.subarray(0, Math.max(0, archive.length - length)),
        ][how]?.();
        if (changed === undefined || changed.equals(archive)) return;
        expect(await refused(changed)).toMatch(/^(?!verified|not a BundleError)/);
      }),
      { numRuns: 1500 },
    );
  });

  test('entries removed, doubled, swapped, renamed or added, each with a header that is right in itself', async () => {
    const archive = await packed(sampleParts(['a', 'b', 'c']), key);
    const parts = entriesOf(archive);
    const without = (index: number) => parts.filter((_, at) => at !== index);
    const last = parts.length - 1;
    for (let index = 0; index < last; index += 1) {
      expect(await refused(Buffer.concat(without(index))), `without ${index}`).not.toBe('verified');
      expect(await refused(Buffer.concat(parts.toSpliced(index, 0, parts[index] as Buffer))), `${index} twice`).not.toBe('verified');
      for (let other = index + 1; other < last; other += 1) {
        const swapped = parts.with(index, parts[other] as Buffer).with(other, parts[index] as Buffer);
        expect(await refused(Buffer.concat(swapped)), `${index} for ${other}`).not.toBe('verified');
      }
    }
    const added = Buffer.concat([tarHeader(`artifacts/${sha256('x')}`, 1), Buffer.from('x'), Buffer.alloc(BLOCK - 1)]);
    expect(await refused(Buffer.concat(parts.toSpliced(last - 2, 0, added)))).toMatch(/is not in the manifest/);
    expect(await refused(Buffer.concat(parts.toSpliced(last, 0, added)))).toMatch(/the last entries are not/);
    const renamed = Buffer.from(parts[2] as Buffer);
    tarHeader('receipt.json'.replace('receipt', 'spec'), 0).copy(renamed, 0, 0, 0);
    tarHeader('attempts/1/receipt.json', Number.parseInt(renamed.toString('latin1', 124, 135), 8)).copy(renamed);
    expect(await refused(Buffer.concat(parts.with(2, renamed)))).toMatch(/was spec.json/);
    expect(await refused(Buffer.concat([archive, Buffer.alloc(BLOCK)]))).toMatch(/behind the end/);
  });

  test('another key, another run behind the signature, a manifest signed by somebody else', async () => {
    const archive = await packed(sampleParts(), key);
    const stranger = newKey();
    expect(await refused(archive, stranger.publicKey)).toMatch(/signature/);
    expect(await refused(archive, stranger.publicKey + key.publicKey)).toBe('verified');
    const [mine, other] = [entriesOf(archive), entriesOf(await packed(sampleParts(['x'], 'other\n'), key))];
    expect(await refused(Buffer.concat([...mine.slice(0, -3), ...other.slice(-3)]))).not.toBe('verified');
    expect(await refused(await packed(sampleParts(), stranger))).toMatch(/signature/);
    expect(await refused(archive, 'nothing')).toMatch(/no public key/);
  });

  test('a record that contradicts its contents, although it was signed', async () => {
    const parts = sampleParts();
    const replaced = (name: string, content: string | undefined) =>
      parts.flatMap((part) => (part.name !== name ? [part] : content === undefined ? [] : [{ name, content: Buffer.from(content) }]));
    expect(await refused(await packed(replaced('attempts/1/stdout', 'hallo\n'), key))).toBe('attempts/1/stdout is not what attempts/1/capture.json says');
    expect(await refused(await packed(replaced('attempts/1/stdout', undefined), key))).toBe('attempts/1/stdout is not what attempts/1/capture.json says');
    const artifact = parts.at(-1) as BundleEntry;
    expect(await refused(await packed(replaced(artifact.name, 'other'), key))).toMatch(/has another sha256/);
    expect(await refused(await packed(replaced(artifact.name, undefined), key))).toMatch(/is not what attempts\/1\/artifacts.json says/);
    expect(await refused(await packed([...parts.slice(0, -1), { name: artifact.name, reason: 'DeletedByRetention' }], key))).toBe('verified');
    expect(await refused(await packed([...parts, { name: artifact.name, reason: 'DeletedByRetention' }], key))).toMatch(/called missing/);
    expect(await refused(await packed(replaced('evaluation.json', '{"uid":"another"}'), key))).toMatch(/another evaluation/);
  });
});

test('no archive makes the verifier do anything but refuse: random bytes, random headers', async () => {
  const bytes = fc.uint8Array({ maxLength: 3000 });
  const header = fc.tuple(fc.string({ maxLength: 100 }), fc.uint8Array({ minLength: 412, maxLength: 412 }));
  await fc.assert(
    fc.asyncProperty(bytes, async (data) => {
      expect(await refused(data)).toMatch(/^(?!verified|not a BundleError)/);
    }),
  );
  await fc.assert(
    fc.asyncProperty(header, bytes, async ([name, rest], data) => {
      const block = Buffer.alloc(BLOCK);
      block.write(name, 0, 100);
      block.set(rest, 100);
      expect(await refused(Buffer.concat([block, data]))).toMatch(/^(?!verified|not a BundleError)/);
    }),
  );
});

test('paths of artifacts are data: whatever they are, only names of the format are in the archive and on disk', async () => {
  const hostile = ['../../etc/passwd', '/etc/shadow', '..', 'a/../../b', '\u202egnp.exe', 'x\0y', `${'d/'.repeat(400)}f`, '-rf', 'a\nb', '~root'];
  const path = fc.oneof(fc.constantFrom(...hostile), fc.string({ unit: 'binary', maxLength: 300 }));
  await fc.assert(
    fc.asyncProperty(fc.array(path, { minLength: 1, maxLength: 5 }), async (paths) => {
      const archive = await packed(sampleParts(paths), key);
      expect(await refused(archive)).toBe('verified');
      const target = mkdtempSync(join(folder, 'extracted-'));
      execFileSync('tar', ['-xf', '-'], { input: archive, cwd: target, stdio: ['pipe', 'ignore', 'inherit'] });
      const found = readdirSync(target, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
      const names = found.map((entry) => join(entry.parentPath, entry.name).slice(target.length + 1)).sort();
      const expected = sampleParts(paths).flatMap((part) => ('content' in part ? [part.name] : []));
      expect(names).toEqual([...expected, 'manifest.json', 'manifest.sig'].sort());
      rmSync(target, { recursive: true });
    }),
    { numRuns: 12 },
  );
  for (const name of hostile) expect(() => tarHeader(name, 0)).toThrow(BundleError);
});

test('content that is not as long as announced breaks the archive off', async () => {
  async function* pieces(): AsyncGenerator<Uint8Array, void, void> {
    yield Buffer.from('four');
  }
  for (const size of [3, 5]) {
    const archive = pack([{ name: 'attempts/1/stdout', content: { size, pieces: pieces() } }], { uid: UID, namespace: 'evals', name: 'hello' }, key);
    await expect(Readable.from(archive).toArray()).rejects.toThrow(IntegrityError);
  }
});

test('the signing key: says what is wrong and nothing of the key', async () => {
  expect(() => parseSigningKey('not a key: hunter2', '/etc/key.pem')).toThrow(/\/etc\/key.pem does not hold a private key/);
  expect(() => parseSigningKey('not a key: hunter2', '/etc/key.pem')).not.toThrow(/hunter2/);
  await expect(openSigningKey('/nowhere/key.pem')).rejects.toThrow('the signing key cannot be read from /nowhere/key.pem: ENOENT');
  const rsa = execFileSync('openssl', ['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  expect(() => parseSigningKey(rsa, 'it')).toThrow(/a key of type rsa, not ed25519/);
  const file = join(folder, 'key.pem');
  execFileSync('openssl', ['genpkey', '-algorithm', 'ed25519', '-out', file]);
  const opened = await openSigningKey(file);
  expect(opened.publicKey).toBe(execFileSync('openssl', ['pkey', '-in', file, '-pubout'], { encoding: 'utf8' }));
  expect(Object.values(opened).join()).not.toContain('PRIVATE');
});

describe('the command', () => {
  test('runs alone, as a copy in an empty directory', async () => {
    const archive = await packed(sampleParts(), key);
    const home = mkdtempSync(join(folder, 'alone-'));
    execFileSync('cp', [VERIFIER, home]);
    writeFileSync(join(home, 'b.tar'), archive);
    writeFileSync(join(home, 'public.pem'), key.publicKey);
    const run = (...args: string[]) => execFileSync(process.execPath, ['verify-bundle.ts', ...args], { cwd: home, encoding: 'utf8', stdio: 'pipe' });
    expect(run('b.tar', 'public.pem')).toMatch(/^OK: evaluation evals\/hello, uid 0b9d6c1e/);
    archive[600] = (archive[600] as number) ^ 1;
    writeFileSync(join(home, 'b.tar'), archive);
    expect(() => run('b.tar', 'public.pem')).toThrow(/FAILED: /);
  });

  test('ends with 0, 1 and 2', async () => {
    const [file, pem] = [join(folder, 'x.tar'), join(folder, 'x.pem')];
    writeFileSync(file, await packed(sampleParts(), key));
    writeFileSync(pem, key.publicKey);
    expect((await runVerify([file, pem, `--evaluation=${UID}`])).lines.at(-1)).toBe('    not in it: attempts/1/summary.json (NotSent)');
    expect(await runVerify([file, pem, '--evaluation=another'])).toMatchObject({ code: 1, lines: [expect.stringMatching(/another evaluation/)] });
    expect(await runVerify([pem, pem])).toMatchObject({ code: 1 });
    for (const [bundle, key] of [['none.tar', 'none.pem'], ['x.tar', 'none.pem'], ['none.tar', 'x.tar'], ['x.tar', 'x.tar']] as const)
      expect(await runVerify([join(folder, bundle), join(folder, key)]), `${bundle} ${key}`).toMatchObject({ code: 2, lines: [expect.stringMatching(/^not checked: /)] });
    expect(await runVerify([join(folder, 'none.tar'), pem])).toMatchObject({ code: 2, lines: [expect.stringMatching(/ENOENT/)] });
    for (const args of [[], [file], [file, pem, 'more'], [file, pem, '--force']]) expect((await runVerify(args)).code).toBe(2);
  });
});
