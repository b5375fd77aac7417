/** The real cluster of the e2e tests, driven through kubectl as a user would. Needs KUBECONFIG. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Evaluation } from '@crucible/crds';

export const NAMESPACE = 'evals';
export const RELEASE_NAMESPACE = 'crucible-system';
/** For control pods without policies: never an evaluation namespace. */
export const DRILL_NAMESPACE = 'crucible-drill';
export const samples = join(import.meta.dirname, '../../deploy/samples');

/** From apply to the end, on two cores that also run the cluster: start-up about 4 s, the rest is the run itself. */
export const RUN_SECONDS = 120;

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

/** A test may take 180 s unless it says otherwise. */
const KUBECTL_SECONDS = 170;

/** Runs kubectl; never throws. `input` goes to its standard input. */
export function kubectl(args: string[], input?: string, seconds = KUBECTL_SECONDS): Promise<Result> {
  return new Promise((resolve) => {
    const child = execFile('kubectl', args, { maxBuffer: 64 * 1024 * 1024, timeout: seconds * 1000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
      resolve({ code, stdout, stderr: error?.killed === true ? `${stderr}ended after ${seconds} s` : stderr });
    });
    child.stdin?.on('error', () => {}); // kubectl may end before it has read all
    child.stdin?.end(input ?? '');
  });
}

/** Runs kubectl; throws with its words if it fails. Resolves with stdout. */
export async function ok(args: string[], input?: string, seconds?: number): Promise<string> {
  const result = await kubectl(args, input, seconds);
  if (result.code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

export async function getJson<T>(args: string[]): Promise<T> {
  return JSON.parse(await ok(['get', ...args, '-o', 'json'])) as T;
}

export const apply = (object: object): Promise<string> => ok(['apply', '-f', '-'], JSON.stringify(object));

/** What the API server says to an object it should refuse. */
export async function refusal(object: object): Promise<string> {
  const result = await kubectl(['apply', '-f', '-'], JSON.stringify(object));
  if (result.code === 0) throw new Error(`accepted, but should be refused: ${result.stdout}`);
  return result.stderr;
}

let counter = 0;
/** A name that no other run of the tests has used. */
export const uniqueName = (prefix: string): string => `${prefix}-${Date.now().toString(36)}${(counter++).toString(36)}`;

export function evaluation(name: string, spec: Record<string, unknown>, namespace = NAMESPACE): object {
  return { apiVersion: 'crucible.dev/v1alpha1', kind: 'Evaluation', metadata: { name, namespace }, spec };
}

/** What marks pods without policies that a test runs beside sandboxes. */
const CONTROL = 'app.kubernetes.io/part-of=crucible-e2e';

/** A pod that nothing holds back, with the image of the python runtime. Only ever in `crucible-drill`. */
export async function controlPod(prefix: string, program: string): Promise<string> {
  const { spec } = await getJson<{ spec: { image: string } }>(['evaluationruntime', 'python']);
  const name = uniqueName(prefix);
  const [key, value] = CONTROL.split('=') as [string, string];
  await apply({
    apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: DRILL_NAMESPACE, labels: { [key]: value } },
    spec: {
      restartPolicy: 'Never', automountServiceAccountToken: false, terminationGracePeriodSeconds: 1,
      containers: [{ name: 'control', image: spec.image, command: ['/usr/bin/python3', '-u', '-c', program] }],
    },
  });
  return name;
}

/** Also what a run of the tests left that was killed. */
export const sweepControls = (): Promise<string> => ok(['delete', 'pods', '-n', DRILL_NAMESPACE, '-l', CONTROL, '--wait=false']);

export const getEvaluation = (name: string, namespace = NAMESPACE): Promise<Evaluation> =>
  getJson<Evaluation>(['evaluation', name, '-n', namespace]);

/** Waits for a condition; on time-out throws what kubectl describe tells. */
export async function waitFor(name: string, condition: string, seconds = RUN_SECONDS, namespace = NAMESPACE): Promise<Evaluation> {
  const result = await kubectl(['wait', `--for=condition=${condition}`, `evaluation/${name}`, '-n', namespace, `--timeout=${seconds}s`]);
  if (result.code !== 0) {
    const { stdout } = await kubectl(['describe', 'evaluation', name, '-n', namespace]);
    throw new Error(`${name} did not become ${condition} within ${seconds} s: ${result.stderr}\n${stdout}`);
  }
  return getEvaluation(name, namespace);
}

/** Applies an evaluation and waits for its end, whichever it is. */
export async function run(spec: Record<string, unknown>, prefix = 'e2e'): Promise<Evaluation> {
  const name = uniqueName(prefix);
  await apply(evaluation(name, spec));
  return waitFor(name, 'Finished');
}

/** Runs SQL in the embedded Postgres, over the socket inside its container; rows as arrays of text columns. */
export async function sql(query: string): Promise<string[][]> {
  const out = await ok(['exec', '-n', RELEASE_NAMESPACE, 'crucible-postgres-0', '--', 'psql', '-U', 'postgres', '-d', 'crucible', '-XAtq', '-F', '|', '-c', query]);
  return out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('|'));
}

/** Calls `probe` until it gives a value or the time is over. */
export async function eventually<T>(what: string, seconds: number, probe: () => Promise<T | undefined>): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await sleep(500);
  }
}

export const condition = (object: Evaluation, type: string) => object.status?.conditions?.find((c) => c.type === type);
