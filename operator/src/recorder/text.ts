/**
 * Text that Postgres can store in `text` and `jsonb`: no NUL, no lone surrogates, at most maxBytes of UTF-8.
 * What does not fit is replaced by U+FFFD or cut.
 */
export function safeText(text: string, maxBytes: number): string {
  const clean = text.replaceAll('\0', '\uFFFD').toWellFormed();
  if (Buffer.byteLength(clean) <= maxBytes) return clean;
  // Cutting UTF-8 in the middle of a character yields U+FFFD, which may itself be longer than what was cut.
  let cut = Buffer.from(clean).subarray(0, maxBytes).toString('utf8');
  while (Buffer.byteLength(cut) > maxBytes || cut.endsWith('\uFFFD')) cut = cut.slice(0, -1);
  return cut;
}

const MAX_DEPTH = 6;
const MAX_ENTRIES = 100;
const MAX_STRING_BYTES = 2048;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A copy of untrusted JSON, bounded in depth, width and strings, that any JSON column accepts. */
export function safeJson(value: unknown, depth = 0): Json {
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value === 'string') return safeText(value, MAX_STRING_BYTES);
  if (typeof value !== 'object' || depth >= MAX_DEPTH) return null;
  if (Array.isArray(value)) return value.slice(0, MAX_ENTRIES).map((entry) => safeJson(entry, depth + 1));
  // fromEntries defines properties, so a key named __proto__ stays plain data.
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, MAX_ENTRIES)
      .map(([key, entry]) => [safeText(key, 256), safeJson(entry, depth + 1)]),
  );
}
