import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { contentLength, DECODER_LIMITS, encodeFrame, type Frame, FrameDecoder, LF, parseFrame } from './frames.ts';
import { Sequencer } from './sequencer.ts';
import { encode, type Produced, streamOf } from './testing/encoder.ts';

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((data) => Buffer.from(data));
const writes = fc.array(
  fc.record({
    stream: fc.constantFrom<Produced['stream']>('stdout', 'stderr'),
    data: fc.oneof(
      { weight: 6, arbitrary: bytes(60) },
      {
        weight: 3,
        arbitrary: fc
          .array(bytes(20), { maxLength: 5 })
          .map((parts) => Buffer.concat(parts.flatMap((part) => [part, Buffer.of(LF)]))),
      },
      { weight: 1, arbitrary: fc.integer({ min: 8_000, max: 40_000 }).map((length) => Buffer.alloc(length, 'x')) },
    ),
  }),
  { maxLength: 20 },
);

/** Cuts data at the given fractions; each piece is a copy that is overwritten after use, as a socket buffer may be. */
function* pieces(data: Buffer, cuts: readonly number[]): Generator<Buffer> {
  const points = [...cuts.map((cut) => Math.floor(cut * data.length)), 0, data.length].sort((a, b) => a - b);
  for (let at = 1; at < points.length; at += 1) {
    const piece = Buffer.from(data.subarray(points[at - 1]!, points[at]!));
    yield piece;
    piece.fill(0xff);
  }
}

interface Assembled {
  stdout: Buffer;
  stderr: Buffer;
  last: number;
  gaps: object;
}

/** Reads the passes one after the other into one sequencer, as a follower that reconnects does. */
function read(passes: readonly Iterable<Buffer>[]): Assembled {
  const sequencer = new Sequencer();
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  for (const pass of passes) {
    const decoder = new FrameDecoder();
    for (const chunk of pass) {
      for (const frame of decoder.push(chunk)) {
        if (sequencer.accept(frame.seq) !== 'new') continue;
        if (frame.kind !== 'stdout' && frame.kind !== 'stderr') continue;
        parts[frame.kind].push(Buffer.from(frame.text), Buffer.alloc(frame.newline ? 1 : 0, LF));
      }
    }
    decoder.end();
  }
  return {
    stdout: Buffer.concat(parts.stdout),
    stderr: Buffer.concat(parts.stderr),
    last: sequencer.lastSeq,
    gaps: sequencer.gaps.toJSON(),
  };
}

const fraction = fc.double({ min: 0, max: 1, noNaN: true });
const cuts = fc.array(fraction, { maxLength: 30 });

