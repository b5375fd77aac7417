import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { ArtifactRepository } from './artifacts.ts';
import { AttemptRepository } from './attempts.ts';
import { closeAtOnce } from './capture-close.ts';
import { CaptureRepository } from './captures.ts';
import { connect } from './database.ts';
import type { Database } from './database.ts';
import { ConflictError, IntegrityError, NotFoundError, UnavailableError } from './errors.ts';
import { EvaluationRepository } from './evaluations.ts';
import { EventRepository } from './events.ts';
import { MAX_READ_BYTES } from './output.ts';
import { buildAttempt, buildEvaluation, buildFinish, prepareDatabase } from './testing.ts';
import type { AppendOutcome, OutputChunk, StreamName } from './types.ts';

let database: TestDatabase;
let dsns: Awaited<ReturnType<typeof prepareDatabase>>;
let owner: Database;
let operator: Database;
let recorder: Database;
let api: Database;
let captures: CaptureRepository;
let readers: CaptureRepository;

beforeAll(async () => {
  database = await createDatabase('storage');
  dsns = await prepareDatabase(database.dsn);
  owner = connect(dsns.owner);
  operator = connect(dsns.operator);
  recorder = connect({ connectionString: dsns.recorder, poolSize: 12 });
  api = connect(dsns.api);
  captures = new CaptureRepository(recorder);
  readers = new CaptureRepository(api);
});

afterAll(async () => {
  await Promise.all([owner, operator, recorder, api].map((db) => db?.close()));
  await database?.drop();
});

interface Capture {
  evaluationUid: string;
  attempt: number;
  podUid: string;
  recorder: string;
}

async function begun(overrides: { name?: string } = {}): Promise<Capture> {
  const input = buildEvaluation(overrides);
  await new EvaluationRepository(operator).upsertAccepted(input);
  await new AttemptRepository(operator).create(buildAttempt(input.uid));
  const capture = { evaluationUid: input.uid, attempt: 1, podUid: randomUUID(), recorder: 'recorder-0' };
  expect(await captures.begin(capture)).toMatchObject({ outcome: 'begun', position: { lastSeq: 0, missing: [] } });
  return capture;
}

function chunk(stream: StreamName, firstSeq: number, lastSeq: number, data: string | Uint8Array, lines = 1): OutputChunk {
  return { stream, firstSeq, lastSeq, lines, data: typeof data === 'string' ? Buffer.from(data) : data };
}

const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');
const whole = async (key: Capture, stream: StreamName) => (await readers.readOutput(key.evaluationUid, key.attempt, stream)).data;

test('one batch of many chunks: a hole after each, both streams, each byte where it belongs', async () => {
  const key = await begun();
  const count = 300;
  const names: StreamName[] = ['stdout', 'stderr'];
  const chunks = Array.from({ length: count }, (_, n) => chunk(names[n % 3 === 0 ? 1 : 0]!, 2 * n + 1, 2 * n + 1, `${n}\n`));
  const missing = Array.from({ length: count }, (_, n) => ({ from: 2 * n + 2, to: 2 * n + 2 }));
  const expected = (stream: StreamName) => Buffer.concat(chunks.filter((one) => one.stream === stream).map(({ data }) => Buffer.from(data)));
  const { outcome, position } = await captures.append({ ...key, afterSeq: 0, lastSeq: 2 * count, chunks, missing });
  expect(outcome).toBe('appended');
  expect(position).toMatchObject({ lastSeq: 2 * count, streams: { stdout: { lines: 200 }, stderr: { lines: 100 } } });
  expect(position.missing).toEqual(missing);
  for (const stream of names) {
    expect(position.streams[stream].bytes).toBe(expected(stream).length);
    expect(await whole(key, stream)).toEqual(expected(stream));
  }
  // Nothing but numbers: no chunk, and the sizes stay.
  const next = await captures.append({ ...key, afterSeq: 2 * count, lastSeq: 2 * count + 3, chunks: [] });
  expect(next.position).toEqual({ ...position, lastSeq: 2 * count + 3 });
});

