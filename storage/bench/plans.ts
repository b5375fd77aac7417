// What Postgres does for a statement, in a form that stays the same while it does the same: node types and indexes, no
// costs, no months.
import type { Database, Queryable } from '../src/database.ts';

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Name'?: string;
  Plans?: PlanNode[];
}

/** Tables whose size grows with the number of runs. */
const GROWING = /^(evaluations|attempts|captures|streams|output_chunks|artifacts|events.*|kubernetes_events|evaluation_labels|submissions|suites|suite_cells|suite_runs|suite_events|drills|drill_findings)$/;
/** Below that reading all of it is the best plan: the first and the last month, and months to come. */
const SMALL_ROWS = 5_000;

/** Tables that grow and are still small, by name. */
export async function smallTables(db: Database): Promise<ReadonlySet<string>> {
  const { rows } = await db.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relnamespace = 'crucible'::regnamespace AND relkind = 'r' AND reltuples < ${SMALL_ROWS}`,
  );
  return new Set(rows.map(({ name }) => name).filter((name) => GROWING.test(name)));
}

export interface Explained {
  /** One line a node, indented; equal neighbours (partitions) once. */
  lines: string[];
  /** Big tables that are read from end to end. */
  scanned: string[];
}

/** Runs `call`, each of whose statements is explained too. */
export async function explain(
  db: Database,
  small: ReadonlySet<string>,
  call: (recording: Queryable) => Promise<unknown>,
): Promise<Explained> {
  const result: Explained = { lines: [], scanned: [] };
  const plans = new Map<string, PlanNode>();
  await call({
    query: async (text, values = []) => {
      const { rows } = await db.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(`EXPLAIN (FORMAT JSON) ${text}`, values);
      const plan = rows[0]?.['QUERY PLAN'][0].Plan;
      if (plan !== undefined) plans.set(text, plan);
      return await db.query(text, values);
    },
  });
  // Statements that are asked at the same time have no order; their texts do.
  for (const [, plan] of [...plans].sort(([a], [b]) => (a < b ? -1 : 1))) {
    result.lines.push(...describe(plan, 0, small));
    collect(plan, small, result.scanned);
  }
  return result;
}

/** The plan that a prepared statement gets when Postgres makes one for all values. */
export async function explainPrepared(db: Database, small: ReadonlySet<string>, text: string): Promise<Explained> {
  const result: Explained = { lines: [], scanned: [] };
  const parameters = new Set(text.match(/\$\d+/g)).size;
  const plan = await db.transaction(async (tx) => {
    await tx.query('SET LOCAL plan_cache_mode = force_generic_plan');
    await tx.query(`PREPARE explained AS ${text}`);
    const values = parameters === 0 ? '' : `(${Array(parameters).fill('NULL').join()})`;
    const { rows } = await tx.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(`EXPLAIN (FORMAT JSON) EXECUTE explained ${values}`);
    await tx.query('DEALLOCATE explained');
    return rows[0]?.['QUERY PLAN'][0].Plan;
  });
  if (plan === undefined) throw new Error('there is no plan');
  result.lines.push(...describe(plan, 0, small));
  collect(plan, small, result.scanned);
  return result;
}

function describe(node: PlanNode, depth: number, small: ReadonlySet<string>): string[] {
  const table = node['Relation Name'];
  // How full a month is depends on the day.
  if (table !== undefined && table.startsWith('events_') && small.has(table)) return [];
  const index = node['Index Name'];
  const where = index ?? table;
  const children = (node.Plans ?? []).map((child) => describe(child, depth + 1, small).join('\n')).filter((text) => text !== '');
  const own = `${'  '.repeat(depth)}${node['Node Type']}${where === undefined ? '' : ` ${withoutMonth(where)}`}`;
  return [own, ...[...new Set(children)].flatMap((child) => child.split('\n'))];
}

function collect(node: PlanNode, small: ReadonlySet<string>, scanned: string[]): void {
  const table = node['Relation Name'] ?? '';
  if (node['Node Type'] === 'Seq Scan' && GROWING.test(table) && !small.has(table)) scanned.push(table);
  for (const child of node.Plans ?? []) collect(child, small, scanned);
}

function withoutMonth(name: string): string {
  return name.replace(/events_(\d{4}_\d\d|default)/, 'events_<month>');
}
