import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DirectoryFileStore } from './directory-files.ts';
import { IntegrityError, LimitError, NotFoundError, UnavailableError } from './errors.ts';

let directory: string;
let store: DirectoryFileStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'crucible-files-'));
  store = new DirectoryFileStore({ directory, maxFileBytes: 12_000_000 });
});

afterEach(() => rm(directory, { recursive: true }));

const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');
const pathOf = (sha: string) => join(directory, sha.slice(0, 2), sha.slice(2));

async function* pieces(data: Buffer, size: number): AsyncIterable<Buffer> {
  for (let offset = 0; offset < data.length; offset += size) yield data.subarray(offset, offset + size);
}

async function listed(): Promise<string[]> {
  const found: string[] = [];
  for await (const { sha256: name } of store.list()) found.push(name);
  return found.sort();
}

test('10 MB in pieces come back unchanged, whole and streamed', async () => {
  const data = randomBytes(10_000_000);
  const stored = await store.put(pieces(data, 77_777), { sha256: sha256(data) });
  expect(stored).toEqual({ sha256: sha256(data), size: data.length });
  expect((await store.read(stored.sha256)).equals(data)).toBe(true);
  expect(await store.stat(stored.sha256)).toMatchObject({ size: data.length });
  expect((await stat(pathOf(stored.sha256))).mode & 0o777).toBe(0o640);
  expect(await readdir(join(directory, 'tmp'))).toEqual([]);
});

test('the same content twice, at once, is one object; empty content is one too', async () => {
  const data = Buffer.from('same');
  await Promise.all(Array.from({ length: 10 }, () => store.put(data)));
  const empty = await store.put(new Uint8Array());
  expect(await listed()).toEqual([sha256(data), empty.sha256].sort());
  expect(await store.read(empty.sha256)).toHaveLength(0);
});

test('damage is detected, and healed by the next put', async () => {
  const data = randomBytes(600_000);
  const { sha256: name } = await store.put(data);
  const changed = Buffer.from(data);
  changed[300_000] = (changed[300_000] ?? 0) ^ 1;
  await writeFile(pathOf(name), changed);
  await expect(store.read(name)).rejects.toThrow(IntegrityError);
  await truncate(pathOf(name), 10);
  await expect(store.read(name)).rejects.toThrow(IntegrityError);
  await store.put(data);
  expect((await store.read(name)).equals(data)).toBe(true);
});

test('too large, other than promised, or a source that fails: nothing is left', async () => {
  await expect(store.put(Buffer.alloc(12_000_001))).rejects.toThrow(LimitError);
  await expect(store.put(Buffer.from('a'), { sha256: sha256(Buffer.from('b')) })).rejects.toThrow(IntegrityError);
  const failing = (async function* () {
    yield Buffer.from('begin');
    throw new Error('source');
  })();
  await expect(store.put(failing)).rejects.toThrow('source');
  expect(await readdir(join(directory, 'tmp'))).toEqual([]);
  expect(await listed()).toEqual([]);
});

test('what a killed writer left is swept once it is old; objects are not', async () => {
  const { sha256: kept } = await store.put(Buffer.from('kept'));
  const [old, fresh] = [join(directory, 'tmp', 'old'), join(directory, 'tmp', 'fresh')];
  await writeFile(old, 'half');
  await writeFile(fresh, 'half');
  const now = new Date();
  await utimes(old, now, new Date(now.getTime() - 7_200_000));
  expect(await store.sweepTemporary(3600, now)).toBe(1);
  expect(await readdir(join(directory, 'tmp'))).toEqual(['fresh']);
  expect(await listed()).toEqual([kept]);
});

test('only a sha256 is a name', async () => {
  for (const name of ['../../etc/passwd', '', 'A'.repeat(64), `${'a'.repeat(63)}/`, '..'.padEnd(64, '/'), `${'a'.repeat(64)}\n`]) {
    await expect(store.read(name)).rejects.toThrow(RangeError);
    await expect(store.has(name)).rejects.toThrow(RangeError);
    await expect(store.delete(name)).rejects.toThrow(RangeError);
  }
});

test('absent content, and a store that is not there', async () => {
  const absent = 'a'.repeat(64);
  await expect(store.read(absent)).rejects.toThrow(NotFoundError);
  expect([await store.stat(absent), await store.has(absent), await store.delete(absent)]).toEqual([undefined, false, false]);
  const { sha256: name } = await store.put(Buffer.from('x'));
  expect([await store.delete(name), await store.has(name)]).toEqual([true, false]);
  const nowhere = new DirectoryFileStore({ directory: join(directory, 'nowhere') });
  await expect(nowhere.put(Buffer.from('x'))).rejects.toThrow(UnavailableError);
});
