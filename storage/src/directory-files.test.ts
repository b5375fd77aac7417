import { mkdir, mkdtemp, open, readdir, rm, stat, utimes, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { DirectoryFileStore } from './directory-files.ts';
import { fileStoreSuite, listed, sha256, SUITE_MAX_FILE_BYTES } from './file-store-suite.ts';

const pathOf = (directory: string, sha: string) => join(directory, sha.slice(0, 2), sha.slice(2));

describe('a directory', () => {
  fileStoreSuite(async () => {
    const directory = await mkdtemp(join(tmpdir(), 'crucible-files-'));
    return {
      store: new DirectoryFileStore({ directory, maxFileBytes: SUITE_MAX_FILE_BYTES }),
      away: new DirectoryFileStore({ directory: join(directory, 'nowhere') }),
      overwrite: (name, data) => writeFile(pathOf(directory, name), data),
      everything: async () => {
        const entries = await readdir(directory, { recursive: true, withFileTypes: true });
        return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
      },
      close: () => rm(directory, { recursive: true }),
    };
  });
});

describe('only a directory', () => {
  let directory: string;
  let store: DirectoryFileStore;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'crucible-files-'));
    store = new DirectoryFileStore({ directory });
  });
  afterEach(() => rm(directory, { recursive: true }));

  test('a directory that somebody made and may not have synced is on disk before a put returns; once is enough', async () => {
    const [data, root] = [Buffer.from('x'), await stat(directory)];
    await mkdir(join(directory, sha256(data).slice(0, 2)));
    const probe = await open(join(directory, 'probe'), 'w');
    const handles = Object.getPrototypeOf(probe) as FileHandle;
    const { sync } = handles;
    let syncs = 0;
    const spy = vi.spyOn(handles, 'sync').mockImplementation(async function (this: FileHandle) {
      if ((await this.stat()).ino === root.ino) syncs += 1;
      return await sync.call(this);
    });
    await mkdir(join(directory, 'tmp'));
    await store.put(data);
    const first = syncs;
    await store.put(data);
    spy.mockRestore();
    await probe.close();
    expect([first, syncs]).toEqual([2, 2]);
  });

  test('the group may read, others nothing', async () => {
    const data = Buffer.from('x');
    await store.put(data);
    expect((await stat(pathOf(directory, sha256(data)))).mode & 0o777).toBe(0o640);
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
    expect(await listed(store)).toEqual([kept]);
  });

  test('putting again makes an object new, so that no sweep takes it for an orphan', async () => {
    const { sha256: name } = await store.put(Buffer.from('again'));
    const long = new Date(Date.now() - 86_400_000);
    await utimes(pathOf(directory, name), long, long);
    await store.put(Buffer.from('again'));
    expect((await store.stat(name))?.modifiedAt.getTime()).toBeGreaterThan(long.getTime() + 80_000_000);
  });
});
