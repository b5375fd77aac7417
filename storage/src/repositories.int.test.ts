import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { AttemptRepository } from './attempts.ts';
import { CaptureRepository } from './captures.ts';
import { connect } from './database.ts';
import type { Database } from './database.ts';
import { ConflictError, FencedError, NotFoundError } from './errors.ts';
import { EvaluationRepository } from './evaluations.ts';
import { EventRepository } from './events.ts';
import { buildAttempt, buildEvaluation, prepareDatabase } from './testing.ts';
import type { FinalAttempt } from './types.ts';

// Everything here runs as the operator's and the recorder's own roles, so that a missing grant fails it.

let database: TestDatabase;
let operator: Database;
let recorder: Database;
let evaluations: EvaluationRepository;
let attempts: AttemptRepository;
let events: EventRepository;

beforeAll(async () => {
  database = await createDatabase('storage');
  const dsns = await prepareDatabase(database.dsn);
  operator = connect({ connectionString: dsns.operator, poolSize: 20 });
  recorder = connect(dsns.recorder);
  evaluations = new EvaluationRepository(operator);
  attempts = new AttemptRepository(operator);
  events = new EventRepository(operator);
});

afterAll(async () => {
  await Promise.all([operator?.close(), recorder?.close()]);
  await database?.drop();
});

async function accepted(epoch = 1): Promise<string> {
  const input = buildEvaluation({ epoch });
  await evaluations.upsertAccepted(input);
  return input.uid;
}

async function withPod(): Promise<{ evaluationUid: string; podUid: string }> {
  const evaluationUid = await accepted();
  const podUid = randomUUID();
  await attempts.create(buildAttempt(evaluationUid));
  await attempts.setJob({ evaluationUid, number: 1, jobUid: randomUUID(), epoch: 1 });
  await attempts.setPod({ evaluationUid, number: 1, epoch: 1, podUid, podName: 'p', node: 'n', startedAt: new Date(1000) });
  return { evaluationUid, podUid };
}

function end(key: { evaluationUid: string; podUid: string }, overrides: Partial<FinalAttempt> = {}): FinalAttempt {
  const verdict = { class: 'Succeeded', message: 'exit code 0' };
  return {
    ...key, number: 1, epoch: 1, startedAt: new Date(1000), finishedAt: new Date(2000), exitCode: 0, signal: null, verdict, ...overrides,
  };
}

const types = async (uid: string) => (await events.list(uid)).map(({ type }) => type);

