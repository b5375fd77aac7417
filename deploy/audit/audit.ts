/**
 * Known vulnerabilities in what we build from: `node deploy/audit/audit.ts npm` and `… go DIRECTORY [--online]`.
 * npm asks the registry that the packages were installed from. For Go nothing is asked that is not on this machine
 * (GOVULNDB=file:///…), unless --online allows it: tests send no packet anywhere. Exit code 0: none of weight but those that allowed.json names, 1: others, 77: not checked; the last line says why. A
 * database that cannot be reached is a reason to say so, never to pass.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const GOVULNCHECK = 'golang.org/x/vuln/cmd/govulncheck@v1.9.0';
const GO_DATABASE = 'https://vuln.go.dev';
const REACH_MS = 5000;
const root = join(import.meta.dirname, '../..');

export interface Allowed {
  /** GHSA-… or GO-… */
  readonly id: string;
  readonly reason: string;
  /** Until this day: nothing is allowed for ever. */
  readonly until: string;
}

export interface Finding {
  readonly id: string;
  readonly where: string;
  readonly title: string;
}

export interface Outcome {
  readonly findings: readonly Finding[];
  readonly allowed: readonly Finding[];
}

export function judge(findings: readonly Finding[], allowed: readonly Allowed[], today: string): Outcome {
  const holds = ({ id }: Finding): boolean => allowed.some((entry) => entry.id === id && entry.until >= today);
  return { findings: findings.filter((each) => !holds(each)), allowed: findings.filter(holds) };
}

const HEAVY = new Set(['high', 'critical']);

/** What `npm audit --json` says, or why it could not ask. */
export function npmFindings(output: string): Finding[] | string {
  let report: { vulnerabilities?: Record<string, { via?: unknown[] }>; message?: string; error?: { summary?: string } };
  try {
    report = JSON.parse(output) as typeof report;
  } catch {
    return `npm audit said nothing that can be read: ${output.slice(0, 200)}`;
  }
  if (report.vulnerabilities === undefined) return report.message ?? report.error?.summary ?? 'npm audit gave no report';
  const found = new Map<string, Finding>();
  for (const [name, { via = [] }] of Object.entries(report.vulnerabilities)) {
    for (const each of via) {
      if (typeof each !== 'object' || each === null) continue; // the name of another package, listed itself
      const { url = '', title = '', severity = '' } = each as { url?: string; title?: string; severity?: string };
      const id = url.slice(url.lastIndexOf('/') + 1);
      if (HEAVY.has(severity)) found.set(id, { id, where: name, title });
    }
  }
  return [...found.values()];
}

/** What `govulncheck -format json` says: only what our code really calls. */
export function goFindings(output: string): Finding[] {
  const titles = new Map<string, string>();
  const found = new Map<string, Finding>();
  for (const text of output.split(/^(?=\{)/m).filter((part) => part.trim() !== '')) {
    const message = JSON.parse(text) as {
      osv?: { id: string; summary?: string };
      finding?: { osv: string; trace: { module: string; function?: string }[] };
    };
    if (message.osv !== undefined) titles.set(message.osv.id, message.osv.summary ?? '');
    const [at] = message.finding?.trace ?? [];
    if (message.finding === undefined || at?.function === undefined) continue;
    found.set(message.finding.osv, { id: message.finding.osv, where: at.module, title: '' });
  }
  return [...found.values()].map((each) => ({ ...each, title: titles.get(each.id) ?? '' }));
}

function run(command: string, args: string[], cwd: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const options = { cwd, maxBuffer: 256 * 1024 * 1024, env: { ...process.env, CGO_ENABLED: '0' } };
  return new Promise((done) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      done({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 1, stdout, stderr });
    });
  });
}

async function auditNpm(): Promise<Finding[] | string> {
  const { stdout, stderr } = await run('npm', ['audit', '--json', '--audit-level=high'], root);
  return npmFindings(stdout === '' ? stderr : stdout);
}

/** Where the known holes of Go modules are looked up, or why nowhere. */
export function goDatabase(configured: string | undefined, online: boolean): { url: string } | { problem: string } {
  if (online) return { url: configured ?? GO_DATABASE };
  if (configured?.startsWith('file:')) return { url: configured };
  const found = configured === undefined ? 'GOVULNDB names no database' : `GOVULNDB is ${configured}`;
  return { problem: `${found}: only a copy on this machine is read here (file:///…); make audit asks ${GO_DATABASE}` };
}

async function auditGo(directory: string, online: boolean): Promise<Finding[] | string> {
  const chosen = goDatabase(process.env['GOVULNDB'], online);
  if ('problem' in chosen) return chosen.problem;
  const database = chosen.url;
  const unreached = await unreachable(database);
  if (unreached !== undefined) return `${database} cannot be reached: ${unreached}`;
  const args = ['run', GOVULNCHECK, '-db', database, '-format', 'json', './...'];
  const { code, stdout, stderr } = await run('go', args, directory);
  if (code !== 0) throw new Error(`govulncheck: ${stderr.slice(-2000)}`);
  return goFindings(stdout);
}

async function unreachable(database: string): Promise<string | undefined> {
  if (database.startsWith('file:')) return undefined;
  try {
    const { ok, status } = await fetch(`${database}/index/db.json`, { signal: AbortSignal.timeout(REACH_MS) });
    return ok ? undefined : `status ${status}`;
  } catch (error) {
    const { message, cause } = error as Error;
    return cause instanceof Error ? cause.message : message;
  }
}

async function main([what, directory, option]: string[]): Promise<number> {
  const known = option === undefined || option === '--online';
  if (!known || !(what === 'npm' || (what === 'go' && directory !== undefined))) {
    console.error('usage: node deploy/audit/audit.ts npm | go DIRECTORY [--online]');
    return 2;
  }
  const answer = what === 'npm' ? await auditNpm() : await auditGo(resolve(directory ?? '.'), option === '--online');
  if (typeof answer === 'string') {
    console.log(`skipped: ${answer}`);
    return 77;
  }
  const allowed = JSON.parse(readFileSync(join(import.meta.dirname, 'allowed.json'), 'utf8')) as Allowed[];
  const outcome = judge(answer, allowed, new Date().toISOString().slice(0, 10));
  for (const { id, where, title } of outcome.allowed) console.log(`allowed: ${id} ${where}: ${title}`);
  for (const { id, where, title } of outcome.findings) console.log(`${id} ${where}: ${title}`);
  console.log(`${outcome.findings.length} known vulnerabilities of weight, ${outcome.allowed.length} allowed`);
  return outcome.findings.length > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(await main(process.argv.slice(2)));
