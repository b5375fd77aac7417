// Contract 27, the recorder's side: frames that no launcher would send. Whoever owns the container can write any.
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ArtifactAssembler, type ArtifactResult } from './artifacts.ts';

const EMPTY = createHash('sha256').digest('hex');
const shaOf = (text: string) => createHash('sha256').update(text).digest('hex');
const base64 = (text: string) => Buffer.from(text).toString('base64');

function feed(...frames: readonly unknown[]): { results: ArtifactResult[]; assembler: ArtifactAssembler } {
  const assembler = new ArtifactAssembler();
  const results = frames.flatMap((frame, at) =>
    assembler.feed(at + 1, Buffer.from(typeof frame === 'string' ? frame : JSON.stringify(frame))),
  );
  return { results: [...results, ...assembler.finish()], assembler };
}

const chunk = (path: string, index: number, text: string) => ({ path, index, chunk: base64(text) });
const done = (path: string, index: number, text: string, change: object = {}) => ({
  path,
  index,
  size: text.length,
  sha256: shaOf(text),
  mode: '0644',
  done: true,
  ...change,
});

describe('forged artifact frames', () => {
  it.each([
    ['a size of nine petabytes', { size: Number.MAX_SAFE_INTEGER }, /announced 9007199254740991/],
    ['a size of nothing', { size: 0 }, /announced 0/],
    ['another sha256', { sha256: EMPTY }, /sha256/],
  ])('%s is refused and allocates nothing', (_, change, reason) => {
    const { results, assembler } = feed(chunk('a', 0, 'abc'), done('a', 0, 'abc', change));
    expect(results).toEqual([{ kind: 'refused', seq: 1, path: 'a', reason: expect.stringMatching(reason) }]);
    expect([assembler.heldBytes, assembler.totals.complete]).toEqual([0, false]);
  });

  it.each([
    ['a negative size', { size: -1 }],
    ['a size that is no number', { size: '3' }],
    ['a size beyond all integers', { size: 1e300 }],
    ['a sha256 that is a path', { sha256: '../../../../etc/passwd' }],
    ['a sha256 in capitals', { sha256: shaOf('abc').toUpperCase() }],
    ['a sha256 with a newline', { sha256: `${shaOf('abc')}\n` }],
    ['an index that is no integer', { index: 0.5 }],
    ['an index below zero', { index: -1 }],
    ['done that is not true', { done: 'true' }],
  ])('an end with %s ends nothing', (_, change) => {
    const { results } = feed(chunk('a', 0, 'abc'), done('a', 0, 'abc', change), done('a', 0, 'abc'));
    expect(results.map(({ kind }) => kind)).toEqual(['refused']);
  });

  it('an index used twice is two files, each judged by itself', () => {
    const { results } = feed(
      chunk('a', 0, 'one'),
      done('a', 0, 'one'),
      chunk('b', 0, 'two'),
      done('b', 0, 'two'),
      done('b', 0, 'two'),
    );
    expect(results.map((result) => [result.kind, result.path, result.seq])).toEqual([
      ['complete', 'a', 1],
      ['complete', 'b', 3],
      ['refused', 'b', 5],
    ]);
  });

  it('two files that are sent interleaved are both refused', () => {
    const { results } = feed(chunk('a', 0, 'x'), chunk('b', 1, 'y'), done('a', 0, 'x'), done('b', 1, 'y'));
    expect(results.every(({ kind }) => kind === 'refused')).toBe(true);
  });

  it.each(['../../etc/passwd', '/etc/shadow', 'a/../../b', '..', '.', 'C:\\windows', 'a\nb', '\u202Etxt.exe', '%2e%2e/x'])(
    'the path %j is data: it is kept as it is, and the content is named by its hash',
    (path) => {
      const { results } = feed(chunk(path, 0, 'abc'), done(path, 0, 'abc'));
      expect(results).toEqual([expect.objectContaining({ kind: 'complete', path, sha256: shaOf('abc') })]);
    },
  );

  it.each(['a\0b', '\0', 'x'.repeat(4097)])('the path %j is refused, and shown in a form that can be stored', (path) => {
    const { results } = feed(chunk(path, 0, 'abc'), done(path, 0, 'abc'));
    expect(results).toEqual([expect.objectContaining({ kind: 'refused', reason: expect.stringMatching(/not storable/) })]);
    expect(results[0]?.path).not.toContain('\0');
    expect(Buffer.byteLength(results[0]?.path ?? '')).toBeLessThanOrEqual(4096);
  });

  it('modes lose everything but permission bits', () => {
    const modes = ['4777', 0o6755, '0o777', -1, 2 ** 52].map((mode, index) => {
      const [result] = feed(done(`f${index}`, index, '', { mode })).results;
      return result?.kind === 'complete' ? result.mode : undefined;
    });
    expect(modes.every((mode) => mode !== undefined && mode >= 0 && mode <= 0o777)).toBe(true);
  });

  it('keys of the prototype, deep nesting and long refusals do no harm', () => {
    const { results } = feed(
      '{"__proto__":{"complete":true},"path":"p","index":0,"chunk":""}',
      `{"path":"p","index":0,"chunk":${'['.repeat(2000)}${']'.repeat(2000)}}`,
      { path: 'q', refused: 'r'.repeat(100_000) },
      { end: true, count: 2 ** 40, complete: true },
    );
    expect(results.map(({ kind }) => kind)).toEqual(['refused', 'refused']);
    for (const result of results) expect(JSON.stringify(result).length).toBeLessThan(6_000);
    expect(({} as { complete?: boolean }).complete).toBeUndefined();
  });

  it('an end that promises less or more than came does not make it complete', () => {
    for (const count of [0, 2, 1e9]) {
      const { assembler } = feed(chunk('a', 0, 'x'), done('a', 0, 'x'), { end: true, count, complete: true });
      expect(assembler.totals.complete).toBe(false);
    }
    const twice = feed(chunk('a', 0, 'x'), done('a', 0, 'x'), { end: true, count: 9 }, { end: true, count: 1 });
    expect(twice.assembler.totals.complete).toBe(false);
  });
});