test('a run from admission to its end, each step twice, leaves one event a change, without a gap', async () => {
  const input = buildEvaluation({ spec: { code: 'a\0b \ud800' } });
  const { uid } = input;
  expect(await evaluations.upsertAccepted(input)).toEqual({ created: true });
  expect(await evaluations.upsertAccepted(input)).toEqual({ created: false });
  for (const created of [true, false]) expect(await attempts.create(buildAttempt(uid))).toMatchObject({ created });
  const jobUid = randomUUID();
  const podUid = randomUUID();
  for (let i = 0; i < 2; i += 1) {
    await attempts.setJob({ evaluationUid: uid, number: 1, jobUid, epoch: 1 });
    await attempts.setPod({ evaluationUid: uid, number: 1, epoch: 1, podUid, podName: 'pod', node: 'node-1' });
    await attempts.setPod({ evaluationUid: uid, number: 1, epoch: 1, podUid, podName: 'pod', node: null, startedAt: new Date(1000) });
    await evaluations.setPhase({ uid, phase: 'Running', epoch: 1 });
  }
  expect(await attempts.get(uid, 1)).toMatchObject({ state: 'running', node: 'node-1', jobUid, podUid, startedAt: new Date(1000) });
  const final = end({ evaluationUid: uid, podUid });
  expect([await attempts.finalize(final), await attempts.finalize(final)]).toEqual(['finalized', 'already']);
  const accept = { evaluationUid: uid, number: 1, epoch: 1 };
  expect([await attempts.accept(accept), await attempts.accept(accept)]).toEqual(['accepted', 'already']);
  const finish = { uid, epoch: 1, phase: 'Succeeded', verdict: final.verdict, passed: true, finishedAt: new Date(3000) };
  expect([await evaluations.finish(finish), await evaluations.finish(finish)]).toEqual(['finished', 'already']);
  expect(await evaluations.finish({ ...finish, passed: false })).toBe('conflict');

  const record = await evaluations.get(uid);
  expect(record).toMatchObject({ phase: 'Succeeded', passed: true, acceptedAttempt: 1, eventSeq: 7, labels: { team: 'a' } });
  expect(record).toMatchObject({ passedReason: null, passedMessage: null });
  expect(record?.spec).toEqual(input.spec);
  expect(record?.createdAt).toEqual(input.createdAt);
  const log = await events.list(uid);
  expect(log.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(log.map(({ type }) => type)).toEqual([
    'evaluation.accepted', 'attempt.created', 'attempt.started', 'evaluation.phase', 'attempt.finalized', 'attempt.accepted',
    'evaluation.finished',
  ]);
  expect((await events.list(uid, { after: 5, limit: 1 })).map(({ seq }) => seq)).toEqual([6]);
});

test('what begins a run is one statement, and does nothing to what is recorded', async () => {
  const input = buildEvaluation({ phase: 'Starting' });
  const attempt = buildAttempt(input.uid, { timeoutSeconds: 5, acceptedRisks: [{ rules: [7], reason: 'r' }] });
  const unrecorded = await attempts.withEvaluation(input.uid);
  expect(unrecorded).toEqual({ evaluation: undefined, attempts: [], capture: undefined });
  expect([await attempts.createFirst(input, attempt), await attempts.createFirst(input, attempt)]).toEqual([true, false]);
  expect(await attempts.createFirst({ ...input, epoch: 9, generation: 9 }, attempt)).toBe(false);

  const steps = buildEvaluation({ phase: 'Starting' });
  await evaluations.upsertAccepted(steps);
  await attempts.create({ ...attempt, evaluationUid: steps.uid });
  const [one, other] = [await evaluations.get(input.uid), await evaluations.get(steps.uid)];
  const own = { uid: expect.any(String), acceptedAt: expect.any(Date), createdAt: expect.any(Date), name: expect.any(String) };
  expect({ ...one, ...own }).toEqual({ ...other, ...own });
  const [first, second] = [await attempts.get(input.uid, 1), await attempts.get(steps.uid, 1)];
  expect({ ...first, evaluationUid: '', createdAt: 0 }).toEqual({ ...second, evaluationUid: '', createdAt: 0 });
  const told = async (uid: string) => (await events.list(uid)).map(({ seq, type }) => ({ seq, type }));
  expect(await told(input.uid)).toEqual([{ seq: 1, type: 'evaluation.accepted' }, { seq: 2, type: 'attempt.created' }]);
  expect(await told(input.uid)).toEqual(await told(steps.uid));

  const { spec: _spec, labels: _labels, ...state } = one!;
  expect(await attempts.withEvaluation(input.uid)).toEqual({ evaluation: state, attempts: [first], capture: undefined });
});

test('what changes at once is fenced, and tells what it changed from', async () => {
  const evaluationUid = await accepted(2);
  const key = { evaluationUid, number: 1 };
  const pod = { podUid: randomUUID(), podName: 'p', node: 'n', startedAt: new Date(1000) };
  await attempts.create(buildAttempt(evaluationUid, { epoch: 2 }));
  await expect(attempts.setJob({ ...key, jobUid: randomUUID(), epoch: 1 })).rejects.toThrow(FencedError);
  await expect(attempts.setPod({ ...key, ...pod, epoch: 1 })).rejects.toThrow(FencedError);
  await expect(evaluations.setPhase({ uid: evaluationUid, phase: 'Running', epoch: 1 })).rejects.toThrow(FencedError);
  expect(await attempts.get(evaluationUid, 1)).toMatchObject({ jobUid: null, podUid: null, state: 'created' });
  await attempts.setPod({ ...key, ...pod, epoch: 2 });
  expect(await evaluations.setPhase({ uid: evaluationUid, phase: 'Running', epoch: 3 })).toEqual({ changed: true });
  expect(await evaluations.setPhase({ uid: evaluationUid, phase: 'Capturing', epoch: 3 })).toEqual({ changed: true });
  await expect(attempts.setJob({ ...key, jobUid: randomUUID(), epoch: 2 })).rejects.toThrow(FencedError);
  const before = (await evaluations.get(evaluationUid))!.phase;
  expect(before).toBe('Capturing');
  const data = (await events.list(evaluationUid)).filter(({ type }) => type === 'evaluation.phase').map((event) => event.data);
  expect(data).toEqual([{ from: 'Queued', to: 'Running' }, { from: 'Running', to: 'Capturing' }]);
  const started = (await events.list(evaluationUid)).find(({ type }) => type === 'attempt.started');
  expect(started?.data).toEqual({ attempt: 1, podName: 'p', node: 'n' });
});

test('the end of a run is one statement and leaves what the steps leave; what is not as usual it leaves to them', async () => {
  const captures = new CaptureRepository(recorder);
  const final = (key: { evaluationUid: string; podUid: string }, epoch = 1) => end(key, { epoch, receipt: { a: 'b\0' } });
  const finish = ({ evaluationUid }: { evaluationUid: string }, epoch = 1) => ({
    uid: evaluationUid, epoch, phase: 'Succeeded', verdict: { class: 'Succeeded', message: 'm' }, passed: true,
    score: { reason: 'AsExpected', message: 'yes \0' }, finishedAt: new Date(2000),
  });
  const captured = async () => {
    const key = await withPod();
    await captures.begin({ ...key, attempt: 1, recorder: 'r' });
    return key;
  };
  const [one, steps, uncaptured] = [await captured(), await captured(), await withPod()];
  // Nobody's capture, another pod's, another leader's, another attempt: all is as it was.
  const untouched = await attempts.withEvaluation(one.evaluationUid);
  expect(await attempts.finishRun(final(uncaptured), finish(uncaptured))).toBe(false);
  expect(await attempts.finishRun(final({ ...one, podUid: randomUUID() }), finish(one))).toBe(false);
  expect(await attempts.finishRun(final(one, 2), finish(one, 2))).toBe(false);
  expect(await attempts.finishRun({ ...final(one), number: 2 }, finish(one))).toBe(false);
  expect(await attempts.withEvaluation(one.evaluationUid)).toEqual(untouched);
  expect(untouched.capture).toEqual(await captures.get(one.evaluationUid, 1));
  expect(untouched.capture).toMatchObject({ podUid: one.podUid, state: 'following', startedAt: expect.any(Date) });

  expect([await attempts.finishRun(final(one), finish(one)), await attempts.finishRun(final(one), finish(one))]).toEqual([true, false]);
  expect(await attempts.finalize(final(steps))).toBe('finalized');
  expect(await attempts.accept({ evaluationUid: steps.evaluationUid, number: 1, epoch: 1 })).toBe('accepted');
  expect(await evaluations.finish(finish(steps))).toBe('finished');
  const common = { uid: '', name: '', acceptedAt: 0, createdAt: 0, evaluationUid: '', podUid: '', jobUid: '', finalizedAt: 0 };
  const whole = async ({ evaluationUid }: { evaluationUid: string }) => ({
    evaluation: { ...(await evaluations.get(evaluationUid)), ...common },
    attempt: { ...(await attempts.get(evaluationUid, 1)), ...common },
    events: (await events.list(evaluationUid)).map(({ seq, type, data }) => ({ seq, type, data })),
  });
  expect(await whole(one)).toEqual(await whole(steps));
  expect((await attempts.get(one.evaluationUid, 1))?.finalizedAt).toBeInstanceOf(Date);
  // And the steps take it for done.
  expect(await attempts.finalize(final(one))).toBe('already');
  expect(await evaluations.finish(finish(one))).toBe('already');
});

test('the end of a run that nobody saw run binds its pod in the same statement', async () => {
  const captures = new CaptureRepository(recorder);
  const unbound = async (startedAt: Date | null = new Date(1000)) => {
    const evaluationUid = await accepted();
    const podUid = randomUUID();
    await attempts.create(buildAttempt(evaluationUid));
    await attempts.setJob({ evaluationUid, number: 1, jobUid: randomUUID(), epoch: 1 });
    await captures.begin({ evaluationUid, podUid, attempt: 1, recorder: 'r' });
    return { key: { evaluationUid, podUid }, pod: { podUid, podName: 'p', node: 'n', imageDigest: 'sha256:d', startedAt } };
  };
  const finish = ({ evaluationUid }: { evaluationUid: string }) => ({
    uid: evaluationUid, epoch: 1, phase: 'Succeeded', verdict: { class: 'Succeeded', message: 'm' }, passed: null, finishedAt: new Date(2000),
  });
  const [once, steps, unstarted, bound] = [await unbound(), await unbound(), await unbound(null), await unbound()];
  await attempts.setPod({ evaluationUid: bound.key.evaluationUid, number: 1, epoch: 1, ...bound.pod });
  // It never started, is another pod's, is bound already: all is as it was.
  for (const { key, pod } of [unstarted, { ...once, pod: { ...once.pod, podUid: randomUUID() } }, bound]) {
    const before = await attempts.withEvaluation(key.evaluationUid);
    expect(await attempts.finishRun(end(key), finish(key), pod)).toBe(false);
    expect(await attempts.withEvaluation(key.evaluationUid)).toEqual(before);
  }
  expect(await attempts.finishRun(end(once.key), finish(once.key), once.pod)).toBe(true);
  await attempts.setPod({ evaluationUid: steps.key.evaluationUid, number: 1, epoch: 1, ...steps.pod });
  expect(await attempts.finalize(end(steps.key))).toBe('finalized');
  expect(await attempts.accept({ evaluationUid: steps.key.evaluationUid, number: 1, epoch: 1 })).toBe('accepted');
  expect(await evaluations.finish(finish(steps.key))).toBe('finished');
  const own = { uid: '', name: '', acceptedAt: 0, createdAt: 0, evaluationUid: '', podUid: '', jobUid: '', finalizedAt: 0 };
  const left = async ({ evaluationUid }: { evaluationUid: string }) => [
    { ...(await evaluations.get(evaluationUid)), ...own },
    { ...(await attempts.get(evaluationUid, 1)), ...own },
    (await events.list(evaluationUid)).map(({ seq, type, data }) => ({ seq, type, data })),
  ];
  expect(await left(once.key)).toEqual(await left(steps.key));
});

test('a newer generation takes over the spec until the end, an older one never', async () => {
  const input = buildEvaluation({ generation: 2 });
  await evaluations.upsertAccepted(input);
  await evaluations.upsertAccepted({ ...input, generation: 1, spec: { old: true } });
  await evaluations.upsertAccepted({ ...input, generation: 3, spec: { cancel: true } });
  expect(await evaluations.get(input.uid)).toMatchObject({ generation: 3, spec: { cancel: true } });
  await evaluations.finish({
    uid: input.uid, epoch: 1, phase: 'Cancelled', verdict: { class: 'Cancelled' }, passed: null, finishedAt: new Date(),
  });
  await evaluations.upsertAccepted({ ...input, generation: 4, spec: { late: true } });
  expect(await evaluations.get(input.uid)).toMatchObject({ generation: 3, spec: { cancel: true } });
  expect(await evaluations.setPhase({ uid: input.uid, phase: 'Running', epoch: 1 })).toEqual({ changed: false });
});

test('why it passed or not is kept with the end, and is as final', async () => {
  const uid = await accepted();
  const score = { reason: 'StdoutJson', message: 'Expected the value at a to equal \0.' };
  const finish = { uid, epoch: 1, phase: 'Failed', verdict: { class: 'Succeeded' }, passed: false, score, finishedAt: new Date() };
  expect(await evaluations.finish(finish)).toBe('finished');
  const kept = { passed: false, passedReason: 'StdoutJson', passedMessage: 'Expected the value at a to equal \\u0000.' };
  expect(await evaluations.get(uid)).toMatchObject(kept);
  const overwrite = `UPDATE crucible.evaluations SET passed_reason = 'AsExpected' WHERE uid = $1`;
  await expect(operator.query(overwrite, [uid])).rejects.toThrow(/a finished evaluation never changes/);
});

test('a new leader learns the highest epoch that has written, also of what is finished', async () => {
  const uid = await accepted(1);
  await evaluations.finish({ uid, epoch: 77, phase: 'Failed', verdict: { class: 'Evicted' }, passed: null, finishedAt: new Date() });
  await accepted(3);
  expect(await evaluations.maxEpoch()).toBe(77);
});

test('a leader of an older epoch is refused everywhere', async () => {
  const key = await withPod();
  const uid = key.evaluationUid;
  await evaluations.setPhase({ uid, phase: 'Running', epoch: 5 });
  const stale = { evaluationUid: uid, number: 1, epoch: 4 };
  await expect(evaluations.setPhase({ uid, phase: 'Queued', epoch: 4 })).rejects.toThrow(FencedError);
  await expect(evaluations.upsertAccepted(buildEvaluation({ uid, generation: 9, epoch: 4 }))).rejects.toThrow(FencedError);
  await expect(attempts.create(buildAttempt(uid, { number: 2, epoch: 4 }))).rejects.toThrow(FencedError);
  await expect(attempts.setJob({ ...stale, jobUid: randomUUID() })).rejects.toThrow(FencedError);
  await expect(attempts.setPod({ ...stale, podUid: key.podUid, podName: 'p', node: 'other' })).rejects.toThrow(FencedError);
  expect(await attempts.finalize(end(key, { epoch: 4 }))).toBe('conflict');
  expect(await attempts.finalize(end(key, { epoch: 5 }))).toBe('finalized');
  expect(await attempts.accept(stale)).toBe('conflict');
  const finish = { uid, epoch: 4, phase: 'Failed', verdict: { class: 'Succeeded' }, passed: null, finishedAt: new Date() };
  expect(await evaluations.finish(finish)).toBe('conflict');
  expect(await evaluations.get(uid)).toMatchObject({ finishedAt: null, acceptedAttempt: null, phase: 'Running' });
});

test('two operators finalize at once with different epochs: one end, and it is never overwritten', async () => {
  for (let round = 0; round < 10; round += 1) {
    const key = await withPod();
    const old = end(key, { epoch: 1, verdict: { class: 'NodeLost' }, exitCode: null });
    const current = end(key, { epoch: 2 });
    const outcomes = await Promise.all([attempts.finalize(old), attempts.finalize(current)]);
    expect(outcomes.filter((outcome) => outcome === 'finalized')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === 'conflict')).toHaveLength(1);
    const winner = outcomes[0] === 'finalized' ? old : current;
    expect(await attempts.get(key.evaluationUid, 1)).toMatchObject({ verdict: winner.verdict, exitCode: winner.exitCode });
    expect((await types(key.evaluationUid)).filter((type) => type === 'attempt.finalized')).toHaveLength(1);
  }
});

