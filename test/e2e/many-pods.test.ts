/** Many runs at once, in `make soak` 200: all of their output is recorded, and the recorder stays within its memory. */
import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { evaluation, getJson, NAMESPACE, ok, RELEASE_NAMESPACE, sql, uniqueName } from './cluster.ts';

const RUNS = Number(process.env['CRUCIBLE_RUNS'] ?? 50);
const LINES = 640;
const PAD = 'x'.repeat(90);
/** In which two cores start as many sandboxes as they can; whoever began before waits for it, so that all overlap. */
const TOGETHER_SECONDS = 0.8 * RUNS;
/** A slow machine starts some of them later; all have to be there in the end. */
const AT_LEAST_TOGETHER = (RUNS > 50 ? 0.8 : 0.4) * RUNS;
const LIMIT_SECONDS = Math.ceil(2.2 * RUNS + 40);

/** First half, wait, second half: the recorder follows for as long as the others begin. */
const code = (until: number): string => `
lines() { for ((n = $1; n < $2; n++)); do printf '%s %05d ${PAD}\\n' "$RUN" "$n"; done; }
lines 0 ${LINES / 2}
left=$((${until} - EPOCHSECONDS))
if ((left > 0)); then sleep "$left"; fi
lines ${LINES / 2} ${LINES}
`;

const printed = (name: string): string => Array.from({ length: LINES }, (_, n) => `${name} ${String(n).padStart(5, '0')} ${PAD}\n`).join('');

interface RecorderPod {
  metadata: { name: string };
  spec: { containers: { resources: { limits: { memory: string } } }[] };
  status: { containerStatuses: { restartCount: number }[] };
}

async function recorderPod(): Promise<RecorderPod> {
  const selector = 'app.kubernetes.io/part-of=crucible,app.kubernetes.io/component=recorder';
  const { items } = await getJson<{ items: RecorderPod[] }>(['pods', '-n', RELEASE_NAMESPACE, '-l', selector]);
  expect(items).toHaveLength(1);
  return items[0]!;
}

/** Resident memory of the recorder's process, and what it was at most since it began: the kernel's own count. */
async function memoryMebibytes(pod: RecorderPod): Promise<{ now: number; most: number }> {
  const status = await ok(['exec', '-n', RELEASE_NAMESPACE, pod.metadata.name, '--', 'cat', '/proc/1/status']);
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)![1]) / 1024;
  return { now: field('VmRSS'), most: field('VmHWM') };
}

it(`records ${RUNS} runs at once within the recorder's memory`, { timeout: (LIMIT_SECONDS + 60) * 1000 }, async () => {
  const group = uniqueName('many');
  const names = Array.from({ length: RUNS }, (_, index) => `${group}-${index}`);
  const before = await recorderPod();
  const source = code(Math.floor(Date.now() / 1000 + TOGETHER_SECONDS));
  const items = names.map((name) => ({
    ...(evaluation(name, {
      // Of the processor a tenth is asked for: of all together that is one of two cores. Memory is reserved, 64 MiB more than here.
      runtime: 'bash', code: source, env: [{ name: 'RUN', value: name }], timeoutSeconds: LIMIT_SECONDS,
      resources: { cpu: `${Math.floor(10_000 / RUNS)}m`, memory: `${Math.min(64, Math.floor(6400 / RUNS))}Mi`, disk: '4Mi' },
    }) as { metadata: object }),
    metadata: { name, namespace: NAMESPACE, labels: { group } },
  }));
  await ok(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  await ok(['wait', '--for=condition=Finished', 'evaluation', '-n', NAMESPACE, '-l', `group=${group}`, `--timeout=${LIMIT_SECONDS}s`], '', LIMIT_SECONDS + 10);

  const rows = await sql(
    `select e.name, e.verdict->>'class', s.complete, s.sha256 from crucible.evaluations e
     join crucible.streams s on s.evaluation_uid = e.uid and s.attempt = e.accepted_attempt and s.stream = 'stdout'
     where e.namespace = '${NAMESPACE}' and e.name like '${group}-%'`,
  );
  const expected = names.map((name) => [name, 'Succeeded', 't', createHash('sha256').update(printed(name)).digest('hex')]);
  expect(new Set(rows.map(String))).toEqual(new Set(expected.map(String)));

  const [[together] = []] = await sql(
    `select max(others) from (select (select count(*) from crucible.attempts b join crucible.evaluations f on f.uid = b.evaluation_uid
       where f.name like '${group}-%' and b.started_at <= a.started_at and b.finished_at > a.started_at) as others
     from crucible.attempts a join crucible.evaluations e on e.uid = a.evaluation_uid where e.name like '${group}-%') as counted`,
  );
  expect(Number(together)).toBeGreaterThanOrEqual(AT_LEAST_TOGETHER);

  const after = await recorderPod();
  const restarts = ({ metadata, status }: RecorderPod): unknown => [metadata.name, status.containerStatuses.map(({ restartCount }) => restartCount)];
  expect(restarts(after)).toEqual(restarts(before));
  const limit = after.spec.containers[0]!.resources.limits.memory;
  expect(limit).toMatch(/^\d+Mi$/);
  const { now, most } = await memoryMebibytes(after);
  console.log(`${together} of ${RUNS} ran at once; the recorder holds ${now.toFixed(0)} MiB, at most ${most.toFixed(0)} of ${parseInt(limit, 10)} MiB`);
  expect(most).toBeLessThan(parseInt(limit, 10));
});