describe('FrameDecoder', () => {
  it('reassembles both streams byte for byte, however the log is cut into chunks', () => {
    fc.assert(
      fc.property(writes, cuts, (produced, at) => {
        const result = read([pieces(encode(produced), at)]);
        expect(result.stdout.equals(streamOf(produced, 'stdout'))).toBe(true);
        expect(result.stderr.equals(streamOf(produced, 'stderr'))).toBe(true);
        expect(result.gaps).toEqual([]);
      }),
    );
  });

  it('yields the same after a cut at any byte and a second read from the start', () => {
    fc.assert(
      fc.property(writes, fc.array(fraction, { minLength: 1, maxLength: 4 }), cuts, (produced, ends, at) => {
        const log = encode(produced);
        const passes = ends.map((end) => pieces(log.subarray(0, Math.floor(end * log.length)), at));
        expect(read([...passes, pieces(log, at)])).toEqual(read([[log]]));
      }),
    );
  });

  it("holds a line that is cut in memory of its own: of Node's pool it would keep 64 KiB for each log", () => {
    const decoder = new FrameDecoder();
    expect([...decoder.push(Buffer.from('1 o|half a '))]).toEqual([]);
    const [frame] = [...decoder.push(Buffer.from('line\n2 o|and'))];
    expect(frame?.text.toString()).toBe('half a line');
    expect(frame?.text.buffer.byteLength).toBeLessThan(64);
  });

  it('survives garbage, and holds no more than one line', () => {
    const almost = fc.tuple(
      fc.constantFrom('1', '0', '01', '7', '199999', '999999999999999999', '-1', ''),
      fc.constantFrom(' ', '  ', ''),
      fc.constantFrom('o|', 'o+', 's+', 'x|', 'a', ''),
      bytes(40),
    );
    const line = fc.oneof(
      bytes(200),
      almost.map(([seq, gap, mark, rest]) => Buffer.concat([Buffer.from(seq + gap + mark), rest])),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 40 }), cuts, (lines, at) => {
        const log = Buffer.concat(lines.flatMap((entry) => [entry, Buffer.of(LF)]));
        const decoder = new FrameDecoder({ maxLineBytes: 64, maxSeq: 200_000 });
        for (const piece of pieces(log, at)) {
          for (const frame of decoder.push(piece)) {
            expect(frame.seq).toBeGreaterThan(0);
            expect(frame.seq).toBeLessThanOrEqual(200_000);
            expect(frame.text.length).toBeLessThanOrEqual(64);
            expect(frame.text.includes(LF)).toBe(false);
          }
        }
        decoder.end();
        const { frames, foreignLines, oversizedLines, unterminatedBytes } = decoder.stats;
        expect(frames + foreignLines + oversizedLines).toBe(log.filter((byte) => byte === LF).length);
        expect(unterminatedBytes).toBe(0);
      }),
    );
  });

  it('accounts for every byte it read', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            bytes(300),
            writes.map((produced) => encode(produced)),
          ),
          { maxLength: 8 },
        ),
        cuts,
        (parts, at) => {
          const log = Buffer.concat(parts);
          const decoder = new FrameDecoder({ maxLineBytes: 100, maxSeq: 200_000 });
          let framed = 0;
          for (const piece of pieces(log, at))
            for (const frame of decoder.push(piece)) framed += encodeFrame(frame).length;
          decoder.end();
          const { stats } = decoder;
          expect(stats.bytes).toBe(log.length);
          expect(framed + stats.foreignBytes + stats.oversizedBytes + stats.unterminatedBytes).toBe(log.length);
        },
      ),
    );
  });

  it('drops a line over the cap, keeps the next one, and the sequence shows what is missing', () => {
    const log = Buffer.concat([
      Buffer.from('1 o|a\n2 o|'),
      Buffer.alloc(DECODER_LIMITS.maxLineBytes * 3, 'x'),
      Buffer.from('\n3 o|c\n'),
    ]);
    for (const step of [1, 1000, log.length]) {
      const chunks = Array.from({ length: Math.ceil(log.length / step) }, (_, at) =>
        log.subarray(at * step, (at + 1) * step),
      );
      const result = read([chunks]);
      expect(result.stdout.toString()).toBe('a\nc\n');
      expect(result.gaps).toEqual([{ from: 2, to: 2 }]);
    }
  });

  it('accepts the longest frame and not one byte more', () => {
    const frameOf = (length: number) => [
      ...new FrameDecoder({ maxLineBytes: 20, maxSeq: 9 }).push(Buffer.from(`1 o|${'x'.repeat(length - 4)}\n`)),
    ];
    expect(frameOf(20)).toHaveLength(1);
    expect(frameOf(21)).toHaveLength(0);
  });

  it('does not take a line without its line feed for a frame', () => {
    const decoder = new FrameDecoder();
    expect([...decoder.push(Buffer.from('1 o|a\n2 o|cut he'))]).toHaveLength(1);
    decoder.end();
    expect(decoder.stats.unterminatedBytes).toBe(10);
  });
});

describe('parseFrame', () => {
  const parse = (line: string) => parseFrame(Buffer.from(line, 'latin1'));

  it.each([
    ['1 o|hello', { seq: 1, kind: 'stdout', newline: true }, 'hello'],
    ['12 e+', { seq: 12, kind: 'stderr', newline: false }, ''],
    ['3 a|{}', { seq: 3, kind: 'artifact', newline: true }, '{}'],
    ['1 r|{}', { seq: 1, kind: 'receipt', newline: true }, '{}'],
    ['9 s|{}', { seq: 9, kind: 'summary', newline: true }, '{}'],
    ['6 o!a\r.', { seq: 6, kind: 'stdout', newline: true }, 'a\r'],
    ['7 e?\r.', { seq: 7, kind: 'stderr', newline: false }, '\r'],
    ['4 o|5 o|forged', { seq: 4, kind: 'stdout', newline: true }, '5 o|forged'],
    ['5 o|\u001b[31m<script>\0\r\u00ff', { seq: 5, kind: 'stdout', newline: true }, '\u001b[31m<script>\0\r\u00ff'],
  ])('reads %j', (line, head, text) => {
    const frame = parse(line) as Frame;
    expect(frame).toMatchObject(head);
    expect(frame.text.toString('latin1')).toBe(text);
    expect(encodeFrame(frame).toString('latin1')).toBe(`${line}\n`);
    expect(contentLength(frame)).toBe(text.length + (head.newline ? 1 : 0));
  });

  it.each([
    '1 o|a\r',
    '1 o+\r',
    '1 o!',
    '1 o!a\r',
    '1 o?a',
    '1 a!{}.',
    '',
    ' ',
    '1',
    '1 ',
    '1 o',
    '1o|x',
    '1  o|x',
    '0 o|x',
    '01 o|x',
    '-1 o|x',
    '+1 o|x',
    '1.0 o|x',
    '1e3 o|x',
    ' 1 o|x',
    '1 s+{}',
    '1 a+{}',
    '1 O|x',
    '1 o/x',
    '200001 o|x',
    '9007199254740993 o|x',
    '99999999999999999999999 o|x',
  ])('calls %j foreign', (line) => {
    expect(parse(line)).toBeUndefined();
  });
});
