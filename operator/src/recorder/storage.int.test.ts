// The recorder with a file store in S3, quotas, and a sweep that is in its way.
import { randomBytes, randomUUID } from 'node:crypto';
import { ArtifactRepository, connect, sweepFiles, type FileStore } from '@crucible/storage';
import { createBucket, S3FileStore } from '@crucible/storage/testing';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testServer } from '../../../test/integration/environment.ts';
import { parseTestS3 } from '../../../test/integration/s3.ts';
import { systemClock } from '../kube/index.ts';
import { ARTIFACT_LIMITS } from './artifacts.ts';
import { tidy } from './housekeeping.ts';
import { RecorderMetrics } from './metrics.ts';
import { Slots } from './slots.ts';
import { DEFAULT_STORAGE } from './storage-config.ts';
import type { TestPod } from './testing/cluster.ts';
import { encode, type EncodedFile } from './testing/encoder.ts';
import { sha256, World } from './testing/world.ts';

let world: World;
let files: S3FileStore;
beforeAll(async () => {
  const { endpoint, region, ...credentials } = parseTestS3(testServer('CRUCIBLE_TEST_S3'));
  const bucket = `recorder-${randomUUID()}`;
  const options = { bucket, region, endpoint, credentials };
  await createBucket(options);
  files = new S3FileStore(options);
  world = await World.create();
});
afterAll(async () => {
  await world.close();
  files.close();
});

let pods = 0;
async function play(artifacts: readonly EncodedFile[]): Promise<TestPod> {
  const pod = await world.addPod(`stored-${(pods += 1)}`);
  world.cluster.setState(pod, 'running');
  pod.write(encode([{ stream: 'stdout', data: Buffer.from('out\n') }], { files: artifacts }));
  world.cluster.setState(pod, 'ended');
  return pod;
}
const rows = (pod: TestPod) => new ArtifactRepository(world.owner).list(pod.evaluationUid, 1);
const file = (path: string, bytes: number): EncodedFile => ({ path, data: randomBytes(bytes) });
const usedBytes = (uid: string) => new ArtifactRepository(world.owner).usedBytes(uid);

describe('artifacts in S3', () => {
  it('arrive exactly, under their hash, whatever their paths', async () => {
    const { stop } = await world.recorder('s3', { files });
    const artifacts = [file('../../../etc/passwd', 20_000), file('/abs', 1), file('same', 0), file('also empty', 0)];
    const pod = await play(artifacts);
    expect(await world.captured(pod)).toMatchObject({ complete: true, artifacts: { count: 4, complete: true } });
    for (const { data } of artifacts) expect((await files.read(sha256(data))).equals(data)).toBe(true);
    expect((await rows(pod)).map(({ path }) => path)).toEqual(artifacts.map(({ path }) => path));
    await stop();
  });

  it('are put again when a sweep takes them before they are recorded', async () => {
    let taken = 0;
    const robbed: Pick<FileStore, 'put' | 'has'> = {
      put: (content, options) => files.put(content, options),
      has: async (name) => {
        if (taken === 0) {
          taken += 1;
          await files.delete(name);
        }
        return await files.has(name);
      },
    };
    const { stop } = await world.recorder('robbed', { files: robbed });
    const lost = file('a', 300);
    const pod = await play([lost]);
    expect(await world.captured(pod)).toMatchObject({ complete: true, artifacts: { count: 1, complete: true } });
    expect([taken, await files.has(sha256(lost.data))]).toEqual([1, true]);
    await stop();
  });

  it('that never stay are recorded as refused: the capture ends', async () => {
    const { stop } = await world.recorder('thief', { files: { put: async () => ({ sha256: '', size: 0 }), has: async () => false } });
    const pod = await play([file('a', 10)]);
    expect(await world.captured(pod)).toMatchObject({ complete: false, reason: 'ArtifactsIncomplete', artifacts: { refused: 1 } });
    expect((await world.stored(pod, 'stdout')).toString()).toBe('out\n');
    expect(await rows(pod)).toMatchObject([{ refused: expect.stringMatching(/was deleted before/), sha256: null }]);
    await stop();
  });
});