test('bytes of any value come back unchanged, from any offset, in slices and as tail', async () => {
  const key = await begun();
  const output = randomBytes(300_000);
  output.fill(0, 1000, 2000);
  output.fill(0xff, 65_530, 65_540);
  let seq = 0;
  for (let offset = 0; offset < output.length; offset += 50_001) {
    const data = output.subarray(offset, offset + 50_001);
    const batch = { ...key, afterSeq: seq, lastSeq: seq + 2, chunks: [chunk('stdout', seq + 1, seq + 1, data), chunk('stderr', seq + 2, seq + 2, `e${seq}`)] };
    expect(await captures.append(batch)).toMatchObject({ outcome: 'appended', position: { lastSeq: seq + 2 } });
    seq += 2;
  }
  expect(Buffer.compare(await whole(key, 'stdout'), output)).toBe(0);
  expect((await whole(key, 'stderr')).toString()).toBe('e0e2e4e6e8e10');
  for (const [offset, length] of [[0, 1], [49_999, 4], [50_001, 50_001], [65_530, 10], [299_990, 100], [123_456, 100_000]] as const) {
    const slice = await readers.readOutput(key.evaluationUid, 1, 'stdout', { offset, length });
    expect(slice.totalBytes).toBe(300_000);
    expect(slice.offset).toBe(offset);
    expect(slice.data.equals(output.subarray(offset, offset + length))).toBe(true);
  }
  expect(await readers.readOutput(key.evaluationUid, 1, 'stdout', { offset: 400_000 })).toMatchObject({ data: Buffer.alloc(0), totalBytes: 300_000 });
  const tail = await readers.readTail(key.evaluationUid, 1, 'stdout', 2048);
  expect(tail.offset).toBe(297_952);
  expect(tail.data.equals(output.subarray(-2048))).toBe(true);
  const short = await readers.readTail(key.evaluationUid, 1, 'stderr', 2048);
  expect([short.offset, short.data.toString()]).toEqual([0, 'e0e2e4e6e8e10']);
  await expect(readers.readOutput(randomUUID(), 1, 'stdout')).rejects.toThrow(NotFoundError);
});

test('output is compressed with lz4 where the server has it', async () => {
  const { rows: methods } = await owner.query<{ enumvals: string[] }>(`SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'`);
  const expected = methods[0]!.enumvals.includes('lz4') ? 'lz4' : 'pglz';
  const key = await begun();
  const data = Buffer.from('a line like many others\n'.repeat(2000));
  await captures.append({ ...key, afterSeq: 0, lastSeq: 2000, chunks: [chunk('stdout', 1, 2000, data, 2000)] });
  const { rows } = await owner.query('SELECT pg_column_compression(data) AS method FROM crucible.output_chunks WHERE evaluation_uid = $1', [key.evaluationUid]);
  expect(rows).toEqual([{ method: expected }]);
  expect((await whole(key, 'stdout')).equals(data)).toBe(true);
});

test('recorders that append the same frames at once store them once', async () => {
  const key = await begun();
  let seq = 0;
  for (let round = 0; round < 20; round += 1) {
    const batches = Array.from({ length: 6 }, (_, index) => captures.append({
      ...key, recorder: `recorder-${index}`, afterSeq: seq, lastSeq: seq + 3, chunks: [chunk('stdout', seq + 1, seq + 3, `${round};`)],
    }));
    const outcomes = await Promise.all(batches);
    expect(outcomes.filter(({ outcome }) => outcome === 'appended')).toHaveLength(1);
    expect(outcomes.filter(({ outcome }) => outcome === 'stale')).toHaveLength(5);
    for (const { position } of outcomes) expect(position.lastSeq).toBe(seq + 3);
    seq += 3;
  }
  expect((await whole(key, 'stdout')).toString()).toBe(Array.from({ length: 20 }, (_, round) => `${round};`).join(''));
});

test('two recorders race to the end, each continuing where the answer says', async () => {
  const key = await begun();
  const frames = 200;
  const run = async (name: string, size: number): Promise<void> => {
    let position = 0;
    while (position < frames) {
      const last = Math.min(position + size, frames);
      const text = Array.from({ length: last - position }, (_, index) => `${position + index + 1}\n`).join('');
      const answer: AppendOutcome = await captures.append({
        ...key, recorder: name, afterSeq: position, lastSeq: last, chunks: [chunk('stdout', position + 1, last, text, last - position)],
      });
      position = answer.position.lastSeq;
    }
  };
  await Promise.all([run('a', 3), run('b', 7), run('c', 5)]);
  expect((await whole(key, 'stdout')).toString()).toBe(Array.from({ length: frames }, (_, index) => `${index + 1}\n`).join(''));
  const begin = await captures.begin(key);
  expect(begin).toMatchObject({ outcome: 'resumed', position: { lastSeq: frames, missing: [], streams: { stdout: { lines: frames } } } });
});

