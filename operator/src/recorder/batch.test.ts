import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildBatch, MAX_CHUNK_BYTES } from './batch.ts';
import type { Frame, FrameKind } from './frames.ts';

const NO_LIMITS = { bytesLeft: 1e9, rangesLeft: 1000 };
const frame = (seq: number, kind: FrameKind, text = `${seq}`, newline = true): Frame => ({
  seq,
  kind,
  text: Buffer.from(text),
  newline,
});

const frames = fc
  .array(
    fc.tuple(
      fc.integer({ min: 1, max: 3 }),
      fc.constantFrom<FrameKind>('stdout', 'stderr', 'artifact'),
      fc.string({ maxLength: 8 }),
      fc.boolean(),
    ),
    { maxLength: 40 },
  )
  .map((steps) => {
    let seq = 0;
    return steps.map(([step, kind, text, newline]) => frame((seq += step), kind, text, kind === 'artifact' || newline));
  });

describe('buildBatch', () => {
  it('keeps every byte in order, spans no hole, and names every number it does not keep', () => {
    fc.assert(
      fc.property(frames, fc.nat(5), (input, afterSeq) => {
        const batch = buildBatch(input, afterSeq, NO_LIMITS);
        const taken = input.filter(({ seq }) => seq > afterSeq);
        for (const stream of ['stdout', 'stderr'] as const) {
          const expected = taken
            .filter(({ kind }) => kind === stream)
            .map(({ text, newline }) => text.toString() + (newline ? '\n' : ''));
          const own = batch.chunks.filter((chunk) => chunk.stream === stream);
          expect(own.map((chunk) => Buffer.from(chunk.data).toString()).join('')).toBe(expected.join(''));
          expect(own.reduce((sum, chunk) => sum + chunk.lines, 0)).toBe(expected.join('').split('\n').length - 1);
        }
        const missing = new Set(
          batch.missing.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, at) => from + at)),
        );
        const present = new Set(taken.map(({ seq }) => seq));
        for (let seq = afterSeq + 1; seq <= batch.lastSeq; seq += 1) expect(missing.has(seq)).toBe(!present.has(seq));
        for (const chunk of batch.chunks)
          for (const seq of missing) expect(seq < chunk.firstSeq || seq > chunk.lastSeq).toBe(true);
      }),
    );
  });

  it('makes no chunk larger than storage takes, and none that is empty', () => {
    const big = Array.from({ length: 30 }, (_, at) => frame(at + 1, 'stdout', 'x'.repeat(8191)));
    const { chunks } = buildBatch([...big, frame(31, 'stderr', '', false)], 0, NO_LIMITS);
    expect(Math.max(...chunks.map((chunk) => chunk.data.length))).toBeLessThanOrEqual(MAX_CHUNK_BYTES);
    expect(chunks.map(({ firstSeq, lastSeq }) => [firstSeq, lastSeq])).toEqual([
      [1, 8],
      [9, 16],
      [17, 24],
      [25, 30],
    ]);
  });

  it('names what exceeds the byte limit as missing', () => {
    const batch = buildBatch([frame(1, 'stdout', 'abc'), frame(2, 'stdout', 'def'), frame(3, 'summary', '{}')], 0, {
      bytesLeft: 5,
      rangesLeft: 9,
    });
    expect(batch).toMatchObject({ lastSeq: 3, missing: [{ from: 2, to: 2 }] });
    expect(Buffer.concat(batch.chunks.map((chunk) => chunk.data)).toString()).toBe('abc\n');
  });

  it('bounds the number of holes that a forged sequence can make', () => {
    const odd = Array.from({ length: 1000 }, (_, at) => frame(2 * at + 2, at % 2 ? 'artifact' : 'stdout'));
    const { missing, lastSeq } = buildBatch(odd, 0, { bytesLeft: 1e9, rangesLeft: 10 });
    expect(missing.length).toBeLessThanOrEqual(11);
    expect(missing.at(-1)).toMatchObject({ to: lastSeq });
  });

  it('goes on behind what is stored', () => {
    expect(buildBatch([frame(1, 'stdout'), frame(2, 'stdout')], 2, NO_LIMITS)).toEqual({
      afterSeq: 2,
      lastSeq: 2,
      missing: [],
      chunks: [],
    });
  });
});
