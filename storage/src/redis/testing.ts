// Output of one run, written as a recorder does, for tests of those who follow it.
import { randomUUID } from 'node:crypto';
import { createDatabase, type TestDatabase } from '../../../test/integration/database.ts';
import { AttemptRepository } from '../attempts.ts';
import type { CaptureRepository } from '../captures.ts';
import { connect, type Database } from '../database.ts';
import { EvaluationRepository } from '../evaluations.ts';
import { buildAttempt, buildEvaluation, buildFinish, prepareDatabase } from '../testing.ts';

export class OutputWorld {
  readonly operator: Database;
  readonly recorder: Database;
  readonly api: Database;
  readonly #database: TestDatabase;

  static async create(): Promise<OutputWorld> {
    const database = await createDatabase('output');
    return new OutputWorld(database, await prepareDatabase(database.dsn));
  }

  private constructor(database: TestDatabase, dsns: { operator: string; recorder: string; api: string }) {
    this.#database = database;
    this.operator = connect(dsns.operator);
    this.recorder = connect(dsns.recorder);
    this.api = connect(dsns.api);
  }

  async close(): Promise<void> {
    await Promise.all([this.operator.close(), this.recorder.close(), this.api.close()]);
    await this.#database.drop();
  }

  async attempt(): Promise<Writer> {
    const evaluation = buildEvaluation({ uid: randomUUID() });
    await new EvaluationRepository(this.operator).upsertAccepted(evaluation);
    await new AttemptRepository(this.operator).create(buildAttempt(evaluation.uid, { jobName: `job-${randomUUID()}` }));
    return new Writer(evaluation.uid);
  }
}

/** Writes stdout, one frame at a time. */
export class Writer {
  readonly key: { evaluationUid: string; attempt: number; podUid: string; recorder: string };
  readonly #lost = new Map<number, string>();
  #frames: string[] = [];

  constructor(evaluationUid: string) {
    this.key = { evaluationUid, attempt: 1, podUid: randomUUID(), recorder: 'recorder-0' };
  }

  /** What is stored. */
  get text(): string {
    return this.#frames.filter((_, index) => !this.#lost.has(index + 1)).join('');
  }

  async begin(captures: CaptureRepository): Promise<void> {
    await captures.begin(this.key);
  }

  async write(captures: CaptureRepository, text: string): Promise<void> {
    const seq = this.#frames.push(text);
    const chunks = [this.#chunk(seq, text)];
    await captures.append({ ...this.key, afterSeq: seq - 1, lastSeq: seq, chunks });
  }

  /** The next frame was not seen. */
  async lose(captures: CaptureRepository, text: string): Promise<void> {
    const seq = this.#frames.push(text);
    this.#lost.set(seq, text);
    await captures.append({ ...this.key, afterSeq: seq - 1, lastSeq: seq, missing: [{ from: seq, to: seq }], chunks: [] });
  }

  /** The final read has what was lost. */
  async find(captures: CaptureRepository): Promise<void> {
    const lost = [...this.#lost];
    this.#lost.clear();
    const chunks = lost.map(([seq, text]) => this.#chunk(seq, text));
    await captures.reconcile({ ...this.key, found: lost.map(([seq]) => ({ from: seq, to: seq })), chunks });
  }

  async finish(captures: CaptureRepository): Promise<void> {
    const bytes = Buffer.byteLength(this.text);
    const lines = this.#frames.length;
    await captures.finish(buildFinish(this.key, { ...this.key, lastSeq: this.#frames.length, stdout: { bytes, lines } }));
  }

  #chunk(seq: number, text: string) {
    return { stream: 'stdout' as const, firstSeq: seq, lastSeq: seq, data: Buffer.from(text), lines: 1 };
  }
}