test('a hole is remembered, filled in place once, and the rest moves', async () => {
  const key = await begun();
  await captures.append({ ...key, afterSeq: 0, lastSeq: 2, chunks: [chunk('stdout', 1, 1, 'one\n'), chunk('stderr', 2, 2, 'E2\n')] });
  const holed = { ...key, afterSeq: 2, lastSeq: 9, missing: [{ from: 3, to: 5 }, { from: 8, to: 8 }] };
  await captures.append({ ...holed, chunks: [chunk('stdout', 6, 7, 'six\nseven\n', 2), chunk('stdout', 9, 9, 'nine\n')] });
  expect(await captures.begin(key)).toMatchObject({ position: { missing: holed.missing, streams: { stdout: { bytes: 19, lines: 4 } } } });
  const found = { ...key, found: [{ from: 3, to: 4 }], chunks: [chunk('stdout', 3, 3, 'three\n'), chunk('stderr', 4, 4, 'E4\n')] };
  const outcomes = await Promise.all([captures.reconcile(found), captures.reconcile(found)]);
  expect(outcomes.map(({ outcome }) => outcome).sort()).toEqual(['appended', 'stale']);
  expect((await captures.get(key.evaluationUid, 1))?.missing).toEqual([{ from: 5, to: 5 }, { from: 8, to: 8 }]);
  await captures.reconcile({ ...key, found: [{ from: 8, to: 8 }], chunks: [chunk('stdout', 8, 8, 'eight\n')] });
  expect((await whole(key, 'stdout')).toString()).toBe('one\nthree\nsix\nseven\neight\nnine\n');
  expect((await whole(key, 'stderr')).toString()).toBe('E2\nE4\n');

  const finish = buildFinish(key, { lastSeq: 9, stdout: { bytes: 31, lines: 6 }, stderr: { bytes: 6, lines: 2 } });
  await expect(captures.finish(finish)).rejects.toThrow(IntegrityError);
  const gaps = [{ fromSeq: 5, toSeq: 5, afterByte: 10 }];
  const honest = buildFinish(key, {
    lastSeq: 9, complete: false, reason: 'FramesMissing',
    stdout: { bytes: 31, lines: 6, gaps, complete: false }, stderr: { bytes: 6, lines: 2 },
  });
  expect(await captures.finish(honest)).toMatchObject({ outcome: 'captured' });
  const record = await readers.get(key.evaluationUid, 1);
  expect(record).toMatchObject({ complete: false, reason: 'FramesMissing', missing: [{ from: 5, to: 5 }] });
  expect(record?.streams.stdout).toMatchObject({ gaps, complete: false, sha256: sha256(Buffer.from('one\nthree\nsix\nseven\neight\nnine\n')) });
});

