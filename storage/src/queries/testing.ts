// Runs for the tests of queries: written as operator and recorder write them.
import { createHash, randomUUID } from 'node:crypto';
import { AttemptRepository } from '../attempts.ts';
import { CaptureRepository } from '../captures.ts';
import { connect } from '../database.ts';
import type { Database } from '../database.ts';
import { EvaluationRepository } from '../evaluations.ts';
import type { FileStore } from '../files.ts';
import { buildAttempt, buildEvaluation, buildFinish } from '../testing.ts';
import type { RoleDsns } from '../testing.ts';
import type { AcceptedEvaluation, VerdictRecord } from '../types.ts';

export interface Roles {
  owner: Database;
  operator: Database;
  recorder: Database;
  api: Database;
}

export function connectRoles(dsns: RoleDsns): Roles & { close(): Promise<void> } {
  const roles = { owner: connect(dsns.owner), operator: connect(dsns.operator), recorder: connect(dsns.recorder), api: connect(dsns.api) };
  return { ...roles, close: async () => void (await Promise.all(Object.values(roles).map((db) => db.close()))) };
}

export interface RunOptions extends Partial<AcceptedEvaluation> {
  /** Of stdout; no attempt without it. */
  stdout?: Buffer;
  artifacts?: Record<string, Buffer>;
  files?: FileStore;
  verdict?: VerdictRecord;
}

/** As far as the options say: waiting, running with this output, or finished with this verdict. */
export async function makeRun({ operator, recorder }: Roles, options: RunOptions = {}): Promise<{ uid: string; podUid: string }> {
  const { stdout, artifacts = {}, files, verdict, ...overrides } = options;
  const evaluation = buildEvaluation(overrides);
  const { uid } = evaluation;
  const podUid = randomUUID();
  const [evaluations, attempts, captures] = [new EvaluationRepository(operator), new AttemptRepository(operator), new CaptureRepository(recorder)];
  await evaluations.upsertAccepted(evaluation);
  if (stdout === undefined) return { uid, podUid };
  await attempts.create(buildAttempt(uid));
  const key = { evaluationUid: uid, attempt: 1, podUid, recorder: 'r' };
  await captures.begin(key);
  const chunk = { stream: 'stdout' as const, firstSeq: 1, lastSeq: 1, lines: 1, data: stdout };
  await captures.append({ ...key, afterSeq: 0, lastSeq: 1, chunks: stdout.length === 0 ? [] : [chunk] });
  if (verdict === undefined) return { uid, podUid };
  const rows = [];
  for (const [index, [path, data]] of Object.entries(artifacts).entries()) {
    await files?.put(data);
    rows.push({ index, path, size: data.length, sha256: createHash('sha256').update(data).digest('hex'), complete: true });
  }
  const ledger = { bytes: stdout.length, lines: stdout.length === 0 ? 0 : 1 };
  await captures.finish(buildFinish(key, { lastSeq: 1, stdout: ledger, artifacts: rows }), files === undefined ? {} : { files });
  const times = { startedAt: evaluation.createdAt, finishedAt: new Date(evaluation.createdAt.getTime() + 5_000) };
  await attempts.finalize({ evaluationUid: uid, number: 1, epoch: 1, podUid, ...times, exitCode: 0, signal: null, verdict });
  await attempts.accept({ evaluationUid: uid, number: 1, epoch: 1 });
  const phase = verdict.class === 'Succeeded' ? 'Succeeded' : 'Failed';
  await evaluations.finish({ uid, epoch: 1, phase, verdict, passed: null, finishedAt: new Date() });
  return { uid, podUid };
}
