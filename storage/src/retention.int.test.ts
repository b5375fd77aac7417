import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { QUOTA_REASON, SWEEP_LOCK } from './artifact-rules.ts';
import type { ArtifactRules } from './artifact-rules.ts';
import { ArtifactRepository } from './artifacts.ts';
import { AttemptRepository } from './attempts.ts';
import { CaptureRepository } from './captures.ts';
import { connect } from './database.ts';
import type { Database } from './database.ts';
import { DirectoryFileStore } from './directory-files.ts';
import { MissingContentError, UnavailableError } from './errors.ts';
import { EvaluationRepository } from './evaluations.ts';
import { EventRepository } from './events.ts';
import { expire, sweepFiles } from './retention.ts';
import { buildAttempt, buildEvaluation, buildFinish, prepareDatabase } from './testing.ts';

let database: TestDatabase;
let owner: Database;
let operator: Database;
let recorder: Database;
let recorderDsn: string;
let directory: string;
let files: DirectoryFileStore;

beforeAll(async () => {
  database = await createDatabase('retention');
  const dsns = await prepareDatabase(database.dsn);
  owner = connect(dsns.owner);
  operator = connect(dsns.operator);
  recorderDsn = dsns.recorder;
  recorder = connect({ connectionString: recorderDsn, poolSize: 16 });
  directory = await mkdtemp(join(tmpdir(), 'crucible-retention-'));
  files = new DirectoryFileStore({ directory });
});
afterAll(async () => {
  await Promise.all([owner, operator, recorder].map((db) => db?.close()));
  await database?.drop();
  await rm(directory, { recursive: true, force: true });
});

const DAY_MS = 86_400_000;
const daysAgo = (days: number) => new Date(Date.now() - days * DAY_MS);
const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

interface Run {
  evaluationUid: string;
  podUid: string;
}

async function begun(namespaceUid: string = randomUUID()): Promise<Run> {
  const evaluation = buildEvaluation({ uid: randomUUID(), namespaceUid });
  await new EvaluationRepository(operator).upsertAccepted(evaluation);
  await new AttemptRepository(operator).create(buildAttempt(evaluation.uid));
  const run = { evaluationUid: evaluation.uid, podUid: randomUUID() };
  const captures = new CaptureRepository(recorder);
  const key = { ...run, attempt: 1, recorder: 'r' };
  await captures.begin(key);
  const chunks = [{ stream: 'stdout' as const, firstSeq: 1, lastSeq: 1, lines: 1, data: Buffer.from('hello\n') }];
  await captures.append({ ...key, afterSeq: 0, lastSeq: 1, chunks });
  return run;
}

function finish(run: Run, contents: readonly Uint8Array[], rules: ArtifactRules = { files }, db = recorder) {
  const artifacts = contents.map((data, index) => ({ index, path: `a${index}`, size: data.length, sha256: sha256(data), complete: true }));
  const input = buildFinish({ ...run }, { lastSeq: 1, stdout: { bytes: 6, lines: 1 }, artifacts });
  return new CaptureRepository(db).finish(input, rules);
}

const end = ({ evaluationUid }: Run, finishedAt: Date) =>
  new EvaluationRepository(operator).finish({
    uid: evaluationUid, epoch: 1, phase: 'Succeeded', verdict: { class: 'Succeeded' }, passed: null, finishedAt,
  });

/** A run that ended so many days ago and left these contents. */
async function ended(days: number, contents: readonly Uint8Array[], namespaceUid?: string): Promise<Run> {
  const run = await begun(namespaceUid);
  for (const data of contents) await files.put(data);
  await finish(run, contents);
  await end(run, daysAgo(days));
  return run;
}

const eventTypes = async ({ evaluationUid }: Run) =>
  (await new EventRepository(owner).list(evaluationUid)).map(({ type }) => type);
const used = ({ evaluationUid }: Run) => new ArtifactRepository(recorder).usedBytes(evaluationUid);
const all = (kind: 'output' | 'artifacts' | 'records', days: number) =>
  expire(recorder, { class: kind, days, maxRuns: 1000 });
/** Everything that was put more than an hour ago, as seen from tomorrow. */
const sweepTomorrow = () => sweepFiles(recorder, files, { graceSeconds: 3600, now: () => Date.now() + DAY_MS });

