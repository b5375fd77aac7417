import { appendFile, mkdtemp, open, readdir, readFile, rename, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { FrameDecoder, type Frame } from './frames.ts';
import { Spool, SpoolFull } from './spool.ts';

const KEY = { evaluationUid: 'e', attempt: 1, podUid: 'p' };
const frame = (seq: number): Frame => ({ seq, kind: 'stdout', text: Buffer.of(0, 255, seq), newline: seq % 2 === 0 });

describe('Spool', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'crucible-spool-'));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  async function spool(maxBytes = 1e6): Promise<Spool> {
    const made = new Spool(join(directory, 'spool'), maxBytes);
    await made.open();
    return made;
  }

  async function contents(of: Spool): Promise<Frame[]> {
    const found: Frame[] = [];
    for (const path of await of.files(KEY)) {
      const decoder = new FrameDecoder();
      for await (const chunk of of.read(path))
        for (const entry of decoder.push(chunk)) found.push({ ...entry, text: Buffer.from(entry.text) });
    }
    return found;
  }

  it('gives back what was appended, in another process too', async () => {
    const first = await spool();
    await first.append(KEY, [frame(1), frame(2)]);
    await first.append(KEY, [frame(3)]);
    await first.append({ ...KEY, attempt: 2 }, [frame(9)]);
    const second = await spool();
    expect(await contents(second)).toEqual([frame(1), frame(2), frame(3)]);
    expect(second.bytes).toBe(first.bytes);
    for (const path of await second.files(KEY)) await second.remove(path);
    expect(await contents(second)).toEqual([]);
  });

  it('loses at most the torn line after a crash, also when more is appended', async () => {
    const first = await spool();
    await first.append(KEY, [frame(1)]);
    const [path] = await first.files(KEY);
    await appendFile(path!, '2 o|to');
    await (await spool()).append(KEY, [frame(2), frame(3)]);
    const found = await contents(first);
    expect(found.map(({ seq }) => seq).sort()).toEqual([1, 2, 3]);
    expect(found.find(({ seq }) => seq === 2)).toEqual(frame(2));
  });

  it('refuses when it is full and keeps what it has', async () => {
    const small = await spool(40);
    await small.append(KEY, [frame(1), frame(2)]);
    expect(small.bytes).toBeGreaterThan(10);
    await expect(
      small.append(
        KEY,
        Array.from({ length: 9 }, (_, at) => frame(at + 3)),
      ),
    ).rejects.toThrow(SpoolFull);
    expect(await contents(small)).toHaveLength(2);
  });

  it('has room again when another process has removed its files', async () => {
    const [mine, other] = [await spool(40), await spool(40)];
    await mine.append(KEY, [frame(1), frame(2), frame(3), frame(4)]);
    await expect(mine.append(KEY, [frame(5), frame(6)])).rejects.toThrow(SpoolFull);
    for (const path of await other.files(KEY)) await other.remove(path);
    await mine.append(KEY, [frame(5), frame(6)]);
    expect((await spool()).bytes).toBe(mine.bytes);
  });

  it('holds no more than it may because it has removed the files of another process', async () => {
    const [mine, other] = [await spool(40), await spool(40)];
    await other.append({ ...KEY, attempt: 2 }, [frame(1), frame(2), frame(3)]);
    await mine.append(KEY, [frame(1), frame(2), frame(3)]);
    for (const path of await mine.files({ ...KEY, attempt: 2 })) await mine.remove(path);
    const now = performance.now();
    const clock = vi.spyOn(performance, 'now').mockReturnValue(now + 61_000);
    onTestFinished(() => clock.mockRestore());
    await expect(mine.append(KEY, [frame(4), frame(5), frame(6)])).rejects.toThrow(SpoolFull);
    expect((await spool()).bytes).toBe(mine.bytes);
  });

  it('counts what is on disk after a failed append, not what should have been', async () => {
    const made = await spool();
    await made.append({ ...KEY, attempt: 2 }, [frame(1)]);
    const kept = made.bytes;
    await rename(join(directory, 'spool'), join(directory, 'away'));
    for (let tries = 0; tries < 3; tries += 1) await expect(made.append(KEY, [frame(1), frame(2)])).rejects.toThrow('ENOENT');
    expect(made.bytes).toBe(kept);
    await rename(join(directory, 'away'), join(directory, 'spool'));
    await made.append(KEY, [frame(1)]);
    expect((await spool()).bytes).toBe(made.bytes);
  });

  it('counts the part of a failed append that is on disk', async () => {
    const made = await spool();
    await made.append(KEY, [frame(1)]);
    const probe = await open(join(directory, 'probe'), 'w');
    const failing = vi.spyOn(Object.getPrototypeOf(probe) as FileHandle, 'datasync').mockRejectedValueOnce(new Error('EIO'));
    await expect(made.append(KEY, [frame(2)])).rejects.toThrow('EIO');
    failing.mockRestore();
    await probe.close();
    expect((await spool()).bytes).toBe(made.bytes);
  });

  it('never uses a word of a pod as a path', async () => {
    const made = await spool();
    await made.append({ evaluationUid: '../../x', attempt: 1, podUid: '/etc/passwd' }, [frame(1)]);
    expect(await readdir(directory)).toEqual(['spool']);
    expect((await readdir(join(directory, 'spool')))[0]).toMatch(/^[0-9a-f]{64}\.[0-9a-f]{12}\.frames$/);
  });

  it('counts what is there and ignores other files', async () => {
    const first = await spool();
    await first.append(KEY, [frame(1)]);
    await writeFile(join(directory, 'spool', 'note.txt'), 'x'.repeat(1000));
    const [path] = await first.files(KEY);
    expect((await spool()).bytes).toBe((await readFile(path!)).length);
  });
});
