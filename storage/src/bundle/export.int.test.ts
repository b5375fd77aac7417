// A run in a real Postgres and a real file store, its bundle, and the ways in which somebody else checks it.
import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../test/integration/database.ts';
import { AttemptRepository } from '../attempts.ts';
import { CaptureRepository } from '../captures.ts';
import { connect, type Database } from '../database.ts';
import { DirectoryFileStore } from '../directory-files.ts';
import { NotFoundError, UnavailableError } from '../errors.ts';
import { EvaluationRepository } from '../evaluations.ts';
import { KubernetesEventRepository } from '../kubernetes-events.ts';
import { expire } from '../retention.ts';
import { buildAttempt, buildEvaluation, buildFinish, prepareDatabase } from '../testing.ts';
import type { StreamName } from '../types.ts';
import { exportBundle } from './export.ts';
import { BUNDLE_README } from './readme.ts';
import { NotFinishedError } from './record.ts';
import { inPieces, newKey, sha256 } from './testing.ts';
import { verifyBundle } from './verify-bundle.ts';

const key = newKey();
const HOSTILE = '../../../etc/cron.d/\u202ex';
let database: TestDatabase;
let folder: string;
let files: DirectoryFileStore;
let operator: Database;
let recorder: Database;
let api: Database;

beforeAll(async () => {
  database = await createDatabase('bundle');
  const dsns = await prepareDatabase(database.dsn);
  [operator, recorder, api] = [connect(dsns.operator), connect(dsns.recorder), connect(dsns.api)];
  folder = mkdtempSync(join(tmpdir(), 'crucible-bundle-'));
  mkdirSync(join(folder, 'files'));
  files = new DirectoryFileStore({ directory: join(folder, 'files') });
});

