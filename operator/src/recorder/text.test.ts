import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAdvisory, truncatedStreams } from './advisory.ts';
import { safeJson, safeText } from './text.ts';

describe('safeText', () => {
  it('fits the limit, is well formed, holds no NUL, and leaves good text alone', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 50 }), fc.integer({ min: 0, max: 60 }), (text, limit) => {
        const safe = safeText(text, limit);
        expect(Buffer.byteLength(safe)).toBeLessThanOrEqual(limit);
        expect(safe.isWellFormed() && !safe.includes('\0')).toBe(true);
        if (Buffer.byteLength(text) <= limit && text.isWellFormed() && !text.includes('\0')) expect(safe).toBe(text);
      }),
    );
  });
});

describe('safeJson', () => {
  it('always yields JSON within bounds', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 12 }), (text) => {
        const safe = JSON.stringify(safeJson(JSON.parse(text)));
        expect(safe.includes('\\u0000')).toBe(false);
      }),
    );
  });

  it('replaces what JSON columns refuse, and keeps __proto__ data', () => {
    expect(safeJson({ a: 'x\0', b: 1e999, c: [undefined] })).toEqual({ a: 'x\uFFFD', b: null, c: [null] });
    expect(JSON.stringify(safeJson(JSON.parse('{"__proto__":{"x":1}}')))).toBe('{"__proto__":{"x":1}}');
  });
});

describe('parseAdvisory', () => {
  it('takes objects only', () => {
    expect(['{"a":1}', '[1]', '1', 'null', '{'].map((text) => parseAdvisory(Buffer.from(text)))).toEqual([
      { a: 1 },
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('reads truncation when it is well formed', () => {
    expect(truncatedStreams({ stdout: { truncated: true }, stderr: { truncated: false } })).toEqual({
      stdout: true,
      stderr: false,
    });
    expect(truncatedStreams({ stdout: 'no' })).toEqual({ stdout: false, stderr: false });
    expect(truncatedStreams(undefined)).toEqual({ stdout: false, stderr: false });
  });
});
