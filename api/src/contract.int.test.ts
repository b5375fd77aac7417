import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { schemathesis } from '../../test/integration/schemathesis.ts';
import { World } from './testing/world.ts';

// Several processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

// schemathesis over the whole contract with a real token: what the contract promises is what is answered.

const CONTRACT = join(import.meta.dirname, '../openapi.yaml');
const MAX_SECONDS = 30;
const EXAMPLES = 12;
/** Never-ending by nature; their own tests read them (events.int.test.ts, life.int.test.ts). */
const STREAMS = ['streamEvents', 'streamEvaluationEvents', 'streamOutput'];

let world: World;
beforeAll(async () => void (world = await World.start()));
afterAll(() => world?.stop());

interface Call {
  readonly operation: string;
  readonly status: number;
}

test('no operation answers what its contract does not say, and each answers 2xx at least once', { timeout: 240_000 }, async () => {
  const program = schemathesis();
  const [api, token] = await Promise.all([world.api(), world.cluster.person('fuzzer', 'writer', world.cluster.evals)]);
  const object = { apiVersion: 'crucible.dev/v1alpha1', kind: 'Evaluation', metadata: { name: 'fuzzed', namespace: world.cluster.evals }, spec: { runtime: world.cluster.runtime, code: 'x' } };
  const make = (name: string) =>
    world.cluster.must('POST', `/apis/crucible.dev/v1alpha1/namespaces/${world.cluster.evals}/evaluations`, { ...object, metadata: { ...object.metadata, name } });
  const [{ metadata }, running] = [await make('fuzzed'), await make('fuzzed-running')];
  const { uid: cancelEvaluation } = await world.record.running({ uid: running['metadata'].uid as string, name: 'fuzzed-running' });
  await world.record.finished({ uid: metadata.uid as string, name: 'fuzzed', artifacts: { 'out/a.txt': Buffer.from('a') } });
  const report = join(world.folder, 'calls.ndjson');
  const config = join(world.folder, 'schemathesis.toml');
  await world.cluster.seesDrills('fuzzer');
  writeFileSync(config, settings(metadata.uid as string, { getSuite: await world.record.suite(world.cluster.evals), getDrill: await world.record.drill(), cancelEvaluation }));
  const contract = join(world.folder, 'contract.yaml');
  writeFileSync(contract, stringify(withExamples(token)));
  // One worker: in several threads Python 3.11's parser, which the tool uses, fails at times (AST constructor recursion depth mismatch).
  const args = [
    '--config-file', config, 'run', contract, '--url', `https://127.0.0.1:${api.port}`, '--header', `Authorization: Bearer ${token}`,
    '--tls-verify', world.tls.cert, '--max-examples', String(EXAMPLES), '--phases', 'examples,coverage,fuzzing', '--seed', '1', '--workers', '1',
    '--checks', 'not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance',
    '--max-time', String(MAX_SECONDS), '--request-timeout', '20', '--suppress-health-check', 'all', '--continue-on-failure',
    ...STREAMS.flatMap((id) => ['--exclude-operation-id', id]), '--report', 'har', '--report-har-path', report, '--no-color',
  ];
  const { code, output } = await new Promise<{ code: number; output: string }>((resolve) => {
    execFile(program, args, { cwd: world.folder, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => resolve({ code: typeof error?.code === 'number' ? error.code : 0, output: stdout + stderr }));
  });
  console.log(output.split('\n').slice(-30).join('\n'));
  expect(code, output.slice(-8000)).toBe(0);
  expect(withoutSuccess(calls(report)), 'operations that never answered 2xx').toEqual([]);
});

/** What only exists once: a generated id would never be it. */
function settings(uid: string, others: Record<string, string>): string {
  return `
[parameters]
"path.id" = ${JSON.stringify(uid)}
"path.path" = "out/a.txt"
"path.stream" = "stdout"
${Object.entries(others).map(([operation, id]) => `
[[operations]]
include-operation-id = "${operation}"
[operations.parameters]
"path.id" = ${JSON.stringify(id)}
`).join('')}`;
}

/** Bodies that mean something in this cluster: what is generated names namespaces and tokens that do not exist. */
function withExamples(token: string): object {
  const contract = parse(readFileSync(CONTRACT, 'utf8')) as { paths: Record<string, Record<string, { requestBody?: { content: Record<string, { example?: unknown }> } }>> };
  const submission = { metadata: { namespace: world.cluster.evals }, spec: { runtime: world.cluster.runtime, code: 'x' } };
  const pause = { namespace: world.cluster.evals };
  const examples = { '/api/evaluations': submission, '/api/plans': submission, '/api/queue/pause': pause, '/api/queue/resume': pause, '/api/session': { token } };
  for (const [path, example] of Object.entries(examples)) contract.paths[path]!['post']!.requestBody!.content['application/json']!.example = example;
  return contract;
}

function calls(report: string): Call[] {
  const har = JSON.parse(readFileSync(report, 'utf8')) as { log: { entries: { request: { method: string; url: string }; response: { status: number } }[] } };
  return har.log.entries.map(({ request, response }) => ({ operation: `${request.method} ${new URL(request.url).pathname}`, status: response.status }));
}

function withoutSuccess(made: readonly Call[]): string[] {
  const { paths } = parse(readFileSync(CONTRACT, 'utf8')) as { paths: Record<string, Record<string, { operationId: string }>> };
  const operations = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, { operationId }]) => ({ operationId, pattern: new RegExp(`^${method.toUpperCase()} ${path.replace('{path}', '.+').replace(/\{\w+\}/g, '[^/]+')}$`) })));
  const succeeded = made.filter(({ status }) => status >= 200 && status < 300);
  return operations.filter(({ operationId, pattern }) => !STREAMS.includes(operationId) && !succeeded.some(({ operation }) => pattern.test(operation))).map(({ operationId }) => operationId);
}
