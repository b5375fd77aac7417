import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { eventually, getEvaluation, ok } from './cluster.ts';

// The API as a researcher uses it: make's own commands, curl, and a run in a real sandbox.

const root = join(import.meta.dirname, '../..');
const command = (file: string, ...args: string[]): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile(file, args, { cwd: root, maxBuffer: 16 * 1024 * 1024, timeout: 170_000 }, (error, stdout, stderr) => 
      // Not its own message, which repeats the command with the token in it.
      error ? reject(new Error(`${file} ended with ${error.code ?? error.signal}: ${stderr}`)) : resolve(stdout),
    );
  });

const SPEC = { runtime: 'python', code: 'open("out.txt", "w").write("42")\nprint("hello from the API")', artifacts: { paths: ['*.txt'] } };

test('submit, 202, events, 200, output and artifact, over HTTPS with a researcher’s token', async () => {
  const url = (await command('make', '-s', 'url')).trim();
  const token = (await ok(['create', 'token', 'researcher', '-n', 'evals', '--duration=10m'])).trim();
  const curl = (...args: string[]) => command('curl', '-sS', '--cacert', '.crucible/ca.crt', '-H', `authorization: Bearer ${token}`, ...args);
  const code = async (path: string) => (await curl('-o', '/dev/null', '-w', '%{http_code}', url + path)).trim();
  const transcript: string[] = [];

  const answer = await curl('-i', '-X', 'POST', '-H', 'content-type: application/json', '-d', JSON.stringify({ metadata: { namespace: 'evals' }, spec: SPEC }), `${url}/api/evaluations`);
  expect(answer).toMatch(/^HTTP\/1.1 202 /);
  const { id, name, statusUrl } = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n'))) as { id: string; name: string; statusUrl: string };
  transcript.push(`POST /api/evaluations → 202 ${name}`);
  expect(['200', '202']).toContain(await code(statusUrl));
  // Until the last event: the stream itself never ends.
  const follow = `while IFS= read -r line; do printf '%s\\n' "$line"; case $line in "event: evaluation.finished") last=1 ;; "") [ -z "$last" ] || break ;; esac; done`;
  const events = command('bash', '-c', `${follow} < <(curl -sSN --max-time 150 --cacert .crucible/ca.crt -H "authorization: Bearer $1" "$2" 2>/dev/null)`, '_', token, `${url}/api/evaluations/${id}/events`);
  const types = [...(await events).matchAll(/^event: (.*)$/gm)].map(([, type]) => type);
  expect(types[0]).toBe('evaluation.accepted');
  expect(types.at(-1)).toBe('evaluation.finished');
  transcript.push(`events: ${types.join(', ')}`);
  await eventually('200', 30, async () => ((await code(statusUrl)) === '200' ? true : undefined));
  expect(await curl(`${url}/api/evaluations/${id}/output/stdout`)).toBe('hello from the API\n');
  expect(await curl(`${url}/api/evaluations/${id}/artifacts/out.txt`)).toBe('42');
  expect((await getEvaluation(name)).status?.phase).toBe('Succeeded');
  transcript.push('GET …/output/stdout → hello from the API', 'GET …/artifacts/out.txt → 42');

  interface Complete {
    storage_locations: { backend: string }[];
    timeline: { kubernetesEvent: { component: string; reason: string } | null }[];
  }
  const complete = async () => JSON.parse(await curl(`${url}/api/evaluations/${id}/complete`)) as Complete;
  expect(new Set((await complete()).storage_locations.map(({ backend }) => backend))).toEqual(new Set(['database', 'file', 'redis']));
  // The kubelet tells within seconds, and it is kept a second later.
  const expected = ['default-scheduler: Scheduled', 'kubelet: Pulled', 'kubelet: Started'];
  let told: string[] = [];
  await eventually('what Kubernetes told, in the timeline', 60, async () => {
    told = (await complete()).timeline.flatMap(({ kubernetesEvent: each }) => (each === null ? [] : [`${each.component}: ${each.reason}`]));
    return expected.every((each) => told.includes(each)) ? true : undefined;
  }).catch((error: Error) => {
    throw new Error(`${error.message}; there is ${told.join(', ')}`);
  });
  transcript.push(`timeline: ${told.join(', ')}`);
  expect(await code('/api/queue?namespace=kube-system')).toBe('403');
  expect(JSON.parse(await curl('-X', 'POST', '-H', 'content-type: application/json', '-d', JSON.stringify({ metadata: { namespace: 'evals' }, spec: SPEC }), `${url}/api/plans`))).toMatchObject({ admitted: true, assumptions: [] });
  expect(await command('curl', '-sS', '--cacert', '.crucible/ca.crt', '-o', '/dev/null', '-w', '%{http_code}', `${url}/api/evaluations`)).toBe('401');
  console.log(transcript.join('\n'));
});
