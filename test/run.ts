/**
 * Runs tiers of tests one after another and counts them: `node test/run.ts verify unit integration e2e`.
 * Every tier runs even if an earlier one failed; the last line is `N passed, N failed[, N skipped]` over all of them
 * and the exit code is 1 if anything failed.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';

const root = join(import.meta.dirname, '..');
const reports = join(root, '.crucible', 'test');

interface Count {
  passed: number;
  failed: number;
  /** Names of what failed: said again at the end, because a long log is often cut to its last lines. */
  failures: string[];
  /** Names of skipped tests with their reasons. */
  skipped: string[];
}

const total: Count = { passed: 0, failed: 0, failures: [], skipped: [] };

function fail(name: string): void {
  total.failed += 1;
  total.failures.push(name);
}

/** Runs a command with its output shown (or handed to `onLine`); resolves with its exit code. */
function run(command: string[], options: { cwd?: string; env?: Record<string, string>; onLine?: (line: string) => void } = {}): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(command[0]!, command.slice(1), {
      cwd: options.cwd ?? root,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', options.onLine ? 'pipe' : 'inherit', 'inherit'],
    });
    let rest = '';
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) options.onLine?.(line);
    });
    child.on('error', (error) => {
      console.error(error.message);
      resolve(127);
    });
    child.on('close', (code) => resolve(code ?? 1));
  });
}

/** What a check exits with that could not be made; its last line says why. */
const SKIPPED = 77;

/** A check that is one program: it passes if the program does. */
async function check(name: string, command: string[], cwd?: string): Promise<void> {
  const begun = Date.now();
  const output: string[] = [];
  const code = await run(['bash', '-c', '"$@" 2>&1', '_', ...command], { ...(cwd ? { cwd } : {}), onLine: (line) => output.push(line) });
  if (code === 0) total.passed += 1;
  else if (code === SKIPPED) total.skipped.push(`${name}: ${output.at(-1) ?? 'no reason given'}`);
  else {
    fail(name);
    console.log(output.join('\n'));
  }
  console.log(`${code === 0 ? 'ok  ' : code === SKIPPED ? 'skip' : 'FAIL'} ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
}

interface VitestReport {
  testResults: { name: string; status: string; message: string; assertionResults: { fullName: string; status: string; failureMessages?: string[]; meta?: { skipReason?: string } }[] }[];
}

async function vitest(project: string, { files = [], env = {} }: { files?: string[]; env?: Record<string, string> } = {}): Promise<void> {
  const file = join(reports, `${project}.json`);
  rmSync(file, { force: true });
  const code = await run(['npx', 'vitest', 'run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${file}`, ...files], { env });
  const before = total.failed;
  try {
    const report = JSON.parse(readFileSync(file, 'utf8')) as VitestReport;
    for (const suite of report.testResults) {
      for (const test of suite.assertionResults) {
        if (test.status === 'passed') total.passed += 1;
        else if (test.status === 'failed') fail(`${relative(root, suite.name)}: ${test.fullName}: ${firstLine(test.failureMessages?.[0])}`);
        else total.skipped.push(`${test.fullName}: ${test.meta?.skipReason ?? 'no reason given'}`);
      }
      // A file that could not even be loaded has no tests to count.
      if (suite.status === 'failed' && suite.assertionResults.length === 0) fail(`${relative(root, suite.name)}: ${firstLine(suite.message)}`);
    }
  } catch {
    fail(`vitest ${project}: no report`);
  }
  // A hook, the global set-up or an unhandled rejection: no test carries it.
  if (code !== 0 && total.failed === before) fail(`vitest ${project}: exit code ${code} though no test failed`);
}

const firstLine = (text: string | undefined): string => (text ?? '').split('\n', 1)[0]!.slice(0, 300);

/** Tests of a Go module, counted from `go test -json`; subtests count, their parents do not count twice. */
async function go(directory: string, ...args: string[]): Promise<void> {
  const results = new Map<string, string>();
  const output = new Map<string, string[]>();
  const code = await run(['go', 'test', '-json', '-trimpath', ...args], {
    cwd: join(root, directory),
    env: { CGO_ENABLED: '0' },
    onLine: (line) => {
      let event: { Action: string; Package?: string; Test?: string; Output?: string };
      try {
        event = JSON.parse(line) as typeof event;
      } catch {
        console.log(line);
        return;
      }
      const key = `${event.Package ?? ''} ${event.Test ?? ''}`;
      if (event.Output) output.set(key, [...(output.get(key) ?? []), event.Output]);
      if (event.Test && ['pass', 'fail', 'skip'].includes(event.Action)) results.set(key, event.Action);
      if (event.Action === 'fail' || event.Action === 'build-fail') process.stdout.write((output.get(key) ?? []).join(''));
    },
  });
  const names = [...results.keys()];
  const leaves = names.filter((name) => !names.some((other) => other.startsWith(`${name}/`)));
  const before = total.failed;
  for (const name of leaves) {
    if (results.get(name) === 'pass') total.passed += 1;
    else if (results.get(name) === 'fail') fail(name);
    else total.skipped.push(`${name}: ${(output.get(name) ?? []).find((line) => !line.startsWith('=== ') && !line.startsWith('--- '))?.trim() ?? 'no reason given'}`);
  }
  if (code !== 0 && total.failed === before) fail(`go test ${directory}: exit code ${code} though no test failed`);
  console.log(`${code === 0 ? 'ok  ' : 'FAIL'} go test ${directory}: ${leaves.length} tests`);
}