test('of two attempts one is accepted, whoever asks', async () => {
  const key = await withPod();
  const uid = key.evaluationUid;
  await expect(attempts.accept({ evaluationUid: uid, number: 1, epoch: 1 })).rejects.toThrow(ConflictError);
  await attempts.finalize(end(key));
  await attempts.create(buildAttempt(uid, { number: 2, jobName: 'second' }));
  await attempts.finalize(end({ evaluationUid: uid, podUid: randomUUID() }, { number: 2 }));
  const outcomes = await Promise.all([1, 2].map((number) => attempts.accept({ evaluationUid: uid, number, epoch: 1 })));
  expect(outcomes.sort()).toEqual(['accepted', 'conflict']);
});

test('attempts come one after the other', async () => {
  const key = await withPod();
  const uid = key.evaluationUid;
  await expect(attempts.create(buildAttempt(uid, { number: 2 }))).rejects.toThrow(/not finalized/);
  await expect(attempts.create(buildAttempt(uid, { jobName: 'other' }))).rejects.toThrow(/another Job/);
  await expect(attempts.create(buildAttempt(randomUUID()))).rejects.toThrow(NotFoundError);
  await expect(attempts.setJob({ evaluationUid: uid, number: 1, epoch: 1, jobUid: randomUUID() })).rejects.toThrow(ConflictError);
  await expect(attempts.setJob({ evaluationUid: uid, number: 7, epoch: 1, jobUid: randomUUID() })).rejects.toThrow(NotFoundError);
});