describe('retention', () => {
  test('output: the bytes go, the ledger and an event stay; younger and unfinished runs are left alone', async () => {
    const [old, young, running] = [await ended(10, []), await ended(3, []), await begun()];
    await end(running, daysAgo(10));
    expect(await all('output', 7)).toBe(1);
    const captures = new CaptureRepository(recorder);
    expect((await captures.readOutput(old.evaluationUid, 1, 'stdout')).data).toHaveLength(0);
    expect((await captures.get(old.evaluationUid, 1))?.streams.stdout).toMatchObject({ bytes: 6, lines: 1, complete: true });
    for (const kept of [young, running]) {
      expect((await captures.readOutput(kept.evaluationUid, 1, 'stdout')).data.toString()).toBe('hello\n');
    }
    expect((await eventTypes(old)).at(-1)).toBe('retention.outputDeleted');
    expect(await all('output', 7)).toBe(0);
  });

  test('artifacts: content that nobody else names goes with the next sweep; the rows stay', async () => {
    const [own, shared] = [randomBytes(100), randomBytes(200)];
    const [old, young] = [await ended(10, [own, shared]), await ended(3, [shared])];
    expect(await used(old)).toBe(300);
    expect(await all('artifacts', 7)).toBeGreaterThan(0);
    expect([await used(old), await used(young)]).toEqual([0, 200]);
    expect(await eventTypes(old)).toContain('retention.artifactsDeleted');
    await sweepTomorrow();
    expect([await files.has(sha256(own)), await files.has(sha256(shared))]).toEqual([false, true]);
    expect(await new ArtifactRepository(recorder).list(old.evaluationUid, 1)).toHaveLength(2);
  });

  test('records: everything goes, and the namespace gets its bytes back', async () => {
    const namespaceUid = randomUUID();
    const data = randomBytes(50);
    const [old, young] = [await ended(100, [data], namespaceUid), await ended(3, [data], namespaceUid)];
    expect(await used(young)).toBe(100);
    expect(await all('records', 90)).toBeGreaterThan(0);
    expect(await new EvaluationRepository(owner).get(old.evaluationUid)).toBeUndefined();
    expect(await new EvaluationRepository(owner).get(young.evaluationUid)).toBeDefined();
    expect(await used(young)).toBe(50);
  });

  test('bounded, and never what is not a day old', async () => {
    for (let made = 0; made < 3; made += 1) await ended(10, []);
    expect(await expire(recorder, { class: 'output', days: 7, maxRuns: 2 })).toBe(2);
    await expect(all('output', 0)).rejects.toMatchObject({ code: '22023' });
    await expect(recorder.query(`SELECT crucible.expire('records', interval '23 hours', 1)`)).rejects.toMatchObject({ code: '22023' });
    await expect(recorder.query(`SELECT crucible.expire('evaluations; DROP', interval '7 days', 1)`)).rejects.toMatchObject({ code: '22023' });
    await expect(operator.query(`SELECT crucible.expire('records', interval '7 days', 1)`)).rejects.toMatchObject({ code: '42501' });
    await expect(recorder.query('UPDATE crucible.artifact_usage SET bytes = 0')).rejects.toMatchObject({ code: '42501' });
  });
});