async function prepare(tier: string): Promise<boolean> {
  if ((await run(['deploy/local/test-tools.sh', tier])) === 0) return true;
  fail(`deploy/local/test-tools.sh ${tier}`);
  return false;
}

const CLUSTER = { KUBECONFIG: join(root, '.crucible', 'kubeconfig') };

/** With the native cluster, which is taken down after if it did not run before. */
async function onCluster(body: () => Promise<void>): Promise<void> {
  const running = (await run(['bash', '-c', 'test -f .crucible/kubeconfig && kubectl --kubeconfig .crucible/kubeconfig --request-timeout=5s get nodes >/dev/null 2>&1'])) === 0;
  if ((await run(['deploy/local/up.sh', '--cluster'])) === 0) await body();
  else fail('deploy/local/up.sh --cluster');
  if (!running && (await run(['deploy/local/down.sh'])) !== 0) fail('deploy/local/down.sh');
}

const tiers: Record<string, () => Promise<void>> = {
  async verify() {
    if (!(await prepare('verify'))) return;
    await check('types', ['npx', 'tsc', '-p', 'tsconfig.json', '--noEmit']);
    await check('generated files are up to date', ['node', 'crds/src/generate.ts', '--check']);
    await check('the contract is what the routes give, and breaks nobody', ['node', 'api/src/generate.ts', '--check']);
    await check('the client’s types are what the contract gives', ['node', 'api/client/src/generate.ts', '--check']);
    await check('go vet: launcher', ['go', 'vet', './...'], join(root, 'operator/launcher'));
    await check('gofmt', ['bash', '-c', 'files=$(gofmt -l operator/launcher deploy/local deploy/gitops) && echo "$files" && test -z "$files"']);
    await check('shellcheck', ['bash', '-c', 'git ls-files "*.sh" .ci/run | xargs shellcheck --severity=warning']);
    await check('helm lint', ['helm', 'lint', '--strict', '--kube-version', 'v1.34.0', 'charts/crucible']);
    await check('no known vulnerability: npm packages', ['node', 'deploy/audit/audit.ts', 'npm']);
    for (const module of ['operator/launcher', 'deploy/local']) {
      await check(`no known vulnerability: ${module}`, ['node', 'deploy/audit/audit.ts', 'go', module]);
    }
    await check('nothing refers to files outside the repository', ['bash', '-c', '! git grep -nE "\\.\\./shared|/work/(main|shared)" -- . ":!test/run.ts"']);
  },
  async unit() {
    await vitest('unit');
    await go('operator/launcher', './...');
  },
  async integration() {
    if (!(await prepare('integration'))) return;
    await vitest('integration');
    await go('deploy/local', './netpol/...');
    await go('deploy/gitops/check', './...');
  },
  e2e: () =>
    onCluster(async () => {
      await vitest('e2e', { env: CLUSTER });
      const bills = 'source .crucible/images.env; for bill in ${!CRUCIBLE_SBOM_@}; do test -s "${!bill}" || exit 1; done; test -n "${bill:-}"';
      await check('every image has its bill of materials', ['bash', '-c', bills]);
    }),
  // What the cluster can bear, which takes minutes: `make soak`.
  many: () => onCluster(() => vitest('e2e', { files: ['test/e2e/many-pods.test.ts'], env: { ...CLUSTER, CRUCIBLE_RUNS: '200' } })),
};

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !(name in tiers));
if (chosen.length === 0 || unknown.length > 0) {
  console.error(`usage: node test/run.ts TIER…; tiers: ${Object.keys(tiers).join(', ')}`);
  process.exit(2);
}
mkdirSync(reports, { recursive: true });
for (const name of chosen) {
  const begun = Date.now();
  console.log(`\n== ${name}`);
  await tiers[name]!();
  console.log(`== ${name}: ${((Date.now() - begun) / 1000).toFixed(0)} s; so far ${total.passed} passed, ${total.failed} failed`);
}
console.log('');
for (const failure of total.failures) console.log(`failed: ${failure}`);
for (const skip of total.skipped) console.log(`skipped: ${skip}`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped.length > 0 ? `, ${total.skipped.length} skipped` : ''}`);
process.exit(total.failed > 0 ? 1 : 0);