test('until it has a Job an attempt has the terms of what is to be launched, and then those of what was', async () => {
  const input = buildEvaluation();
  await evaluations.upsertAccepted(input);
  const [key, risks] = [{ evaluationUid: input.uid, number: 1, epoch: 1 }, [{ rules: [7], reason: 'r' }]];
  const given = { inputs: [{ path: 'a', sha256: 'b'.repeat(64), bytes: 1, configMap: 'c', key: 'k' }] };
  await attempts.create(buildAttempt(input.uid, { timeoutSeconds: 5, ...given }));
  const later = { image: 'example/python:2', runtimeClass: 'gvisor', timeoutSeconds: 6, acceptedRisks: risks };
  expect(await attempts.create(buildAttempt(input.uid, later))).toMatchObject({ created: false, attempt: { ...later, ...given } });
  await attempts.setJob({ ...key, jobUid: randomUUID() });
  expect(await attempts.create(buildAttempt(input.uid))).toMatchObject({ created: false, attempt: later });
  expect(await attempts.get(input.uid, 1)).toMatchObject(later);
  for (const change of ["image = 'x'", 'runtime_class = NULL', 'timeout_seconds = 9', 'accepted_risks = NULL'])
    await expect(operator.query(`UPDATE crucible.attempts SET ${change} WHERE evaluation_uid = $1`, [input.uid])).rejects.toThrow(/never changes/);
  expect(await types(input.uid)).toEqual(['evaluation.accepted', 'attempt.created']);
});