test('finish writes the ledger, artifacts with hostile names and the event, tells the listener, and is final', async () => {
  const name = `capture-${randomUUID()}`;
  const payloads: string[] = [];
  const connected = Promise.withResolvers<void>();
  const listener = operator.listen('crucible_captured', (signal) => {
    if (signal.type === 'connected') connected.resolve();
    else payloads.push(signal.payload);
  });
  await connected.promise;
  const key = await begun({ name });
  await captures.append({ ...key, afterSeq: 0, lastSeq: 3, chunks: [chunk('stdout', 2, 2, 'hello\n')] });
  const content = sha256(Buffer.from('x'));
  const artifacts = [
    { index: 0, path: '../../etc/pass\0wd\ud800', size: 1, sha256: content, complete: true, mode: 0o644 },
    { index: 1, path: '/abs', size: 0, sha256: null, complete: false, refused: 'not a regular file\0' },
    ...Array.from({ length: 200 }, (_, index) => ({ index: index + 2, path: `f${index}`, size: 2, sha256: content, complete: true })),
  ];
  const summary = { error: 'a\0b', lone: '\udc00', exitCode: 3 };
  const input = buildFinish(key, { lastSeq: 3, stdout: { bytes: 6, lines: 1, producedBytes: 6 }, artifacts, summary });
  expect(await captures.finish({ ...input, lastSeq: 2 })).toMatchObject({ outcome: 'stale', position: { lastSeq: 3 } });
  await expect(captures.finish(buildFinish(key, { lastSeq: 3, stdout: { bytes: 7 } }))).rejects.toThrow(IntegrityError);
  await expect(captures.finish(buildFinish(key, { lastSeq: 3, stdout: { bytes: 6, sha256: content } }))).rejects.toThrow(IntegrityError);
  const outcomes = await Promise.all([captures.finish(input), captures.finish(input), captures.finish(input)]);
  expect(outcomes.map(({ outcome }) => outcome).sort()).toEqual(['already', 'already', 'captured']);
  expect(await captures.append({ ...key, afterSeq: 3, lastSeq: 4, chunks: [chunk('stdout', 4, 4, 'late')] })).toMatchObject({ outcome: 'captured' });
  expect(await captures.begin(key)).toMatchObject({ outcome: 'captured' });

  const record = await readers.get(key.evaluationUid, 1);
  expect(record).toMatchObject({
    state: 'captured', complete: true, reason: null, lastSeq: 3, receipt: { uid: 10000 },
    summary: { error: 'a\\u0000b', lone: '\\udc00', exitCode: 3 },
    artifacts: { count: 201, bytes: 401, refused: 1, complete: true },
    streams: { stdout: { bytes: 6, lines: 1, sha256: sha256(Buffer.from('hello\n')), complete: true, producedBytes: 6 }, stderr: { bytes: 0 } },
  });
  const list = await new ArtifactRepository(api).list(key.evaluationUid, 1);
  expect(list).toHaveLength(202);
  expect(list[0]).toMatchObject({ path: '../../etc/pass\\u0000wd\\ud800', sha256: content, mode: 0o644 });
  expect(await new ArtifactRepository(api).get(key.evaluationUid, 1, 1)).toMatchObject({ refused: 'not a regular file\\u0000', sha256: null });
  expect(await new ArtifactRepository(api).referenced([content, '0'.repeat(64)])).toEqual(new Set([content]));
  const log = await new EventRepository(api).list(key.evaluationUid);
  expect(log.map(({ type }) => type)).toEqual(['evaluation.accepted', 'attempt.created', 'capture.finished']);
  await expect.poll(() => payloads).toEqual([`evals/${name}`]);
  await listener.close();
});

test('a whole capture without artifacts is closed in one statement, which leaves what the steps leave', async () => {
  const filled = async () => {
    const key = await begun();
    await captures.append({ ...key, afterSeq: 0, lastSeq: 3, chunks: [chunk('stdout', 1, 1, 'one\n'), chunk('stderr', 2, 2, 'E'), chunk('stdout', 3, 3, 'two\n')] });
    return key;
  };
  const sizes = { lastSeq: 3, stdout: { bytes: 8, lines: 2, producedBytes: 8 }, stderr: { bytes: 1, lines: 1, truncated: true } };
  const [once, steps] = [await filled(), await filled()];
  const oneStatement = connect(dsns.recorder);
  oneStatement.transaction = () => Promise.reject(new Error('in steps'));
  const closed = await new CaptureRepository(oneStatement).finish(buildFinish(once, sizes));
  await oneStatement.close();
  const refused = [{ index: 0, path: 'a', size: 0, sha256: null, complete: false, refused: 'no' }];
  expect(closed).toEqual(await captures.finish({ ...buildFinish(steps, sizes), artifacts: refused }));
  const left = async ({ evaluationUid }: Capture) => {
    const events = await new EventRepository(api).list(evaluationUid);
    const own = { evaluationUid: '', podUid: '', artifacts: '', startedAt: '', capturedAt: '' };
    return [{ ...(await readers.get(evaluationUid, 1)), ...own }, events.map(({ seq, type, data }) => ({ seq, type, ...(data as object), artifacts: '' }))];
  };
  expect(await left(once)).toEqual(await left(steps));
  expect((await readers.get(once.evaluationUid, 1))?.capturedAt).toBeInstanceOf(Date);
});

