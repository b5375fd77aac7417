import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArtifactAssembler, ARTIFACT_LIMITS, type ArtifactLimits, type ArtifactResult } from './artifacts.ts';
import { parseFrame } from './frames.ts';
import { encodeLines, type EncodedFile } from './testing/encoder.ts';

const sha = (data: Buffer) => createHash('sha256').update(data).digest('hex');

function feed(
  files: readonly EncodedFile[],
  change: (json: string, at: number) => string | undefined = (json) => json,
  limits: ArtifactLimits = ARTIFACT_LIMITS,
) {
  const assembler = new ArtifactAssembler(limits);
  const results: ArtifactResult[] = [];
  encodeLines([], { files, receipt: false, summary: false }).forEach((line, at) => {
    const frame = parseFrame(line.subarray(0, -1))!;
    const text = change(frame.text.toString(), at);
    if (text !== undefined) results.push(...assembler.feed(frame.seq, Buffer.from(text)));
  });
  results.push(...assembler.finish());
  return { results, totals: assembler.totals, assembler };
}

const reasons = (results: readonly ArtifactResult[]) =>
  results.map((result) => (result.kind === 'refused' ? result.reason : 'complete'));

describe('ArtifactAssembler', () => {
  it('returns each file exactly, with its verified hash', () => {
    const file = fc.record({
      path: fc.constantFrom('a', 'out/b.bin', '../x', '/etc/passwd'),
      data: fc.uint8Array({ maxLength: 20_000 }).map((data) => Buffer.from(data)),
    });
    fc.assert(
      fc.property(fc.array(file, { maxLength: 5 }), (files) => {
        const { results, totals } = feed(files);
        expect(
          results.map(
            (result) =>
              result.kind === 'complete' && [
                result.path,
                result.sha256,
                result.data.equals(files[results.indexOf(result)]!.data),
              ],
          ),
        ).toEqual(files.map(({ path, data }) => [path, sha(data), true]));
        expect(totals.complete).toBe(files.length > 0);
        expect(new Set(results.map((result) => result.seq)).size).toBe(results.length);
      }),
      { numRuns: 50 },
    );
  });

  const two = [
    { path: 'a', data: Buffer.alloc(10_000, 1) },
    { path: 'b', data: Buffer.from('fine') },
  ];

  it.each([
    [
      'a chunk that is not base64',
      (json: string, at: number) => (at === 0 ? json.replace(/"chunk":"..../, '"chunk":"!!!!') : json),
      /not base64/,
    ],
    ['a lost chunk', (json: string, at: number) => (at === 1 ? undefined : json), /announced/],
    ['changed content', (json: string, at: number) => (at === 0 ? json.replace('AQEB', 'AQEC') : json), /sha256/],
    ['a lost end', (json: string, at: number) => (at === 2 ? undefined : json), /last frame never came/],
    ['a changed path', (json: string, at: number) => (at === 1 ? json.replace('"a"', '"c"') : json), /path changed/],
    ['not JSON', (json: string, at: number) => (at === 1 ? '{' : json), /malformed/],
  ])('refuses a file with %s and keeps the next one', (_, change, reason) => {
    const { results, totals } = feed(two, change);
    expect(reasons(results)).toEqual([expect.stringMatching(reason), 'complete']);
    expect(totals).toMatchObject({ count: 1, refused: 1, complete: false });
  });

  it('refuses a file that loses a frame to a gap', () => {
    const assembler = new ArtifactAssembler();
    const lines = encodeLines([], { files: two.slice(0, 1), receipt: false, summary: false }).map((line) =>
      parseFrame(line.subarray(0, -1))!,
    );
    assembler.feed(1, lines[0]!.text);
    assembler.gap();
    expect(assembler.heldBytes).toBe(0);
    expect(reasons(assembler.feed(3, lines[2]!.text))).toEqual([expect.stringMatching(/lost/)]);
  });

  it('reports what the launcher refused', () => {
    const assembler = new ArtifactAssembler();
    const text = Buffer.from(JSON.stringify({ path: 'pipe\0', refused: 'a FIFO' }));
    expect(assembler.feed(7, text)).toEqual([{ kind: 'refused', seq: 7, path: 'pipe\uFFFD', reason: 'a FIFO' }]);
  });

  it('takes a refusal by the launcher as the end of a file, and of nothing else', () => {
    const given = { path: 'a', refused: 'it changed while it was read' };
    const { results, totals } = feed(two, (json, at) =>
      at === 1 ? undefined : at === 2 ? JSON.stringify(given) : json.replace('"count":2', '"count":1'),
    );
    expect(reasons(results)).toEqual([given.refused, 'complete']);
    expect(totals).toMatchObject({ count: 1, refused: 1, broken: 0, complete: true });
  });

  it('caps size, total and count, and the number of refusals it reports', () => {
    const limits = { maxFiles: 2, maxFileBytes: 100, maxTotalBytes: 150, maxPathBytes: 8 };
    const of = (path: string, length: number) => ({ path, data: Buffer.alloc(length) });
    expect(reasons(feed([of('a', 101), of('b', 5)], undefined, limits).results)).toEqual([
      expect.stringMatching(/larger than 100/),
      'complete',
    ]);
    expect(reasons(feed([of('a', 100), of('b', 100)], undefined, limits).results)).toEqual([
      'complete',
      expect.stringMatching(/together/),
    ]);
    const many = feed(
      Array.from({ length: 50 }, (_, at) => of(String(at), 1)),
      undefined,
      limits,
    );
    expect(reasons(many.results)).toEqual([
      'complete',
      'complete',
      expect.stringMatching(/more than 2/),
      expect.stringMatching(/more than 2/),
    ]);
    expect(many.totals.refused).toBe(48);
  });

  it.each(['', 'nul\0', 'lone\uD800', 'x'.repeat(9)])(
    'refuses the path %j, which no store could keep as it is',
    (path) => {
      const { results } = feed([{ path, data: Buffer.from('x') }], undefined, { ...ARTIFACT_LIMITS, maxPathBytes: 8 });
      expect(reasons(results)).toEqual([expect.stringMatching(/not storable/)]);
    },
  );

  it('never throws on any JSON', () => {
    fc.assert(
      fc.property(fc.array(fc.json(), { maxLength: 20 }), (texts) => {
        const assembler = new ArtifactAssembler();
        texts.forEach((text, at) => assembler.feed(at + 1, Buffer.from(text)));
        assembler.finish();
      }),
    );
  });
});
