import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SeqRanges } from './ranges.ts';
import { Sequencer } from './sequencer.ts';

describe('SeqRanges', () => {
  it('behaves like a set of numbers', () => {
    const ascending = fc.array(fc.tuple(fc.nat(4), fc.nat(3)), { maxLength: 20 });
    fc.assert(
      fc.property(ascending, fc.array(fc.nat(80), { maxLength: 30 }), (steps, removals) => {
        const ranges = new SeqRanges();
        const model = new Set<number>();
        let at = 1;
        for (const [skip, length] of steps) {
          ranges.append(at + skip, at + skip + length);
          for (let seq = at + skip; seq <= at + skip + length; seq += 1) model.add(seq);
          at += skip + length + 1;
        }
        for (const seq of removals) expect(ranges.remove(seq)).toBe(model.delete(seq));
        expect(ranges.count).toBe(model.size);
        for (let seq = 0; seq < at + 2; seq += 1) {
          expect(ranges.has(seq)).toBe(model.has(seq));
          expect(ranges.intersects(seq, seq + 2)).toBe(model.has(seq) || model.has(seq + 1) || model.has(seq + 2));
        }
        expect(new SeqRanges(ranges.toJSON()).toJSON()).toEqual(ranges.toJSON());
      }),
    );
  });

  it('stays within its cap and then names too much rather than too little', () => {
    const ranges = new SeqRanges([], 3);
    for (let seq = 1; seq <= 21; seq += 2) ranges.append(seq, seq);
    expect(ranges.size).toBe(3);
    expect(ranges.coarse).toBe(true);
    for (let seq = 1; seq <= 21; seq += 2) expect(ranges.has(seq)).toBe(true);
    expect(ranges.remove(10)).toBe(false);
  });
});

describe('Sequencer', () => {
  it('takes first arrivals, counts duplicates, notes gaps and leaves late ones', () => {
    const sequencer = new Sequencer();
    expect([1, 2, 2, 5, 3, 1, 6].map((seq) => sequencer.accept(seq))).toEqual([
      'new',
      'new',
      'duplicate',
      'new',
      'late',
      'duplicate',
      'new',
    ]);
    expect(sequencer.gaps.toJSON()).toEqual([{ from: 3, to: 4 }]);
    expect(sequencer.lastSeq).toBe(6);
  });

  it('resumes where it stopped', () => {
    const sequencer = new Sequencer(4, [{ from: 2, to: 2 }]);
    expect([1, 2, 3, 4, 5].map((seq) => sequencer.accept(seq))).toEqual([
      'duplicate',
      'late',
      'duplicate',
      'duplicate',
      'new',
    ]);
  });
});