it('a store that hangs keeps no connection from output, however many captures with artifacts end', async () => {
  const letGo = Promise.withResolvers<void>();
  let asked = 0;
  const hanging: Pick<FileStore, 'put' | 'has'> = {
    put: (content, options) => files.put(content, options),
    has: async (name) => {
      asked += 1;
      await letGo.promise;
      return await files.has(name);
    },
  };
  const closings = new Slots(2);
  const { stop } = await world.recorder('hanging', { files: hanging, closings }, { pool: { poolSize: 4 } });
  const ended = await Promise.all(Array.from({ length: 6 }, () => play([file('a', 300)])));
  await expect.poll(() => asked >= 2 && closings.waiting === 4, { timeout: 30_000 }).toBe(true);
  const running = await world.addPod('running');
  world.cluster.setState(running, 'running');
  running.write(encode([{ stream: 'stdout', data: Buffer.from('out\n') }], { summary: false }));
  await world.until(async () => ((await world.captures.get(running.evaluationUid, 1))?.lastSeq === 2 ? true : undefined));
  letGo.resolve();
  for (const pod of ended) expect(await world.captured(pod)).toMatchObject({ complete: true, artifacts: { count: 1 } });
  world.cluster.setState(running, 'ended');
  await world.captured(running);
  await stop();
});

describe('quotas', () => {
  it('of a run refuse what is too much and keep the rest, output untouched', async () => {
    const run = { ...ARTIFACT_LIMITS, maxTotalBytes: 1_000, maxFiles: 3 };
    const { stop } = await world.recorder('run', { files, quota: { run, maxNamespaceBytes: undefined, usedBytes } });
    const pod = await play([file('a', 600), file('b', 600), file('c', 100), file('d', 1)]);
    const capture = await world.captured(pod);
    expect(capture).toMatchObject({ reason: 'ArtifactsIncomplete', streams: { stdout: { complete: true, bytes: 4 } } });
    expect((await rows(pod)).map(({ path, refused }) => [path, refused])).toEqual([
      ['a', null],
      ['b', expect.stringMatching(/together are larger than 1000/)],
      ['c', null],
      ['d', expect.stringMatching(/more than 3 files/)],
    ]);
    await stop();
  });

  it('of a namespace refuse before anything is stored', async () => {
    const quota = { run: ARTIFACT_LIMITS, maxNamespaceBytes: 500, usedBytes };
    const { stop } = await world.recorder('namespace', { files, quota });
    const [small, large] = [file('small', 400), file('large', 501)];
    const pod = await play([large, small]);
    expect(await world.captured(pod)).toMatchObject({ artifacts: { count: 1, refused: 1, bytes: 400 } });
    expect(await rows(pod)).toMatchObject([{ path: 'large', refused: expect.stringMatching(/quota/) }, { path: 'small', refused: null }]);
    expect([await files.has(sha256(large.data)), await files.has(sha256(small.data))]).toEqual([false, true]);
    await stop();
  });
});

describe('housekeeping', () => {
  it('goes on until nothing is too old, however much there is', async () => {
    await world.owner.query(
      `INSERT INTO crucible.evaluations (uid, namespace, namespace_uid, name, generation, spec, phase, verdict, created_at, finished_at, epoch)
       SELECT gen_random_uuid(), 'many', $1, 'run-' || i, 1, '{}', 'Succeeded', '{"class": "Succeeded"}', now() - interval '10 days',
              now() - interval '9 days', 1 FROM generate_series(1, 2600) i`,
      [randomUUID()],
    );
    const database = connect(world.recorderDsn);
    const metrics = new RecorderMetrics(new Registry(), () => true);
    const config = { ...DEFAULT_STORAGE, retentionDays: { output: 0, artifacts: 0, records: 7 }, orphanGraceHours: 0 };
    const options = { config, database, files, metrics, logger: pino({ level: 'silent' }), clock: systemClock };
    expect(await tidy(options, new AbortController().signal)).toBe('done');
    expect((await world.owner.query("SELECT FROM crucible.evaluations WHERE namespace = 'many'")).rowCount).toBe(0);
    await database.close();
  });

  it('as the recorder: expires, sweeps, and leaves what is named', async () => {
    const { stop } = await world.recorder('house', { files });
    const artifact = file('kept', 50);
    const pod = await play([artifact]);
    await world.captured(pod);
    const orphan = randomBytes(30);
    await files.put(orphan);
    const database = connect(world.recorderDsn);
    const options = { database, files, metrics: new RecorderMetrics(new Registry()), logger: pino({ level: 'silent' }), clock: systemClock };
    const config = { ...DEFAULT_STORAGE, retentionDays: { output: 1, artifacts: 1, records: 1 } };
    await tidy({ ...options, config }, new AbortController().signal);
    expect([await files.has(sha256(orphan)), await files.has(sha256(artifact.data))]).toEqual([true, true]);
    await sweepFiles(database, files, { graceSeconds: 7_200, now: () => Date.now() + 86_400_000 });
    expect([await files.has(sha256(orphan)), await files.has(sha256(artifact.data))]).toEqual([false, true]);
    await database.close();
    await stop();
  });
});