describe('the sweep', () => {
  test('takes what is old and named by nobody, and nothing else', async () => {
    const [orphan, named] = [randomBytes(10), randomBytes(11)];
    await ended(0, [named]);
    await files.put(orphan);
    expect(await sweepFiles(recorder, files, { graceSeconds: 3600 })).toMatchObject({ deleted: 0 });
    expect(await sweepTomorrow()).toMatchObject({ deleted: 1, bytes: 10 });
    expect([await files.has(sha256(orphan)), await files.has(sha256(named))]).toEqual([false, true]);
  });

  const waiting = async (): Promise<void> => {
    const text = 'SELECT FROM pg_locks WHERE locktype = $1 AND objid = $2 AND NOT granted';
    while ((await owner.query(text, ['advisory', SWEEP_LOCK])).rowCount === 0) await new Promise((go) => setTimeout(go, 5));
  };

  test('that comes while a capture names content waits, and then sees the row', async () => {
    const data = randomBytes(12);
    await files.put(data);
    const run = await begun();
    let sweep: Promise<unknown> | undefined;
    const slow = {
      has: async (name: string) => {
        const found = await files.has(name);
        sweep ??= sweepTomorrow();
        await waiting();
        return found;
      },
    };
    expect(await finish(run, [data], { files: slow })).toMatchObject({ outcome: 'captured' });
    await sweep;
    expect(await files.has(sha256(data))).toBe(true);
  });

  test('that came first makes the capture put its content again', async () => {
    const data = randomBytes(13);
    await files.put(data);
    const run = await begun();
    let finished: Promise<unknown> | undefined;
    const slow = {
      list: () => files.list(),
      stat: (name: string) => files.stat(name),
      delete: async (name: string) => {
        finished ??= finish(run, [data]).catch((error: unknown) => error);
        await waiting();
        return await files.delete(name);
      },
    };
    await sweepFiles(recorder, slow, { graceSeconds: 0, now: () => Date.now() + DAY_MS });
    expect(await finished).toBeInstanceOf(MissingContentError);
    await files.put(data);
    expect(await finish(run, [data])).toMatchObject({ outcome: 'captured' });
    expect(await files.has(sha256(data))).toBe(true);
  });

  const SWEEPER = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = ${SWEEP_LOCK} AND mode = 'ExclusiveLock' AND granted`;

  test('keeps its lock while a slow delete is under way, however long a session may stand idle', async () => {
    await files.put(randomBytes(14));
    // A second is what fifteen are elsewhere.
    const hasty = connect({ connectionString: recorderDsn, statementTimeoutSeconds: 1 });
    const holders: number[] = [];
    const slow = {
      list: () => files.list(),
      stat: (name: string) => files.stat(name),
      delete: async (name: string) => {
        await pause(1_500);
        holders.push((await owner.query(SWEEPER)).rowCount);
        return await files.delete(name);
      },
    };
    await sweepFiles(hasty, slow, { graceSeconds: 0, now: () => Date.now() + DAY_MS });
    await hasty.close();
    expect(holders.length).toBeGreaterThan(0);
    expect(holders.every((held) => held === 1)).toBe(true);
  });

  test('deletes nothing once its session, and with it the lock, is gone', async () => {
    const data = randomBytes(15);
    await files.put(data);
    const robbed = {
      list: () => files.list(),
      stat: async (name: string) => {
        await owner.query(`SELECT pg_terminate_backend(pid) FROM (${SWEEPER}) sweeper`);
        return await files.stat(name);
      },
      delete: (name: string) => files.delete(name),
    };
    await expect(sweepFiles(recorder, robbed, { graceSeconds: 0, now: () => Date.now() + DAY_MS })).rejects.toThrow(UnavailableError);
    expect(await files.has(sha256(data))).toBe(true);
    await sweepTomorrow();
  });

  test('a capture with many files may look for longer than a session may stand idle', async () => {
    const contents = Array.from({ length: 100 }, (_, at) => Buffer.from(`many ${at}`));
    for (const data of contents) await files.put(data);
    const run = await begun();
    const hasty = connect({ connectionString: recorderDsn, statementTimeoutSeconds: 1 });
    const slow = {
      has: async (name: string) => {
        await pause(400);
        return await files.has(name);
      },
    };
    expect(await finish(run, contents, { files: slow }, hasty)).toMatchObject({ outcome: 'captured' });
    await hasty.close();
  });

  test('in a storm of captures and sweeps every named content is there', async () => {
    const contents = Array.from({ length: 6 }, () => randomBytes(20));
    let working = true;
    const sweeping = Promise.all(
      [1, 2].map(async () => {
        while (working) await sweepFiles(recorder, files, { graceSeconds: 0, now: () => Date.now() + DAY_MS });
      }),
    );
    const capture = async (at: number): Promise<void> => {
      const run = await begun();
      const data = contents[at % contents.length] ?? Buffer.alloc(0);
      for (;;) {
        await files.put(data);
        try {
          await finish(run, [data]);
          return;
        } catch (error) {
          if (!(error instanceof MissingContentError)) throw error;
        }
      }
    };
    await Promise.all(Array.from({ length: 24 }, (_, at) => capture(at)));
    working = false;
    await sweeping;
    for (const data of contents) expect(await files.has(sha256(data))).toBe(true);
  });
});

describe('the quota of a namespace', () => {
  test('is exact for runs that finish at once, refuses with a reason, and is nobody else’s trouble', async () => {
    const namespaceUid = randomUUID();
    const runs = await Promise.all(Array.from({ length: 8 }, () => begun(namespaceUid)));
    const rules = { files, maxNamespaceBytes: 350 };
    const contents = runs.map(() => randomBytes(100));
    for (const data of contents) await files.put(data);
    const outcomes = await Promise.all(runs.map((run, at) => finish(run, [contents[at] ?? Buffer.alloc(0)], rules)));
    expect(outcomes.every(({ outcome }) => outcome === 'captured')).toBe(true);
    const artifacts = await Promise.all(runs.map((run) => new ArtifactRepository(owner).list(run.evaluationUid, 1)));
    const refused = artifacts.flat().filter((artifact) => !artifact.complete);
    expect(refused).toHaveLength(5);
    expect(refused.every((artifact) => artifact.refused === QUOTA_REASON && artifact.sha256 === null)).toBe(true);
    expect(await used(runs[0] as Run)).toBe(300);
    const captured = await Promise.all(runs.map((run) => new CaptureRepository(owner).get(run.evaluationUid, 1)));
    const incomplete = captured.filter((capture) => capture?.complete === false);
    expect(incomplete).toHaveLength(5);
    for (const capture of incomplete) {
      expect(capture).toMatchObject({ reason: 'ArtifactsIncomplete', streams: { stdout: { complete: true, bytes: 6 } } });
    }
    const other = await begun();
    await finish(other, [contents[0] ?? Buffer.alloc(0)], rules);
    expect(await used(other)).toBe(100);
  });

  test('a file that does not fit does not refuse a smaller one after it', async () => {
    const run = await begun();
    const [large, small] = [randomBytes(90), randomBytes(10)];
    for (const data of [large, small]) await files.put(data);
    await finish(run, [large, small], { files, maxNamespaceBytes: 50 });
    const rows = await new ArtifactRepository(owner).list(run.evaluationUid, 1);
    expect(rows.map(({ complete, size }) => [complete, size])).toEqual([[false, 90], [true, 10]]);
  });
});
