/** What fits into a status beside everything else; the whole output is in the record. */
export const TAIL_BYTES = 2048;
export const STDERR_TAIL_BYTES = 1024;

/**
 * The last bytes of a stream as text for a status: valid UTF-8 (a cut or invalid sequence becomes U+FFFD), control
 * characters escaped so that `kubectl get -o yaml` cannot move anybody's cursor, and never more than `maxBytes` of
 * UTF-8 after escaping, cut at the front.
 */
export function tailText(bytes: Uint8Array, maxBytes: number = TAIL_BYTES): string {
  const from = Math.max(0, bytes.length - maxBytes);
  let start = from;
  // Do not begin inside a character: continuation bytes are 10xxxxxx, at most three in a row.
  while (start < bytes.length && start - from < 3 && from > 0 && (bytes[start]! & 0xc0) === 0x80) start += 1;
  const text = escapeControls(new TextDecoder('utf-8').decode(bytes.subarray(start)));
  return lastUtf8Bytes(text, maxBytes);
}

function escapeControls(text: string): string {
  // C0 apart from tab and newline, DEL, C1, and the bidirectional and invisible format characters that make text lie.
  return text.replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (character) => {
      const code = character.charCodeAt(0);
      return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
    },
  );
}

function lastUtf8Bytes(text: string, maxBytes: number): string {
  const encoded = Buffer.from(text, 'utf8');
  if (encoded.length <= maxBytes) return text;
  let start = encoded.length - maxBytes;
  while (start < encoded.length && (encoded[start]! & 0xc0) === 0x80) start += 1;
  return encoded.subarray(start).toString('utf8');
}
