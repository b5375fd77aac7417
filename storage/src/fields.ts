/** Of a select list: each column under its name in TypeScript, `job_uid AS "jobUid"`, with `table` and `prefix` before. */
export function selectList(columns: readonly string[], table = '', prefix = ''): string {
  return columns.map((column) => `${table}${column} AS "${prefix}${camelCase(column)}"`).join(', ');
}

function camelCase(column: string): string {
  return column.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
