/**
 * Two recorders share the work (recorder.replicas: 2, on one volume), and one of them is killed while the runs write. A node
 * has one disk for all its pods, so the volume of the local cluster is shared as one that many nodes may write would be.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';
import { evaluation, eventually, getJson, NAMESPACE, ok, RELEASE_NAMESPACE, RUN_SECONDS, sql, uniqueName } from './cluster.ts';

const RUNS = 12;
const LINES = 400;
const PAD = 'y'.repeat(200);
/** A program writes for as long as it takes to see both recorders at work and to kill one of them, on a busy machine too. */
const WRITES_FOR_SECONDS = 10;

const code = `
printf '%s' "$RUN" > name.txt
for ((n = 0; n < ${LINES}; n++)); do
  printf '%s %05d ${PAD}\\n' "$RUN" "$n"
  if ((n % 20 == 19)); then sleep ${(WRITES_FOR_SECONDS * 20) / LINES}; fi
done`;
const printed = (name: string): string => Array.from({ length: LINES }, (_, n) => `${name} ${String(n).padStart(5, '0')} ${PAD}\n`).join('');

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** As whoever runs an installation does it, with the values that it has. */
async function scale(replicas: number): Promise<void> {
  const shared = replicas > 1;
  const values = {
    'recorder.replicas': String(replicas),
    // The volume that is there: its claim keeps the mode that it was made with, and on one node that is enough.
    'recorder.persistence.existingClaim': shared ? 'crucible-recorder' : '',
    'recorder.persistence.accessModes': shared ? '{ReadWriteMany}' : '{ReadWriteOnce}',
  };
  const set = Object.entries(values).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
  const chart = join(import.meta.dirname, '../../charts/crucible');
  await promisify(execFile)('helm', ['upgrade', 'crucible', chart, '-n', RELEASE_NAMESPACE, '--reuse-values', ...set, '--wait', '--timeout', '2m'], { timeout: 150_000 });
}

async function recorders(): Promise<string[]> {
  const selector = 'app.kubernetes.io/part-of=crucible,app.kubernetes.io/component=recorder';
  const { items } = await getJson<{ items: { metadata: { name: string; deletionTimestamp?: string } }[] }>(['pods', '-n', RELEASE_NAMESPACE, '-l', selector]);
  return items.filter(({ metadata }) => metadata.deletionTimestamp === undefined).map(({ metadata }) => metadata.name);
}

afterAll(async () => {
  await scale(1);
  await eventually('one recorder', 60, async () => ((await recorders()).length === 1 ? true : undefined));
});

it('two recorders share the work, one is killed, and no byte is lost or doubled', async () => {
  await scale(2);
  const both = await recorders();
  expect(both).toHaveLength(2);
  const group = uniqueName('shared');
  const names = Array.from({ length: RUNS }, (_, index) => `${group}-${index}`);
  const items = names.map((name) => evaluation(name, {
    runtime: 'bash', code, env: [{ name: 'RUN', value: name }], timeoutSeconds: 60, artifacts: { paths: ['*.txt'] },
    resources: { cpu: '500m', memory: '64Mi', disk: '4Mi' },
  }));
  await ok(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));

  // The claim of a recorder is its name and when it was renewed.
  const own = `from crucible.captures c join crucible.evaluations e on e.uid = c.evaluation_uid where e.namespace = '${NAMESPACE}' and e.name like '${group}-%'`;
  const atWork = await eventually('both recorders at work', 60, async () => {
    const rows = await sql(`select split_part(c.recorder, '@', 1), count(*) ${own} and c.state = 'following' and c.last_seq > 1 group by 1`);
    return rows.length === 2 ? rows : undefined;
  });
  const [victim = ''] = atWork.map(([recorder]) => recorder);
  await ok(['delete', 'pod', '-n', RELEASE_NAMESPACE, victim, '--force', '--grace-period=0', '--wait=false']);
  for (const name of names) await ok(['wait', '--for=condition=Finished', `evaluation/${name}`, '-n', NAMESPACE, `--timeout=${RUN_SECONDS}s`]);

  const rows = await sql(
    `select e.name, e.verdict->>'class', c.complete, s.complete, s.sha256,
       (select sum(octet_length(o.data)) = s.bytes and count(distinct o.byte_offset) = count(*) from crucible.output_chunks o
        where o.evaluation_uid = e.uid and o.attempt = s.attempt and o.stream = 'stdout'),
       (select string_agg(f.path || ' ' || f.sha256, ',') from crucible.artifacts f where f.evaluation_uid = e.uid and f.attempt = s.attempt and f.complete)
     from crucible.evaluations e join crucible.captures c on c.evaluation_uid = e.uid and c.attempt = e.accepted_attempt
     join crucible.streams s on s.evaluation_uid = e.uid and s.attempt = c.attempt and s.stream = 'stdout'
     where e.namespace = '${NAMESPACE}' and e.name like '${group}-%'`,
  );
  const expected = names.map((name) => [name, 'Succeeded', 't', 't', sha256(printed(name)), 't', `name.txt ${sha256(name)}`]);
  expect(new Set(rows.map(String))).toEqual(new Set(expected.map(String)));
  const ended = await sql(`select split_part(c.recorder, '@', 1), count(*) ${own} group by 1`);
  console.log(`while they wrote: ${atWork.map(String).join('; ')}; killed: ${victim}; in the end: ${ended.map(String).join('; ')}`);
  // What the dead one had, others took over.
  expect(ended.map(([recorder]) => recorder).some((recorder) => recorder !== victim)).toBe(true);
});
