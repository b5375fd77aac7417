/**
 * Nothing is lost: while a run writes more than 1 MiB of seeded random bytes, the recorder, Redis and Postgres are killed.
 * CRUCIBLE_SEEDS says how many runs (3 unless set), CRUCIBLE_SEED replays one.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { apply, evaluation, eventually, ok, RELEASE_NAMESPACE, RUN_SECONDS, sql, uniqueName, waitFor } from './cluster.ts';

const BYTES = 1_200_000;
/** Long enough that every kill falls while bytes flow. */
const WRITES_FOR_SECONDS = 12;

const code = (seed: number): string => `
import hashlib, random, sys, time
source, digest, chunk = random.Random(${seed}), hashlib.sha256(), 20_000
for _ in range(${BYTES} // chunk):
    data = source.randbytes(chunk)
    sys.stdout.buffer.write(data); sys.stdout.buffer.flush(); digest.update(data)
    time.sleep(${WRITES_FOR_SECONDS} / (${BYTES} // chunk))
print(digest.hexdigest(), file=sys.stderr)
`;

/** SIGKILL, with no time to put anything in order; the controller makes a new pod. */
async function kill(component: string): Promise<void> {
  const selector = `app.kubernetes.io/part-of=crucible,app.kubernetes.io/component=${component}`;
  expect(await ok(['get', 'pods', '-n', RELEASE_NAMESPACE, '-l', selector, '-o', 'name'])).not.toBe('');
  await ok(['delete', 'pods', '-n', RELEASE_NAMESPACE, '-l', selector, '--force', '--grace-period=0', '--wait=false']);
}

async function settled(): Promise<void> {
  for (const workload of ['deployment/crucible-recorder', 'deployment/crucible-redis', 'statefulset/crucible-postgres', 'deployment/crucible-operator']) {
    await ok(['rollout', 'status', workload, '-n', RELEASE_NAMESPACE, '--timeout=120s']);
  }
}

const only = process.env['CRUCIBLE_SEED'];
const seeds = only ? [Number(only)] : Array.from({ length: Number(process.env['CRUCIBLE_SEEDS'] ?? 3) }, (_, index) => 1000 + index);

describe('output while the recorder, Redis and Postgres are killed', () => {
  it.each(seeds)('seed %i: every byte is there', async (seed) => {
    const name = uniqueName(`crash-${seed}`);
    await apply(
      evaluation(name, { runtime: 'python', code: code(seed), timeoutSeconds: 60, output: { maxBytes: '2Mi' }, artifacts: { paths: ['none'], maxBytes: '1Mi' } }),
    );
    await waitFor(name, 'Started', 60);
    // Which is killed when follows from the seed alone.
    const components = ['recorder', 'redis', 'postgres'];
    for (let turn = 0; turn < components.length; turn += 1) {
      await sleep(500 + ((seed * (turn + 7)) % 5) * 400);
      await kill(components[(seed + turn) % components.length]!);
    }
    const ended = await waitFor(name, 'Finished', RUN_SECONDS);
    expect(ended.status).toMatchObject({ phase: 'Succeeded', output: { complete: true, truncated: false } });

    const uid = ended.metadata!.uid!;
    const stored = await eventually('Postgres answers', 60, () =>
      sql(
        `select stream, encode(sha256(string_agg(data, ''::bytea order by byte_offset)), 'hex'), sum(length(data))
         from crucible.output_chunks where evaluation_uid = '${uid}' group by stream order by stream desc`,
      ).catch(() => undefined),
    );
    const written = Math.floor(BYTES / 20_000) * 20_000;
    expect([stored[0]![0], stored[0]![2]]).toEqual(['stdout', String(written)]);
    // The program's own digest of what it wrote, from its stderr.
    const [[digest] = []] = await sql(`select convert_from(data, 'utf8') from crucible.output_chunks where evaluation_uid = '${uid}' and stream = 'stderr'`);
    expect(stored[0]![1]).toBe(digest);
    await settled();
  });
});