test('what is not a whole capture as it is stored is not closed in one statement, and stays as it is', async () => {
  const key = await begun();
  const holed = await begun();
  await captures.append({ ...key, afterSeq: 0, lastSeq: 2, chunks: [chunk('stdout', 1, 1, 'one\n'), chunk('stderr', 2, 2, 'E')] });
  await captures.append({ ...holed, afterSeq: 0, lastSeq: 2, missing: [{ from: 2, to: 2 }], chunks: [chunk('stdout', 1, 1, 'one\n')] });
  const input = buildFinish(key, { lastSeq: 2, stdout: { bytes: 4, lines: 1 }, stderr: { bytes: 1, lines: 1 } });
  const { stdout, stderr } = input.streams;
  const before = await readers.get(key.evaluationUid, 1);
  const not = async (change: Partial<typeof input>) => expect(await closeAtOnce(recorder, { ...input, ...change })).toBe(false);
  await not({ podUid: randomUUID() });
  await not({ lastSeq: 1 });
  await not({ complete: false, reason: 'FramesMissing' });
  await not({ artifacts: [{ index: 0, path: 'a', size: 0, sha256: null, complete: false, refused: 'no' }] });
  await not({ streams: { stdout, stderr: { ...stderr, bytes: 2 } } });
  await not({ streams: { stdout: { ...stdout, sha256: sha256(Buffer.from('two\n')) }, stderr } });
  expect(await readers.get(key.evaluationUid, 1)).toEqual(before);
  expect(await closeAtOnce(recorder, buildFinish(holed, { lastSeq: 2, stdout: { bytes: 4, lines: 1 } }))).toBe(false);
  expect((await readers.get(holed.evaluationUid, 1))?.state).toBe('following');
  const known = { ...input, streams: { stdout: { ...stdout, sha256: sha256(Buffer.from('one\n')) }, stderr } };
  const both = await Promise.all([captures.finish(known), captures.finish(known)]);
  expect(both.map(({ outcome }) => outcome).sort()).toEqual(['already', 'captured']);
  await not({});
});

test('a claim that is renewed in the moment of closing holds it up and changes nothing of it', async () => {
  const key = await begun();
  await captures.append({ ...key, afterSeq: 0, lastSeq: 1, chunks: [chunk('stdout', 1, 1, 'one\n')] });
  const input = buildFinish(key, { lastSeq: 1, stdout: { bytes: 4, lines: 1 } });
  let closing: Promise<boolean> | undefined;
  await owner.transaction(async (tx) => {
    await tx.query(`UPDATE crucible.captures SET recorder = 'renewed' WHERE evaluation_uid = $1`, [key.evaluationUid]);
    closing = closeAtOnce(recorder, input);
    const waits = `SELECT FROM pg_stat_activity WHERE usename = 'crucible_recorder' AND datname = current_database() AND wait_event_type = 'Lock'`;
    await expect.poll(async () => (await owner.query(waits)).rowCount).toBe(1);
  });
  expect(await closing).toBe(true);
  expect(await readers.get(key.evaluationUid, 1)).toMatchObject({ state: 'captured', recorder: input.recorder, streams: { stdout: { bytes: 4, complete: true } } });
});

test('a batch that contradicts itself, or comes for another pod, is refused before anything is stored', async () => {
  const key = await begun();
  const at = (chunks: OutputChunk[], rest = {}) => captures.append({ ...key, afterSeq: 0, lastSeq: 5, chunks, ...rest });
  await expect(at([chunk('stdout', 6, 6, 'x')])).rejects.toThrow(RangeError);
  await expect(at([chunk('stdout', 2, 2, 'x'), chunk('stdout', 1, 1, 'x')])).rejects.toThrow(RangeError);
  await expect(at([chunk('stdout', 1, 1, '')])).rejects.toThrow(RangeError);
  await expect(at([chunk('stdout', 1, 1, Buffer.alloc(65_537))])).rejects.toThrow(RangeError);
  await expect(at([chunk('stdout', 1, 3, 'x')], { missing: [{ from: 2, to: 2 }] })).rejects.toThrow(RangeError);
  await expect(at([], { missing: [{ from: 5, to: 6 }] })).rejects.toThrow(RangeError);
  await expect(at([], { podUid: randomUUID() })).rejects.toThrow(ConflictError);
  await expect(at([], { evaluationUid: randomUUID() })).rejects.toThrow(NotFoundError);
  expect(await captures.begin({ ...key, evaluationUid: randomUUID() })).toEqual({ outcome: 'unknownAttempt' });
  expect(await captures.begin(key)).toMatchObject({ outcome: 'resumed', position: { lastSeq: 0 } });
});

