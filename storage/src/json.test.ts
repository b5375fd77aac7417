import { expect, test } from 'vitest';
import { advisoryJsonText, jsonbText, safeText } from './json.ts';

test('safeText shows NUL and lone surrogates and leaves the rest alone', () => {
  expect(safeText('a\0b')).toBe('a\\u0000b');
  expect(safeText('x\ud800y\udc00')).toBe('x\\ud800y\\udc00');
  expect(safeText('plain, ünï, 😀, \\u0000')).toBe('plain, ünï, 😀, \\u0000');
});

test('jsonbText keeps what jsonb can hold and shows what it cannot', () => {
  const value = { 'k\0': 'v\0', lone: '\udfff', pair: '😀', written: '\\u0000', deep: ['\\\0'] };
  const parsed = JSON.parse(jsonbText(value));
  expect(parsed).toEqual({ 'k\\u0000': 'v\\u0000', lone: '\\udfff', pair: '😀', written: '\\u0000', deep: ['\\\\u0000'] });
  expect(jsonbText(value)).not.toMatch(/(^|[^\\])(\\\\)*\\u0000/);
});

test('advisoryJsonText bounds depth and size', () => {
  const deep = JSON.parse(`${'['.repeat(5000)}1${']'.repeat(5000)}`);
  expect(advisoryJsonText(deep)).toMatch(/^\[{32}"\(nested too deeply\)"\]{32}$/);
  expect(advisoryJsonText({ a: 'x'.repeat(100_000) })).toBe('{"dropped":"100008 bytes are more than 65536"}');
  expect(advisoryJsonText(undefined)).toBeNull();
  expect(advisoryJsonText(JSON.parse('{"__proto__": {"a": 1}}'))).toBe('{"__proto__":{"a":1}}');
});