test('an attempt belongs to one pod, whether the operator or the recorder names it first', async () => {
  const captures = new CaptureRepository(recorder);
  const bound = await withPod();
  const other = randomUUID();
  expect(await captures.begin({ ...bound, attempt: 1, podUid: other, recorder: 'r' })).toEqual({ outcome: 'foreignPod' });
  await expect(attempts.setPod({ evaluationUid: bound.evaluationUid, number: 1, epoch: 1, podUid: other, podName: 'p', node: null }))
    .rejects.toThrow(ConflictError);
  expect(await attempts.finalize(end({ ...bound, podUid: other }))).toBe('conflict');
  expect(await attempts.finalize({ ...end(bound), podUid: null })).toBe('conflict');

  const evaluationUid = await accepted();
  await attempts.create(buildAttempt(evaluationUid));
  const first = randomUUID();
  expect(await captures.begin({ evaluationUid, attempt: 1, podUid: first, recorder: 'r' })).toMatchObject({ outcome: 'begun' });
  expect(await captures.begin({ evaluationUid, attempt: 1, podUid: other, recorder: 'r' })).toEqual({ outcome: 'foreignPod' });
  const pod = { evaluationUid, number: 1, epoch: 1, podName: 'p', node: null };
  await expect(attempts.setPod({ ...pod, podUid: other })).rejects.toThrow(ConflictError);
  expect(await attempts.finalize(end({ evaluationUid, podUid: other }))).toBe('conflict');
  await attempts.setPod({ ...pod, podUid: first });
  expect(await attempts.finalize(end({ evaluationUid, podUid: first }))).toBe('finalized');
});

