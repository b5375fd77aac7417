// What every file store must do, run on each implementation by its own test file.
import { createHash, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { IntegrityError, LimitError, NotFoundError, UnavailableError } from './errors.ts';
import type { FileStore } from './files.ts';

export const SUITE_MAX_FILE_BYTES = 12_000_000;

export interface StoreUnderTest {
  /** With a limit of SUITE_MAX_FILE_BYTES for one object. */
  readonly store: FileStore;
  /** A store of the same kind whose medium is not there. */
  readonly away: FileStore;
  /** Replaces the stored bytes behind the store's back. */
  overwrite(sha256: string, data: Uint8Array): Promise<void>;
  /** Names of everything below the store's root, finished or not. */
  everything(): Promise<string[]>;
  close(): Promise<void>;
}

export const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

async function* pieces(data: Buffer, size: number): AsyncIterable<Buffer> {
  for (let offset = 0; offset < data.length; offset += size) yield data.subarray(offset, offset + size);
}

export async function listed(store: FileStore): Promise<string[]> {
  const found: string[] = [];
  for await (const { sha256: name } of store.list()) found.push(name);
  return found.sort();
}

export function fileStoreSuite(create: () => Promise<StoreUnderTest>): void {
  let under: StoreUnderTest;
  let store: FileStore;

  beforeEach(async () => {
    under = await create();
    store = under.store;
  });
  afterEach(() => under.close());

  test('10 MB in pieces come back unchanged, whole and streamed', async () => {
    const data = randomBytes(10_000_000);
    const before = Date.now();
    const stored = await store.put(pieces(data, 77_777), { sha256: sha256(data) });
    expect(stored).toEqual({ sha256: sha256(data), size: data.length });
    expect((await store.read(stored.sha256)).equals(data)).toBe(true);
    const info = await store.stat(stored.sha256);
    expect(info).toMatchObject({ sha256: stored.sha256, size: data.length });
    // Whole seconds in S3.
    expect(info?.modifiedAt.getTime()).toBeGreaterThanOrEqual(before - 2_000);
    expect(await under.everything()).toHaveLength(1);
  });

  test('every byte value, also in a view of a larger buffer', async () => {
    const all = Buffer.from(Array.from({ length: 1024 }, (_, at) => at % 256));
    const view = all.subarray(100, 900);
    const stored = await store.put(view);
    expect(stored).toEqual({ sha256: sha256(view), size: 800 });
    expect((await store.read(stored.sha256)).equals(view)).toBe(true);
  });

  test('the same content twice, at once, is one object; empty content is one too', async () => {
    const data = Buffer.from('same');
    await Promise.all(Array.from({ length: 10 }, () => store.put(data)));
    const empty = await store.put(new Uint8Array());
    expect(await listed(store)).toEqual([sha256(data), empty.sha256].sort());
    expect(await store.read(empty.sha256)).toHaveLength(0);
    expect((await store.read(sha256(data))).toString()).toBe('same');
  });

  test('damage is detected, and healed by the next put', async () => {
    const data = randomBytes(600_000);
    const { sha256: name } = await store.put(data);
    const changed = Buffer.from(data);
    changed[300_000] = (changed[300_000] ?? 0) ^ 1;
    for (const wrong of [changed, data.subarray(0, 10), Buffer.concat([data, data])]) {
      await under.overwrite(name, wrong);
      await expect(store.read(name)).rejects.toThrow(IntegrityError);
      await store.put(data);
      expect((await store.read(name)).equals(data)).toBe(true);
    }
  });

  test('a reader that stops early gets no error and leaves the store usable', async () => {
    const data = randomBytes(3_000_000);
    const { sha256: name } = await store.put(data);
    for (let turn = 0; turn < 60; turn += 1) {
      for await (const piece of store.stream(name)) {
        expect(piece.length).toBeGreaterThan(0);
        break;
      }
    }
    expect((await store.read(name)).equals(data)).toBe(true);
  });

  test('too large, other than promised, or a source that fails: nothing is left', async () => {
    await expect(store.put(Buffer.alloc(SUITE_MAX_FILE_BYTES + 1))).rejects.toThrow(LimitError);
    await expect(store.put(pieces(Buffer.alloc(SUITE_MAX_FILE_BYTES + 1), 1_000_000))).rejects.toThrow(LimitError);
    await expect(store.put(Buffer.from('a'), { sha256: sha256(Buffer.from('b')) })).rejects.toThrow(IntegrityError);
    const failing = (async function* () {
      yield Buffer.from('begin');
      throw new Error('source');
    })();
    await expect(store.put(failing)).rejects.toThrow('source');
    expect(await under.everything()).toEqual([]);
  });

  test('only a sha256 is a name', async () => {
    const names = ['../../etc/passwd', '', 'A'.repeat(64), `${'a'.repeat(63)}/`, '..'.padEnd(64, '/'), `${'a'.repeat(64)}\n`];
    for (const name of names) {
      await expect(store.read(name)).rejects.toThrow(RangeError);
      await expect(store.has(name)).rejects.toThrow(RangeError);
      await expect(store.delete(name)).rejects.toThrow(RangeError);
    }
  });

  test('what is absent', async () => {
    const absent = 'a'.repeat(64);
    await expect(store.read(absent)).rejects.toThrow(NotFoundError);
    expect([await store.stat(absent), await store.has(absent), await store.delete(absent)]).toEqual([undefined, false, false]);
    const { sha256: name } = await store.put(Buffer.from('x'));
    expect([await store.delete(name), await store.has(name)]).toEqual([true, false]);
    await expect(store.read(name)).rejects.toThrow(NotFoundError);
  });

  test('list names every object once, and nothing that is not ours', async () => {
    const names = await Promise.all(Array.from({ length: 30 }, (_, at) => store.put(Buffer.from(`content ${at}`))));
    const found = await listed(store);
    expect(found).toEqual(names.map((stored) => stored.sha256).sort());
  });

  test('a medium that is away is unavailable, not empty', async () => {
    await expect(under.away.put(Buffer.from('x'))).rejects.toThrow(UnavailableError);
    await expect(listed(under.away)).rejects.toThrow(UnavailableError);
  });
}
