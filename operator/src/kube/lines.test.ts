import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineSplitter, LineTooLongError } from './lines.ts';

function split(chunks: Uint8Array[], max = 1000): { lines: string[]; pending: number } {
  const splitter = new LineSplitter(max);
  const lines = chunks.flatMap((chunk) => [...splitter.push(chunk)].map((line) => line.toString('utf8')));
  return { lines, pending: splitter.pendingBytes };
}

describe('LineSplitter', () => {
  it('gives the same lines wherever the chunks end, also within a character', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'grapheme' }).map((s) => s.replaceAll('\n', ''))),
        fc.array(fc.nat(200)),
        (texts, cuts) => {
          const bytes = Buffer.from(texts.map((text) => `${text}\n`).join(''));
          const at = [...new Set(cuts.map((cut) => Math.min(cut, bytes.length)))].sort((a, b) => a - b);
          const chunks = [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length));
          expect(split(chunks, 100_000)).toEqual({ lines: texts, pending: 0 });
        },
      ),
    );
  });

  it('keeps what has no end yet', () => {
    expect(split([Buffer.from('a\nbc')])).toEqual({ lines: ['a'], pending: 2 });
  });

  it('does not hold on to the chunk of a line it gave away', () => {
    const chunk = Buffer.from('abc\n');
    const [line] = [...new LineSplitter(10).push(chunk)];
    chunk.fill(0);
    expect(line!.toString()).toBe('abc');
  });

  it('refuses a line that grows beyond its limit, before it has ended', () => {
    expect(() => split([Buffer.alloc(6, 'a'), Buffer.alloc(5, 'a')], 10)).toThrow(LineTooLongError);
    expect(split([Buffer.from(`${'a'.repeat(10)}\n${'b'.repeat(10)}\n`)], 10).lines).toHaveLength(2);
  });
});