test('connections killed in the middle leave whole batches or none', async () => {
  const key = await begun();
  const data = Buffer.alloc(8_192, 'y');
  const kill = () => owner.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'crucible_recorder' AND datname = current_database()`);
  let refused = 0;
  let position = 0;
  // Every second batch is shot at, each time a little later, until connections have died in five of them.
  for (let round = 0; refused < 5 || round < 40; round += 1) {
    const chunks = Array.from({ length: 8 }, (_, index) => chunk('stdout', position + index + 1, position + index + 1, data));
    const shot = round % 2 === 0 ? new Promise((resolve) => setTimeout(resolve, round % 20)).then(kill) : undefined;
    const answer = await captures.append({ ...key, afterSeq: position, lastSeq: position + 8, chunks }).catch((error: unknown) => {
      expect(error).toBeInstanceOf(UnavailableError);
      refused += 1;
    });
    await shot;
    if (answer !== undefined) position = answer.position.lastSeq;
  }
  // A shot may have hit idle connections, which is found out by using them: what a caller does then is repeat.
  const again = () => captures.begin(key).catch(() => captures.begin(key)).catch(() => captures.begin(key));
  expect(await again()).toMatchObject({ outcome: 'resumed' });
  position = (await captures.get(key.evaluationUid, 1))?.lastSeq ?? 0;
  const bytes = position * data.length;
  expect((await whole(key, 'stdout')).equals(Buffer.alloc(Math.min(bytes, MAX_READ_BYTES), 'y'))).toBe(true);
  const finish = buildFinish(key, { lastSeq: position, stdout: { bytes, lines: position } });
  expect(await captures.finish(finish)).toMatchObject({ outcome: 'captured' });
});

test('lists what is still followed, and reads counts while following', async () => {
  const key = await begun();
  const all = await captures.listFollowing();
  expect(all.find(({ evaluationUid }) => evaluationUid === key.evaluationUid)).toMatchObject({ podUid: key.podUid, namespace: 'evals', name: 'hello', finalized: false });
  const rest = await captures.listFollowing({ after: all[0] as { evaluationUid: string; attempt: number }, limit: 1 });
  expect(rest).toEqual(all.slice(1, 2));
  expect(await readers.get(key.evaluationUid, 1)).toMatchObject({ state: 'following', complete: null, streams: { stdout: { sha256: null } } });
  expect(await readers.get(randomUUID(), 1)).toBeUndefined();
});

test('what a recorder had kept of a run that is finished is stored, and changes nothing of its verdict', async () => {
  const key = await begun();
  const at = { evaluationUid: key.evaluationUid, number: 1, epoch: 1 };
  const verdict = { class: 'Cancelled', message: 'm' };
  const attempts = new AttemptRepository(operator);
  await captures.append({ ...key, afterSeq: 0, lastSeq: 1, chunks: [chunk('stdout', 1, 1, 'before\n')], missing: [] });
  await attempts.finalize({ ...at, podUid: key.podUid, startedAt: null, finishedAt: null, exitCode: null, signal: null, verdict });
  const finish = { uid: at.evaluationUid, epoch: 1, phase: 'Cancelled', verdict, passed: null, finishedAt: new Date(3000) };
  expect(await new EvaluationRepository(operator).finish(finish)).toBe('finished');
  const row = (table: string, uid: string) =>
    owner.query(`SELECT to_jsonb(t) - 'event_seq' AS row FROM crucible.${table} t WHERE ${uid} = $1`, [at.evaluationUid]).then(({ rows }) => rows);
  const told = async () => [await row('evaluations', 'uid'), await row('attempts', 'evaluation_uid')];
  const before = await told();
  expect(await captures.listFollowing()).toContainEqual(expect.objectContaining({ evaluationUid: at.evaluationUid, finalized: true }));

  const late = await captures.append({ ...key, afterSeq: 1, lastSeq: 2, chunks: [chunk('stdout', 2, 2, 'after\n')], missing: [] });
  expect(late.outcome).toBe('appended');
  const ledger = { bytes: 13, lines: 2, gaps: [], truncated: false, complete: false };
  const input = buildFinish(key, { lastSeq: 2, stdout: ledger, stderr: { complete: false }, complete: false, reason: 'PodGone' });
  expect((await captures.finish(input)).outcome).toBe('captured');
  expect((await whole(key, 'stdout')).toString()).toBe('before\nafter\n');
  expect(await told()).toEqual(before);
  const events = (await new EventRepository(operator).list(at.evaluationUid)).map(({ type }) => type);
  expect(events.slice(-2)).toEqual(['evaluation.finished', 'capture.finished']);
});
