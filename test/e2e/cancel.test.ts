import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { NAMESPACE, apply, condition, evaluation, eventually, getJson, kubectl, ok, sql, uniqueName, waitFor } from './cluster.ts';

// The status of a pod is always older than the pod. Cancelled or deleted in the seconds in which its container starts, a
// run must still be told apart from one that never began, and what it printed first must still be there.

/** Seconds after the pod was seen to exist: it is scheduled, created and started within about the first two. */
const MOMENTS = [0, 0.2, 0.4, 0.7, 1, 1.5, 2.5];
/** An end by deadline takes the kubelet about ten seconds, several at once on two cores longer. */
const END_SECONDS = 120;

interface Started {
  name: string;
  uid: string;
  marker: string;
}

/** Applied, its pod is there, and so long have passed. */
async function startedFor(seconds: number): Promise<Started> {
  const name = uniqueName('cancel');
  const marker = randomUUID();
  const code = `import time\nprint("${marker}", flush=True)\ntime.sleep(60)\n`;
  await apply(evaluation(name, { runtime: 'python', code, timeoutSeconds: 90 }));
  const { metadata } = await getJson<{ metadata: { uid: string } }>(['evaluation', name, '-n', NAMESPACE]);
  await ok([
    'wait', '--for=create', 'pod', '-n', NAMESPACE, '-l', `crucible.dev/evaluation-uid=${metadata.uid}`, '--timeout=60s',
  ]).catch(() => eventually('a pod', 60, () => podName(metadata.uid)));
  await sleep(seconds * 1000);
  return { name, uid: metadata.uid, marker };
}

async function podName(uid: string): Promise<string | undefined> {
  const found = await kubectl(['get', 'pods', '-n', NAMESPACE, '-l', `crucible.dev/evaluation-uid=${uid}`, '-o', 'name']);
  return found.stdout.trim() === '' ? undefined : found.stdout.trim();
}

interface Recorded {
  message: string;
  verdict: string;
  lastSeq: number;
  complete: boolean;
  reason: string;
  stdout: string;
}

async function recorded(uid: string): Promise<Recorded> {
  const [row] = await sql(`
    select a.verdict->>'class', replace(a.verdict->>'message', '|', ' '), coalesce(c.last_seq, 0), coalesce(c.complete, true),
      coalesce(c.reason, ''),
      coalesce((select string_agg(convert_from(o.data, 'UTF8'), '' order by o.first_seq) from crucible.output_chunks o
        where o.evaluation_uid = a.evaluation_uid and o.attempt = a.number and o.stream = 'stdout'), '')
    from crucible.attempts a left join crucible.captures c on (c.evaluation_uid, c.attempt) = (a.evaluation_uid, a.number)
    where a.evaluation_uid = '${uid}' and a.state = 'finalized' order by a.number desc limit 1`);
  const [verdict = '', message = '', lastSeq = '0', complete = '', reason = '', stdout = ''] = row ?? [];
  return { verdict, message, lastSeq: Number(lastSeq), complete: complete === 't', reason, stdout };
}

/** Whatever happened, what is said of it is what the record holds. */
function check({ marker }: Started, said: Recorded): void {
  expect(said.verdict).toBe('Cancelled');
  // The log must have been read: a pod or a log that was taken away before is the very loss this is about.
  expect(['PodGone', 'LogUnavailable', 'NodeUnreachable']).not.toContain(said.reason);
  if (said.lastSeq > 0) {
    expect(said.message).not.toMatch(/before the code started/i);
  } else {
    expect(said.message).toMatch(/before the code started/i);
    expect(said.complete).toBe(true);
  }
  // The receipt is the first frame, the marker the next one.
  if (said.lastSeq > 1) expect(said.stdout).toContain(marker);
}

describe('cancelled while it starts', () => {
  it.each(MOMENTS)('%s s after its pod appeared: says what the record holds', async (seconds) => {
    const run = await startedFor(seconds);
    await ok(['patch', 'evaluation', run.name, '-n', NAMESPACE, '--type=merge', '-p', '{"spec":{"cancel":true}}']);
    const ended = await waitFor(run.name, 'Finished', END_SECONDS);
    const said = await recorded(run.uid);
    check(run, said);
    expect(ended.status?.verdict?.message).toBe(said.message);
    const ran = said.lastSeq > 0;
    expect(condition(ended, 'Started')?.status).toBe(ran ? 'True' : 'False');
    expect(condition(ended, 'Captured')?.reason === 'NoOutput').toBe(!ran);
    if (said.lastSeq > 1) expect(ended.status?.output?.tail).toContain(run.marker);
  });
});

describe('deleted while it starts', () => {
  it.each([0.3, 1, 2])('%s s after its pod appeared: the record says what happened, and nothing is left', async (seconds) => {
    const run = await startedFor(seconds);
    await ok(['delete', 'evaluation', run.name, '-n', NAMESPACE, `--timeout=${END_SECONDS}s`]);
    check(run, await recorded(run.uid));
    await eventually('no pod', 60, async () => ((await podName(run.uid)) === undefined ? true : undefined));
  });
});
