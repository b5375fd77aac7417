import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Evaluation } from '@crucible/crds';
import { NAMESPACE, RELEASE_NAMESPACE, RUN_SECONDS, apply, evaluation, eventually, getEvaluation, ok, uniqueName, waitFor } from './cluster.ts';

// Every phase of one run with a real pod, and the conditions that hold in it, as a watch shows them. The recorder is away
// while the code ends: otherwise the output is stored before anybody could see that it is not.

const RECORDER = ['-n', RELEASE_NAMESPACE, 'deployment/crucible-recorder'];
const CODE = 'import time\nprint("begun", flush=True)\ntime.sleep(8)\nprint("41")';
const name = uniqueName('life');
const pause = (data: object | null) => ok(['patch', 'configmap', 'crucible-pause', '-n', NAMESPACE, '--type=merge', '-p', JSON.stringify({ data })]);

let replicas = 1;
beforeAll(async () => {
  replicas = Number(await ok(['get', ...RECORDER, '-o', 'jsonpath={.spec.replicas}']));
});
afterAll(async () => {
  await pause(null);
  await ok(['scale', ...RECORDER, `--replicas=${replicas}`]);
  await ok(['rollout', 'status', ...RECORDER, '--timeout=90s']);
});

/** `Phase: conditions that hold`, each time that it is another one. */
function watchPhases(): { readonly seen: string[]; stop(): void } {
  const seen: string[] = [];
  const path = '{.status}{"\\n"}'; // as JSON, on one line
  const child = spawn('kubectl', ['get', 'evaluations', '-n', NAMESPACE, `--field-selector=metadata.name=${name}`, '-w', '-o', `jsonpath=${path}`]);
  let text = '';
  child.stdout.on('data', (data: Buffer) => {
    const lines = (text += data.toString()).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines.filter((one) => one.startsWith('{'))) {
      const { phase, conditions = [] } = JSON.parse(line) as NonNullable<Evaluation['status']>;
      const holds = conditions.filter(({ status }) => status === 'True').map(({ type }) => type);
      const said = `${phase}: ${holds.sort().join(' ')}`;
      if (phase !== undefined && seen.at(-1) !== said) seen.push(said);
    }
  });
  return { seen, stop: () => void child.kill() };
}

const inPhase = (phase: string): Promise<Evaluation> =>
  eventually(`phase ${phase}`, RUN_SECONDS, async () => {
    const found = await getEvaluation(name);
    return found.status?.phase === phase ? found : undefined;
  });

it('Queued, Running, Capturing and the end, each with its conditions', async () => {
  const watch = watchPhases();
  try {
    await pause({ paused: 'true', reason: 'the e2e test' });
    await sleep(1000); // for the operator's watch: the pause itself has a test of its own
    await apply(evaluation(name, { runtime: 'python', code: CODE, expect: { stdout: { equals: '42' } } }));
    await inPhase('Queued');
    await pause(null);
    await inPhase('Running');
    await ok(['scale', ...RECORDER, '--replicas=0']);
    const capturing = await inPhase('Capturing');
    expect(capturing.status?.conditions?.find(({ type }) => type === 'Captured')).toMatchObject({ status: 'False', reason: 'Capturing' });
    expect(capturing.status?.verdict).toBeUndefined();
    await ok(['scale', ...RECORDER, `--replicas=${replicas}`]);
    const { status } = await waitFor(name, 'Finished');
    expect(status?.output).toMatchObject({ complete: true, tail: 'begun\n41\n' });
    expect(status?.conditions?.find(({ type }) => type === 'Passed')).toMatchObject({ status: 'False' });
    const end = 'Succeeded: Accepted Captured Complete Contained Finished Ready Started';
    await eventually('the end in the watch', 10, async () => (watch.seen.at(-1) === end ? true : undefined)).catch(() => undefined);
    // What passes within a second is not said: how long a pod takes to start, or a stored output to be scored, is chance.
    const passing = ['Starting: Accepted Reconciling', 'Capturing: Accepted Captured Reconciling Started'];
    expect(watch.seen.filter((said) => !passing.includes(said))).toEqual([
      'Queued: Accepted Reconciling',
      'Running: Accepted Reconciling Started',
      'Capturing: Accepted Reconciling Started',
      end,
    ]);
  } finally {
    watch.stop();
  }
});