test('operator and recorder name different pods at once: never both', async () => {
  const captures = new CaptureRepository(recorder);
  for (let round = 0; round < 20; round += 1) {
    const evaluationUid = await accepted();
    await attempts.create(buildAttempt(evaluationUid));
    const [mine, theirs] = [randomUUID(), randomUUID()];
    const [begun, bound] = await Promise.all([
      captures.begin({ evaluationUid, attempt: 1, podUid: theirs, recorder: 'r' }),
      attempts.setPod({ evaluationUid, number: 1, epoch: 1, podUid: mine, podName: 'p', node: null }).then(() => true, () => false),
    ]);
    expect([begun.outcome, bound]).toEqual(bound ? ['foreignPod', true] : ['begun', false]);
  }
});

test('the recorder finds the attempt of a Job, and nothing else of it', async () => {
  const evaluationUid = await accepted();
  await attempts.create(buildAttempt(evaluationUid));
  const jobUid = randomUUID();
  const seen = new AttemptRepository(recorder);
  expect(await seen.findByJobUid(jobUid)).toBeUndefined();
  await attempts.setJob({ evaluationUid, number: 1, jobUid, epoch: 1 });
  expect(await seen.findByJobUid(jobUid)).toEqual({
    evaluationUid, number: 1, namespace: 'evals', name: 'hello', jobName: 'hello-01234567-1', jobUid, podUid: null, state: 'created',
  });
});

