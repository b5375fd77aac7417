/**
 * Whose rows may be read: UIDs of namespaces, or all of them for a caller who may list in the whole cluster. Every query
 * takes one. UIDs, because a namespace made again under an old name inherits nothing.
 */
export type Scope = readonly string[] | 'all';

/** As the parameter of {@link inScope}. */
export function scopeParameter(scope: Scope): readonly string[] | null {
  return scope === 'all' ? null : scope;
}

/** SQL that holds for rows in the scope, which is parameter number `parameter`. */
export function inScope(column: string, parameter: number): string {
  return `($${parameter}::uuid[] IS NULL OR ${column} = ANY ($${parameter}::uuid[]))`;
}

/**
 * SQL for the newest (uid, created_at) of what a table has in the scope, from an index in that order. Of everything it is
 * one walk, which costs the same however many namespaces there ever were: rows of those that are gone stay. Of a list of
 * namespaces, parameter number 1, each is read as far as it could be needed, and the parts are merged: one condition on
 * many of them instead would have all their rows sorted.
 */
export function newestRows(scope: Scope, from: string, conditions: readonly string[], limit: number): string {
  const walk = (all: readonly string[]): string =>
    `SELECT uid, created_at FROM ${from} WHERE ${[...all, 'true'].join(' AND ')} ORDER BY created_at DESC, uid DESC LIMIT ${limit}`;
  if (scope === 'all') return walk(conditions);
  return `
      SELECT s.uid, s.created_at FROM (SELECT uid AS nsuid FROM crucible.namespaces WHERE uid = ANY ($1::uuid[])) n
      CROSS JOIN LATERAL (${walk(['namespace_uid = n.nsuid', ...conditions])}) s
      ORDER BY s.created_at DESC, s.uid DESC LIMIT ${limit}`;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** What is no UID is nobody's: asked for, it is simply not there. */
export function isUid(text: string): boolean {
  return UUID.test(text);
}

/** Whole, within 1 … most. */
export function pageSize(limit: number | undefined, usual: number, most: number): number {
  const size = Math.trunc(limit ?? usual);
  return Number.isFinite(size) ? Math.max(1, Math.min(size, most)) : usual;
}
