import { randomUUID } from 'node:crypto';
import { AttemptRepository, CaptureRepository, EvaluationRepository, connect, isForeignPod } from '@crucible/storage';
import type { Database } from '@crucible/storage';
import { buildAttempt, buildEvaluation, prepareDatabase } from '@crucible/storage/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createDatabase } from '../../../test/integration/database.ts';
import type { TestDatabase } from '../../../test/integration/database.ts';
import { Claims } from './claims.ts';

let database: TestDatabase;
let operator: Database;
let recorder: Database;
let captures: CaptureRepository;

beforeAll(async () => {
  database = await createDatabase('claims');
  const dsns = await prepareDatabase(database.dsn);
  operator = connect(dsns.operator);
  recorder = connect(dsns.recorder);
  captures = new CaptureRepository(recorder);
});

afterAll(async () => {
  await Promise.all([operator?.close(), recorder?.close()]);
  await database?.drop();
});

async function attempt(pod?: string): Promise<{ evaluationUid: string; attempt: number; podUid: string }> {
  const input = buildEvaluation();
  const attempts = new AttemptRepository(operator);
  await new EvaluationRepository(operator).upsertAccepted(input);
  await attempts.create(buildAttempt(input.uid));
  const podUid = pod ?? randomUUID();
  if (pod !== undefined) await attempts.setPod({ evaluationUid: input.uid, number: 1, epoch: 1, podUid, podName: 'p', node: null });
  return { evaluationUid: input.uid, attempt: 1, podUid };
}

it('begins a capture as the steps do, once, and holds it', async () => {
  const [at, steps] = [await attempt(), await attempt()];
  const [claims, other] = [new Claims('one', recorder), new Claims('two', recorder)];
  expect([await claims.begin(at), await claims.begin(at), await other.begin(at)]).toEqual([true, false, false]);
  expect(claims.recorder()).toMatch(/^one@\d{10}$/);
  await other.refresh();
  expect(await captures.begin({ ...steps, recorder: 'one@0' })).toMatchObject({ outcome: 'begun' });
  const own = { evaluationUid: '', podUid: '', startedAt: 0, recorder: '' };
  const begun = await captures.get(at.evaluationUid, 1);
  expect({ ...begun, ...own }).toEqual({ ...(await captures.get(steps.evaluationUid, 1)), ...own });
  expect(begun?.recorder).toBe(claims.recorder());
  expect([await claims.take(at), await other.take(at)]).toEqual(['ours', { heldBy: claims.recorder() }]);
});

it('begins nothing of an attempt that nobody knows, nor from another pod', async () => {
  const known = await attempt(randomUUID());
  const claims = new Claims('one', recorder);
  expect(await claims.begin({ evaluationUid: randomUUID(), attempt: 1, podUid: randomUUID() })).toBe(false);
  const refused = await claims.begin({ ...known, podUid: randomUUID() }).catch((error: unknown) => error);
  expect(isForeignPod(refused)).toBe(true);
  expect(await captures.get(known.evaluationUid, 1)).toBeUndefined();
});

it('renews the other claims while a capture takes long to be finished, and nobody waits for that one or gets it', async () => {
  const keys = [await attempt(), await attempt()];
  for (const key of keys) await captures.begin({ ...key, recorder: 'one@1' });
  const stamps = () => Promise.all(keys.map(async (key) => (await captures.get(key.evaluationUid, 1))?.recorder));
  const [one, other] = [new Claims('one', recorder), new Claims('other', recorder)];
  const renewed: unknown = expect.stringMatching(/^one@[0-9]{10}$/);
  await recorder.transaction(async (tx) => {
    await tx.query('SELECT 1 FROM crucible.captures WHERE evaluation_uid = $1 FOR NO KEY UPDATE', [keys[0]!.evaluationUid]);
    expect(await one.renew(keys)).toEqual([]);
    expect(await stamps()).toEqual(['one@1', renewed]);
    expect(one.recorder()).toEqual(renewed);
    expect(await other.take(keys[0]!, 'one@1')).toEqual({ heldBy: 'one@1' });
  });
  expect(await one.renew(keys)).toEqual([]);
  expect(await stamps()).toEqual([renewed, renewed]);
});

it('gives a claim to who has seen it abandoned, or finds it given back, and tells who had it', async () => {
  const key = await attempt();
  const [one, other] = [new Claims('one', recorder), new Claims('other', recorder)];
  expect(await one.begin(key)).toBe(true);
  const stamp = one.recorder();
  expect(await other.take(key)).toEqual({ heldBy: stamp });
  expect(await other.take(key, 'one@1')).toEqual({ heldBy: stamp });
  expect(await other.take(key, stamp)).toBe('ours');
  expect(await one.renew([key])).toEqual([key]);
  await other.release([key]);
  expect(await one.take(key)).toBe('ours');
});
