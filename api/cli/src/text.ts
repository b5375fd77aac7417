// What a sandbox wrote, and names that it chose, reach a terminal only through here: a terminal obeys escape sequences,
// which can rewrite what was shown, retitle the window or answer for the user.

/** Controls, invisible format characters (bidirectional overrides and the like) and line separators; not what joins emoji. */
const UNSAFE = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

function shown(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20) return `^${String.fromCharCode(code + 0x40)}`;
  if (code === 0x7f) return '^?';
  return `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`;
}

/** Text over several lines, with nothing in it that a terminal obeys but newline and tab. */
export const visible = (text: string): string =>
  text
    .replaceAll('\r\n', '\n')
    .replace(UNSAFE, (character) => (character === '\n' || character === '\t' ? character : shown(character)));

/** The same on one line. */
export const visibleLine = (text: string): string =>
  text.replace(UNSAFE, (character) => (character === '\n' ? '\\n' : shown(character)));

/** JSON for people and programs alike: the characters that a terminal would obey are escaped, and mean the same. */
export const safeJson = (value: unknown): string =>
  JSON.stringify(value, null, 2).replace(UNSAFE, (character) =>
    character === '\n'
      ? character
      : [...Array(character.length).keys()]
          .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
          .join(''),
  );

/** Bytes in pieces, as text that is safe to show: a character may be cut in two by the pieces' border. */
export class VisibleStream {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #held = '';

  push(data: Uint8Array): string {
    return this.#show(this.#held + this.#decoder.decode(data, { stream: true }));
  }

  end(): string {
    const text = this.#held + this.#decoder.decode();
    this.#held = '';
    return visible(text);
  }

  /** A carriage return at the border may be the first half of a line's end. */
  #show(text: string): string {
    this.#held = text.endsWith('\r') ? '\r' : '';
    return visible(this.#held === '' ? text : text.slice(0, -1));
  }
}

/** Columns as kubectl prints them. */
export function table(rows: readonly (readonly string[])[]): string {
  const safe = rows.map((row) => row.map(visibleLine));
  const widths = (safe[0] ?? []).map((_, column) => Math.max(...safe.map((row) => (row[column] ?? '').length)));
  return safe
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}

/** 45s, 12m, 3h20m, 5d: as short as kubectl has it. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return `${whole}s`;
  if (whole < 7_200) return whole < 600 ? `${Math.floor(whole / 60)}m${whole % 60}s` : `${Math.floor(whole / 60)}m`;
  if (whole < 172_800) return `${Math.floor(whole / 3600)}h`;
  return `${Math.floor(whole / 86_400)}d`;
}

/** 1 line, 2 lines. */
export const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  const units = ['KiB', 'MiB', 'GiB'];
  const power = Math.min(Math.floor(Math.log2(count) / 10), units.length);
  return `${(count / 1024 ** power).toFixed(1)} ${units[power - 1]}`;
}
