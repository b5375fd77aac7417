import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Frame } from './frames.ts';
import { PendingFrames } from './pending.ts';

const text = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  // Some fill what is left of a buffer, some need one of their own.
  fc.tuple(fc.integer({ min: 0, max: 70_000 }), fc.nat(255)).map(([length, byte]) => new Uint8Array(length).fill(byte)),
);
const frame: fc.Arbitrary<Frame> = fc.record({
  seq: fc.integer({ min: 1, max: 200_000 }),
  kind: fc.constantFrom('stdout', 'stderr', 'artifact', 'receipt', 'summary'),
  newline: fc.boolean(),
  text: text.map((bytes) => Buffer.from(bytes)),
});

const copy = (frames: Iterable<Frame>): Frame[] => Array.from(frames, (one) => ({ ...one, text: Buffer.from(one.text) }));
/** Strings, because comparing buffers byte by byte would take seconds. */
const told = (frames: Iterable<Frame>): string[] =>
  Array.from(frames, ({ seq, kind, newline, text: bytes }) => `${seq} ${kind} ${newline} ${bytes.toString('latin1')}`);

it('gives back what it took, whatever becomes of the input and of others', () => {
  // Each turn: frames for one of three, which may let go of what it holds before.
  const turn = fc.record({ who: fc.nat(2), releases: fc.boolean(), frames: fc.array(frame, { maxLength: 8 }) });
  fc.assert(
    fc.property(fc.array(turn, { maxLength: 12 }), (turns) => {
      const held = Array.from({ length: 3 }, () => ({ pending: new PendingFrames(), expected: [] as Frame[] }));
      for (const { who, releases, frames } of turns) {
        const one = held[who]!;
        if (releases) {
          one.pending.release();
          one.expected = [];
        }
        one.expected.push(...copy(frames));
        for (const input of copy(frames)) {
          one.pending.add(input);
          input.text.fill(0x7e);
        }
        for (const { pending, expected } of held) {
          expect(told(pending)).toEqual(told(expected));
          expect([pending.size, pending.textBytes]).toEqual([expected.length, expected.reduce((sum, { text: bytes }) => sum + bytes.length, 0)]);
        }
      }
      for (const { pending } of held) pending.release();
    }),
    { numRuns: 60 },
  );
});

it('uses memory again that was let go', () => {
  const first = new PendingFrames();
  first.add({ seq: 1, kind: 'stdout', newline: true, text: Buffer.from('x') });
  const [{ text: before }] = [...first] as [Frame];
  first.release();
  const second = new PendingFrames();
  second.add({ seq: 2, kind: 'stdout', newline: true, text: Buffer.from('y') });
  const [{ text: after }] = [...second] as [Frame];
  expect(after.buffer).toBe(before.buffer);
  second.release();
});