afterAll(async () => {
  await Promise.all([operator.close(), recorder.close(), api.close()]);
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

const SPEC = '{"runtime": "python", "code": "print(1)\\u0000", "b": 1, "a": 2}';

interface RunOptions {
  stdout?: Buffer;
  artifacts?: Record<string, string>;
  captured?: boolean;
  finishedAt?: Date;
}

/** As operator and recorder write it. Returns the uid. */
async function recordedRun({ stdout = Buffer.from('hello\n'), artifacts = {}, captured = true, finishedAt = new Date() }: RunOptions = {}): Promise<string> {
  const evaluation = buildEvaluation({ uid: randomUUID(), spec: JSON.parse(SPEC) as object });
  const podUid = randomUUID();
  const attempt = { evaluationUid: evaluation.uid, number: 1, epoch: 1 };
  await new EvaluationRepository(operator).upsertAccepted(evaluation);
  await new AttemptRepository(operator).create(buildAttempt(evaluation.uid, { jobName: `job-${randomUUID()}` }));
  await new AttemptRepository(operator).setPod({ ...attempt, podUid, podName: 'pod', node: 'n', imageDigest: 'sha256:abc', startedAt: new Date() });
  const captures = new CaptureRepository(recorder);
  const capture = { evaluationUid: evaluation.uid, attempt: 1, podUid, recorder: 'r' };
  await captures.begin(capture);
  let seq = 0;
  for (let offset = 0; offset < stdout.length; offset += 65_536, seq += 1) {
    const data = stdout.subarray(offset, offset + 65_536);
    const chunks = [{ stream: 'stdout' as StreamName, firstSeq: seq + 1, lastSeq: seq + 1, data, lines: 1 }];
    await captures.append({ ...capture, afterSeq: seq, lastSeq: seq + 1, chunks });
  }
  if (captured) {
    const rows = await Promise.all(Object.entries(artifacts).map(async ([path, content], index) => {
      await files.put(Buffer.from(content));
      return { index, path, size: content.length, sha256: sha256(content), complete: true };
    }));
    await captures.finish(buildFinish(capture, { ...capture, lastSeq: seq, artifacts: rows, stdout: { bytes: stdout.length, lines: seq } }));
  }
  const verdict = { class: 'Succeeded', attributableTo: 'Code' };
  await new AttemptRepository(operator).finalize({ evaluationUid: evaluation.uid, number: 1, epoch: 1, podUid, startedAt: null, finishedAt, exitCode: 0, signal: null, verdict, receipt: { sandbox: { uid: 10000 } } });
  await new AttemptRepository(operator).accept(attempt);
  await new EvaluationRepository(operator).finish({ uid: evaluation.uid, epoch: 1, phase: 'Succeeded', verdict, passed: null, finishedAt });
  return evaluation.uid;
}

async function exported(uid: string, store: Pick<DirectoryFileStore, 'read'> = files): Promise<Buffer> {
  const { stream } = await exportBundle({ database: api, files: store, key }, uid);
  return Buffer.concat(await stream.toArray());
}

const missingOf = async (archive: Buffer) => (await verifyBundle(inPieces(archive), key.publicKey)).manifest.missing;

/** In an empty directory, as a reader does. */
function extracted(archive: Buffer): { path: string; text: (name: string) => string } {
  const path = mkdtempSync(join(folder, 'extracted-'));
  writeFileSync(join(path, 'BUNDLE.tar'), archive);
  writeFileSync(join(path, 'public.pem'), key.publicKey);
  execFileSync('tar', ['-xf', 'BUNDLE.tar'], { cwd: path });
  return { path, text: (name) => readFileSync(join(path, name), 'utf8') };
}

test('everything of a run, twice the same bytes, and the commands of its README agree', async () => {
  const stdout = Buffer.alloc(2_500_000, Buffer.from('every \0 byte \xff\n', 'latin1'));
  const uid = await recordedRun({ stdout, artifacts: { [HOSTILE]: 'evil', 'out/a.txt': 'same', 'out/b.txt': 'same' } });
  const { fileName } = await exportBundle({ database: api, files, key }, uid);
  expect(fileName).toBe(`crucible-evals-hello-${uid}.tar`);
  const archive = await exported(uid);
  expect(await exported(uid)).toEqual(archive);
  expect(await missingOf(archive)).toEqual([]);
  const { path, text } = extracted(archive);
  expect(text('spec.json')).toBe(JSON.stringify(JSON.parse(SPEC)));
  expect(readFileSync(join(path, 'attempts/1/stdout')).equals(stdout)).toBe(true);
  expect(JSON.parse(text('attempts/1/attempt.json'))).toMatchObject({ imageDigest: 'sha256:abc', exitCode: 0, verdict: { class: 'Succeeded' } });
  expect(JSON.parse(text('attempts/1/capture.json'))).toMatchObject({ complete: true, streams: { stdout: { bytes: stdout.length, sha256: sha256(stdout) } } });
  expect(JSON.parse(text('evaluation.json'))).toMatchObject({ uid, acceptedAttempt: 1, verdict: { class: 'Succeeded' } });
  expect(text('events/000001.jsonl').trim().split('\n').map((line) => (JSON.parse(line) as { type: string }).type)).toEqual([
    'evaluation.accepted', 'attempt.created', 'attempt.started', 'capture.finished', 'attempt.finalized', 'attempt.accepted', 'evaluation.finished',
  ]);
  expect((JSON.parse(text('attempts/1/artifacts.json')) as { path: string }[]).map((artifact) => artifact.path)).toContain(HOSTILE);
  expect(text(`artifacts/${sha256('same')}`)).toBe('same');
  expect(createHash('sha256').update(text('attempts/1/receipt.json')).digest('hex')).toBe(sha256('{"sandbox":{"uid":10000}}'));

  const commands = BUNDLE_README.split('\n').filter((line) => /^ {4}(openssl|entry=|sed|\{)/.test(line)).join('\n');
  expect(commands.split('\n')).toHaveLength(4);
  const check = (): string => execFileSync('bash', ['-euo', 'pipefail', '-c', commands], { cwd: path, encoding: 'utf8', stdio: 'pipe' });
  expect(check()).toMatch(/Signature Verified Successfully[\s\S]*attempts\/1\/stdout: OK/);
  writeFileSync(join(path, 'attempts/1/stderr'), 'x');
  expect(check).toThrow();
  writeFileSync(join(path, 'attempts/1/stderr'), '');
  writeFileSync(join(path, 'manifest.json'), text('manifest.json').replace('python', 'pythom').replace('"size":0', '"size":1'));
  expect(check).toThrow();
});

test('what Kubernetes told is there too, in a file of its own behind the events', async () => {
  const uid = await recordedRun();
  const { rows } = await api.query<{ podUid: string; namespaceUid: string }>(
    `SELECT a.pod_uid AS "podUid", e.namespace_uid AS "namespaceUid" FROM crucible.attempts a JOIN crucible.evaluations e ON e.uid = a.evaluation_uid WHERE e.uid = $1`, [uid]);
  const at = new Date('2026-01-02T03:04:05Z');
  const event = { objectKind: 'Pod', objectName: 'pod', type: 'Normal', message: 'm', component: 'kubelet', count: 1, firstSeenAt: at, lastSeenAt: at };
  const told = Array.from({ length: 101 }, (_, n) => ({ ...event, ...rows[0]!, uid: randomUUID(), jobUid: null, reason: `R${n}` }));
  await new KubernetesEventRepository(operator).keep(told);
  const archive = await exported(uid);
  expect(await missingOf(archive)).toEqual([]);
  const { text } = extracted(archive);
  expect(text('events/000001.jsonl')).not.toContain('kubernetes');
  const lines = text('events/000002.jsonl').trim().split('\n').map((line) => JSON.parse(line) as object);
  expect(lines).toHaveLength(101);
  expect(lines[0]).toMatchObject({ source: 'kubernetes', attempt: 1, reason: 'R0', component: 'kubelet', firstSeenAt: at.toISOString() });
  expect(lines[100]).toEqual({ source: 'kubernetes', leftOut: { count: 1, firstSeenAt: at.toISOString(), lastSeenAt: at.toISOString() } });
});

test('what retention has deleted is named, with why', async () => {
  const uid = await recordedRun({ artifacts: { a: 'old artifact' }, finishedAt: new Date(Date.now() - 10 * 86_400_000) });
  await expire(recorder, { class: 'artifacts', days: 5, maxRuns: 100 });
  // The sweep has not come by: the content is still there, and not for this run.
  expect(await files.has(sha256('old artifact'))).toBe(true);
  expect(await missingOf(await exported(uid))).toEqual([{ name: `artifacts/${sha256('old artifact')}`, reason: 'DeletedByRetention' }]);
  await expire(recorder, { class: 'output', days: 5, maxRuns: 100 });
  const archive = await exported(uid);
  expect(await missingOf(archive)).toEqual([
    { name: 'attempts/1/stdout', reason: 'DeletedByRetention' },
    { name: `artifacts/${sha256('old artifact')}`, reason: 'DeletedByRetention' },
  ]);
  // The ledger stays, with what the output was.
  expect(JSON.parse(extracted(archive).text('attempts/1/capture.json'))).toMatchObject({ streams: { stdout: { sha256: sha256('hello\n') } } });
});

test('what was never captured, and content that is lost or damaged, is named too', async () => {
  const following = await recordedRun({ captured: false });
  expect((await missingOf(await exported(following))).map(({ name, reason }) => `${name} ${reason}`)).toEqual(
    ['receipt.json', 'summary.json', 'stdout', 'stderr', 'artifacts.json'].map((name) => `attempts/1/${name} CaptureNotFinished`),
  );
  const uid = await recordedRun({ artifacts: { a: 'to be damaged', b: 'to be lost' } });
  const [damaged, lost] = [sha256('to be damaged'), sha256('to be lost')];
  writeFileSync(join(folder, 'files', damaged.slice(0, 2), damaged.slice(2)), 'something else');
  await files.delete(lost);
  expect(new Set(await missingOf(await exported(uid)))).toEqual(
    new Set([{ name: `artifacts/${damaged}`, reason: 'ContentDamaged' }, { name: `artifacts/${lost}`, reason: 'ContentMissing' }]),
  );
});

test('no bundle of what has not finished, or is not there; a store that fails on the way breaks it off', async () => {
  const evaluation = buildEvaluation({ uid: randomUUID() });
  await new EvaluationRepository(operator).upsertAccepted(evaluation);
  await expect(exported(evaluation.uid)).rejects.toThrow(NotFinishedError);
  await expect(exported(randomUUID())).rejects.toThrow(NotFoundError);
  const away = { read: () => Promise.reject(new UnavailableError('the file store is away')) };
  await expect(exported(await recordedRun({ artifacts: { a: 'x' } }), away)).rejects.toThrow(UnavailableError);
});

test('a reader that leaves ends the export, and memory does not grow with the output', async () => {
  const stdout = Buffer.alloc(8 * 1024 * 1024, 'x');
  const uid = await recordedRun({ stdout });
  const { stream } = await exportBundle({ database: api, files, key }, uid);
  expect(stream).toBeInstanceOf(Readable);
  let read = 0;
  for await (const piece of stream) {
    read += (piece as Buffer).length;
    if (read > 1_000_000) break;
  }
  expect(stream.destroyed).toBe(true);
  expect(stream.readableLength).toBeLessThan(2 * 1024 * 1024);
});
