/** A part of a representation, both ends included, as in Content-Range. */
export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

/** `whole`: there is no range, or one that has to be ignored. `unsatisfiable`: a 416. */
export type RangeDecision = 'whole' | 'unsatisfiable' | ByteRange;

export interface RangeRequest {
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  /** The strong entity tag of what would be sent, quotes included; undefined while it still grows. */
  readonly etag: string | undefined;
  readonly size: number;
}

/**
 * RFC 9110, one range. Several ranges are answered with the whole, which is allowed and cannot be abused; so is what
 * cannot be parsed. If-Range with anything but the present strong tag means the whole as well.
 */
export function decideRange({ range, ifRange, etag, size }: RangeRequest): RangeDecision {
  if (range === undefined || (ifRange !== undefined && ifRange !== etag)) return 'whole';
  const found = /^bytes=(\d{0,15})-(\d{0,15})$/i.exec(range.trim());
  if (found === null || (found[1] === '' && found[2] === '')) return 'whole';
  const [, from = '', to = ''] = found;
  if (from === '') return suffix(Number(to), size);
  const first = Number(from);
  if (to !== '' && Number(to) < first) return 'whole';
  if (first >= size) return 'unsatisfiable';
  return { first, last: to === '' ? size - 1 : Math.min(Number(to), size - 1) };
}

function suffix(length: number, size: number): RangeDecision {
  if (length === 0 || size === 0) return 'unsatisfiable';
  return { first: Math.max(0, size - length), last: size - 1 };
}

/** If-None-Match with weak comparison, as RFC 9110 wants it. */
export function notModified(ifNoneMatch: string | undefined, etag: string | undefined): boolean {
  if (ifNoneMatch === undefined || etag === undefined) return false;
  if (ifNoneMatch.trim() === '*') return true;
  return ifNoneMatch.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);
}
