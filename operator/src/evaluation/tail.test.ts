import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tailText } from './tail.ts';

const text = (value: string) => Buffer.from(value, 'utf8');

describe('tailText', () => {
  it.each([
    ['plain text', text('hello\n'), 'hello\n'],
    ['tabs and newlines stay', text('a\tb\n'), 'a\tb\n'],
    ['an escape sequence', text('\u001b[2Jhi\r'), '\\x1b[2Jhi\\x0d'],
    ['C1 controls', text('\u009b31m'), '\\x9b31m'],
    ['right-to-left override', text('\u202egpj.exe'), '\\u202egpj.exe'],
    ['invalid bytes', Buffer.from([0xff, 0x41]), '\ufffdA'],
    ['nothing', Buffer.alloc(0), ''],
  ])('%s', (_, bytes, expected) => expect(tailText(bytes)).toBe(expected));

  it('keeps the end, whole characters only', () => {
    expect(tailText(text('äöü'), 3)).toBe('ü');
    expect(tailText(text('x'.repeat(5000)))).toBe('x'.repeat(2048));
  });

  it('never exceeds its size, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 1, max: 100 }), (bytes, max) => {
        const result = tailText(bytes, max);
        expect(Buffer.byteLength(result, 'utf8')).toBeLessThanOrEqual(max);
        expect(result).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
      }),
    );
  });
});
