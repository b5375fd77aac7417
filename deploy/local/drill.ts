/**
 * `make drill`: has the operator attack sandboxes of every RuntimeClass (a SecurityDrill), and prints what it found, rule by
 * rule and class by class. Exits with 1 when a rule is broken, or open without being named in the platform's list of
 * open rules (drill-open.yaml, or the file that DRILL_OPEN names).
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { SecurityDrillStatus } from '@crucible/crds';
import { parse } from 'yaml';

const ROOT = join(import.meta.dirname, '../..');
/** All attacks under a class take about a minute on two busy cores. */
const PATIENCE_SECONDS = Number(process.env['DRILL_SECONDS'] ?? 900);
const EVIDENCE_WIDTH = 90;

export interface OpenRule {
  /** "*" is every class, "" the cluster's default runtime. */
  readonly runtimeClass: string;
  readonly rules: readonly number[];
  readonly reason: string;
}

type Classes = NonNullable<SecurityDrillStatus['classes']>;

/** What is wrong with a report: broken rules, and open ones that nobody has named. Pure. */
export function judge(classes: Classes, open: readonly OpenRule[]): string[] {
  if (classes.length === 0) return ['nothing was drilled'];
  const named = (runtimeClass: string, rule: number): boolean =>
    open.some(
      (entry) => (entry.runtimeClass === '*' || entry.runtimeClass === runtimeClass) && entry.rules.includes(rule),
    );
  return classes.flatMap(({ runtimeClassName, rules }) =>
    rules.flatMap(({ rule, outcome, evidence }) => {
      if (outcome === 'held' || (outcome === 'open' && named(runtimeClassName, rule))) return [];
      const what = outcome === 'broken' ? 'is broken' : 'could not be shown, and is not named in deploy/local/drill-open.yaml,';
      return [`rule ${rule} ${what} under ${runtimeClassName || 'the default runtime'}: ${evidence}`];
    }),
  );
}

/** One row a rule and class, then the sum. Pure. */
export function table(classes: Classes): string {
  const rows = classes.flatMap(({ runtimeClassName, rules }) =>
    rules.map((rule) => ({ ...rule, runtimeClass: runtimeClassName || 'default' })),
  );
  rows.sort((a, b) => a.rule - b.rule || a.runtimeClass.localeCompare(b.runtimeClass));
  const title = Math.min(64, Math.max(0, ...rows.map((row) => row.title.length)));
  const width = Math.max(12, ...rows.map((row) => row.runtimeClass.length));
  const line = (rule: string, what: string, runtimeClass: string, outcome: string, evidence: string): string =>
    `${rule.padStart(4)}  ${cut(what, title).padEnd(title)}  ${runtimeClass.padEnd(width)}  ${outcome.padEnd(7)} ${cut(evidence, EVIDENCE_WIDTH)}`.trimEnd();
  let last: number | undefined;
  const lines = rows.map(({ rule, title: what, runtimeClass, outcome, evidence }) => {
    const again = rule === last;
    last = rule;
    return line(again ? '' : String(rule), again ? '' : what, runtimeClass, outcome, evidence);
  });
  const count = (outcome: string): number => rows.filter((row) => row.outcome === outcome).length;
  const sum = `${count('held')} held, ${count('broken')} broken, ${count('open')} open`;
  return [line('RULE', 'WHAT IT SAYS', 'RUNTIMECLASS', 'OUTCOME', 'EVIDENCE'), ...lines, '', sum].join('\n');
}

const cut = (text: string, width: number): string => (text.length <= width ? text : `${text.slice(0, width - 1)}…`);

export function readOpenRules(path: string, platform: string): OpenRule[] {
  const lists = parse(readFileSync(path, 'utf8')) as Record<string, OpenRule[] | undefined>;
  return lists[platform] ?? [];
}

async function kubectl(args: string[], input?: string): Promise<string> {
  const kubeconfig = process.env['KUBECONFIG'] ?? join(ROOT, '.crucible/kubeconfig');
  const call = promisify(execFile)('kubectl', ['--kubeconfig', kubeconfig, ...args], { maxBuffer: 16 * 1024 * 1024 });
  call.child.stdin?.end(input ?? '');
  return (await call).stdout;
}

async function run(): Promise<SecurityDrillStatus> {
  const drill = {
    apiVersion: 'crucible.dev/v1alpha1',
    kind: 'SecurityDrill',
    metadata: { generateName: 'drill-' },
    spec: {},
  };
  const name = (await kubectl(['create', '-f', '-', '-o', 'jsonpath={.metadata.name}'], JSON.stringify(drill))).trim();
  console.error(
    `SecurityDrill ${name}: sandboxes of every RuntimeClass are being attacked; this takes a minute or two …`,
  );
  for (const end = Date.now() + PATIENCE_SECONDS * 1000; Date.now() < end; await sleep(1000)) {
    const { status } = JSON.parse(await kubectl(['get', 'securitydrill', name, '-o', 'json'])) as {
      status?: SecurityDrillStatus;
    };
    if (status?.conditions?.some(({ type, status: holds }) => type === 'Finished' && holds === 'True')) return status;
  }
  throw new Error(
    `SecurityDrill ${name} has not finished within ${PATIENCE_SECONDS} s: kubectl describe securitydrill ${name}`,
  );
}

async function main(): Promise<void> {
  const classes = (await run()).classes ?? [];
  let platform = 'existing';
  try {
    platform = readFileSync(join(ROOT, '.crucible/kind'), 'utf8').trim();
  } catch {
    // Not started from here.
  }
  const problems = judge(
    classes,
    readOpenRules(process.env['DRILL_OPEN'] ?? join(import.meta.dirname, 'drill-open.yaml'), platform),
  );
  const [sum, ...rows] = table(classes).split('\n').reverse();
  console.log(rows.reverse().join('\n'));
  for (const problem of problems) console.log(problem);
  if (problems.length > 0) console.log('');
  console.log(sum);
  if (problems.length > 0) process.exitCode = 1;
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
  });
}
