import { createHash } from 'node:crypto';

// Where artifacts go on this machine. Their paths are text that untrusted code chose: they are translated into names that
// mean nothing to any file system, and never used as they are.

const MAX_SEGMENT_BYTES = 180;
const MAX_SEGMENTS = 32;
/** Kept: letters, digits and marks of any script, and what is harmless among the rest. */
const SAFE = /[\p{L}\p{N}\p{M} ._+@,=()[\]{}#~!-]/u;
/** Names of devices on Windows, with any ending. */
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$/i;

export interface Named {
  readonly index: number;
  readonly path: string;
}

/** One relative path for each, as segments: no two the same on any file system, none a folder of another. */
export function localPaths<T extends Named>(artifacts: readonly T[]): { artifact: T; segments: readonly string[] }[] {
  const files = new Set<string>();
  const folders = new Set<string>();
  return artifacts.map((artifact) => {
    let segments = segmentsOf(artifact.path);
    if (taken(segments, files, folders)) segments = [`artifact-${artifact.index}~${hashOf(artifact.path)}`];
    files.add(keyOf(segments));
    for (let depth = 1; depth < segments.length; depth += 1) folders.add(keyOf(segments.slice(0, depth)));
    return { artifact, segments };
  });
}

function taken(segments: readonly string[], files: ReadonlySet<string>, folders: ReadonlySet<string>): boolean {
  const key = keyOf(segments);
  if (files.has(key) || folders.has(key)) return true;
  return segments.some((_, index) => index > 0 && files.has(keyOf(segments.slice(0, index))));
}

/** Some file systems take A for a, and é in one code point for é in two. */
const keyOf = (segments: readonly string[]): string => segments.join('/').normalize('NFKC').toLowerCase();

export function segmentsOf(path: string): string[] {
  const segments = path.split('/').filter((segment) => segment !== '');
  if (segments.length === 0) return ['%2F'];
  if (segments.length > MAX_SEGMENTS) return [`${shorten(segments.map(safeSegment).join('%2F'))}`];
  return segments.map((segment) => shorten(safeSegment(segment)));
}

function safeSegment(segment: string): string {
  const safe = Array.from(segment, (character) => (SAFE.test(character) ? character : encoded(character))).join('');
  // ".", "..", hidden files and what Windows cuts off at the end; a name of a device there.
  const edges = safe.replace(/^[.~ -]/, encoded).replace(/[. ]$/, encoded);
  return RESERVED.test(edges) ? encoded(edges.slice(0, 1)) + edges.slice(1) : edges;
}

const encoded = (character: string): string =>
  Array.from(Buffer.from(character, 'utf8'), (byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('');

function shorten(segment: string): string {
  if (Buffer.byteLength(segment) <= MAX_SEGMENT_BYTES) return segment;
  const kept = Buffer.from(segment)
    .subarray(0, MAX_SEGMENT_BYTES - 20)
    .toString('utf8')
    .replace(/\ufffd+$/, '');
  return `${kept}~${hashOf(segment)}`;
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);
