// Text from sandboxes goes into text and jsonb columns. Postgres refuses NUL and lone surrogates in both; an insert that
// fails for ever because of one file name would be a way to lose a whole run. So they become visible escapes.

const MAX_DEPTH = 32;
/** A frame is below 16 KiB, so what a launcher really sends always fits. */
const MAX_ADVISORY_BYTES = 64 * 1024;

function visible(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** NUL and lone surrogates as the six characters of their escape, e.g. `\u0000`. Everything else unchanged. */
export function safeText(text: string): string {
  const withoutNul = text.includes('\0') ? text.replaceAll('\0', visible('\0')) : text;
  return withoutNul.isWellFormed() ? withoutNul : withoutNul.replace(/\p{Surrogate}/gu, visible);
}

/** JSON text that jsonb accepts, for values of our own (verdicts, event data). */
export function jsonbText(value: unknown): string {
  // JSON.stringify writes NUL and lone surrogates as escapes. `\\` is matched too, so that an escaped backslash before
  // "u0000" is not mistaken for one.
  const text = JSON.stringify(value ?? null);
  if (!text.includes('\\')) return text;
  return text.replace(/\\(\\|u0000|ud[89a-f][0-9a-f]{2})/g, (match, code: string) =>
    code === '\\' ? match : `\\${match}`,
  );
}

/** The same for JSON that a sandbox wrote: also bounded in depth (jsonb recurses) and size. */
export function advisoryJsonText(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const text = jsonbText(flattened(value, MAX_DEPTH));
  const bytes = Buffer.byteLength(text);
  return bytes <= MAX_ADVISORY_BYTES ? text : JSON.stringify({ dropped: `${bytes} bytes are more than ${MAX_ADVISORY_BYTES}` });
}

function flattened(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth === 0) return '(nested too deeply)';
  if (Array.isArray(value)) return value.map((item) => flattened(item, depth - 1));
  // A Map-like copy without a prototype: a key named __proto__ stays a key.
  const copy: Record<string, unknown> = Object.create(null);
  for (const [key, item] of Object.entries(value)) copy[key] = flattened(item, depth - 1);
  return copy;
}
