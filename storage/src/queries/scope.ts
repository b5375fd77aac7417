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