test('twenty writers number one evaluation\'s events without gap or duplicate, some of them rolled back', async () => {
  const uid = await accepted();
  const writes = Array.from({ length: 100 }, (_, index) =>
    operator.transaction(async (tx) => {
      await events.append(tx, uid, { type: 'test.written', data: { index } });
      if (index % 5 === 0) throw new Error('rolled back');
    }).catch((error: unknown) => expect(String(error)).toContain('rolled back')),
  );
  await Promise.all(writes);
  const log = await events.list(uid);
  expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: 81 }, (_, index) => index + 1));
  expect(new Set(log.slice(1).map(({ data }) => data['index'])).size).toBe(80);
});

test('finds by name the newest, and lists what is unfinished in pages', async () => {
  const name = `n-${randomUUID()}`;
  const older = buildEvaluation({ name, createdAt: new Date(1000) });
  const newer = buildEvaluation({ name, createdAt: new Date(2000) });
  await evaluations.upsertAccepted(newer);
  await evaluations.upsertAccepted(older);
  expect((await evaluations.findByName('evals', name))?.uid).toBe(newer.uid);
  expect(await evaluations.findByName('elsewhere', name)).toBeUndefined();
  const all = (await evaluations.listUnfinished()).map(({ uid }) => uid);
  expect(all).toContain(older.uid);
  expect(all).toEqual([...all].sort());
  const page = await evaluations.listUnfinished({ after: all[0] as string, limit: 2 });
  expect(page.map(({ uid }) => uid)).toEqual(all.slice(1, 3));
  expect(Object.keys(page[0]!)).toEqual(['uid', 'acceptedAt']);
});

test('an attempt keeps what it was allowed, and notes why its start was given up until it is finalized', async () => {
  const uid = randomUUID();
  await evaluations.upsertAccepted(buildEvaluation({ uid }));
  await attempts.create(buildAttempt(uid, { timeoutSeconds: 90 }));
  await attempts.setJob({ evaluationUid: uid, number: 1, jobUid: randomUUID(), epoch: 1 });
  expect(await attempts.get(uid, 1)).toMatchObject({ timeoutSeconds: 90, ending: null });
  const ending = { class: 'ImagePullFailed', attributableTo: 'User', message: 'no "\u0000" image' };
  await attempts.setEnding({ evaluationUid: uid, number: 1, ending, epoch: 1 });
  expect((await attempts.get(uid, 1))?.ending).toMatchObject({ class: 'ImagePullFailed' });
  const change = (what: string) => operator.query(`UPDATE crucible.attempts SET ${what} WHERE evaluation_uid = $1`, [uid]);
  await expect(change('timeout_seconds = 9')).rejects.toThrow(/never changes/);
  await expect(change('inputs = NULL')).rejects.toThrow(/permission denied/);
  await attempts.finalize({
    evaluationUid: uid, number: 1, epoch: 1, podUid: null, startedAt: null, finishedAt: null, exitCode: null,
    signal: null, verdict: { class: 'Cancelled' },
  });
  await expect(attempts.setEnding({ evaluationUid: uid, number: 1, ending, epoch: 1 })).rejects.toThrow(/finalized/);
});
