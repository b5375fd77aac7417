/**
 * Why a JavaScript regular expression is not RE2, which is what the API server compiles; undefined when nothing is known
 * against it. The API server has the last word: the integration test applies the generated CRDs to one.
 */
export function re2Problem(pattern: string): string | undefined {
  // Escaped characters and classes cannot open a group, so they are blanked before looking for groups.
  const bare = pattern.replace(/\\[^1-9k]/g, '__').replace(/\[(?:\\.|[^\]])*\]/g, '_');
  if (/\(\?<?[=!]/.test(bare)) return 'look-around';
  if (/\\[1-9]|\\k</.test(bare)) return 'a back-reference';
  if (/\\[uc]/.test(pattern)) return 'a \\u or \\c escape';
  return undefined;
}
