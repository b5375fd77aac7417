import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../test/integration/database.ts';
import type { TestDatabase } from '../../test/integration/database.ts';
import { AttemptRepository } from './attempts.ts';
import { EvaluationRepository } from './evaluations.ts';
import { KubernetesEventRepository, MAX_KUBERNETES_EVENTS } from './kubernetes-events.ts';
import type { ToldEvent } from './kubernetes-events.ts';
import { listKubernetesEvents, listStorageLocations, readComplete } from './queries/index.ts';
import { connectRoles } from './queries/testing.ts';
import type { Roles } from './queries/testing.ts';
import { expire } from './retention.ts';
import { buildAttempt, buildEvaluation, prepareDatabase } from './testing.ts';

let database: TestDatabase;
let roles: Roles & { close(): Promise<void> };
let repository: KubernetesEventRepository;

beforeAll(async () => {
  database = await createDatabase('kubernetes_events');
  roles = connectRoles(await prepareDatabase(database.dsn));
  repository = new KubernetesEventRepository(roles.operator);
});
afterAll(async () => {
  await roles?.close();
  await database?.drop();
});

interface Run {
  uid: string;
  namespaceUid: string;
  jobUid: string;
  podUid: string;
}

async function running(): Promise<Run> {
  const run = { uid: randomUUID(), namespaceUid: randomUUID(), jobUid: randomUUID(), podUid: randomUUID() };
  const key = { evaluationUid: run.uid, number: 1, epoch: 1 };
  await new EvaluationRepository(roles.operator).upsertAccepted(buildEvaluation(run));
  const attempts = new AttemptRepository(roles.operator);
  await attempts.create(buildAttempt(run.uid));
  await attempts.setJob({ ...key, jobUid: run.jobUid });
  await attempts.setPod({ ...key, podUid: run.podUid, podName: 'hello-01234567-1-x', node: null });
  return run;
}

const AT = Date.parse('2026-01-02T03:05:00Z');

function told({ namespaceUid, podUid }: Run, changes: Partial<ToldEvent> = {}): ToldEvent {
  return {
    uid: randomUUID(), namespaceUid, podUid, jobUid: null, objectKind: 'Pod', objectName: 'hello-01234567-1-x', type: 'Normal', reason: 'Pulled',
    message: 'Container image "example/python:1" already present on machine', component: 'kubelet', count: 1,
    firstSeenAt: new Date(AT), lastSeenAt: new Date(AT), ...changes,
  };
}

const listed = ({ uid }: Run) => listKubernetesEvents(roles.api, uid, 'all');

test('what is about a Job or pod of a run is in its timeline, told again it only grows, and goes with the run', async () => {
  const run = await running();
  const event = told(run);
  const job = told(run, { podUid: null, jobUid: run.jobUid, objectKind: 'Job', reason: 'FailedCreate', type: 'Warning', component: 'job-controller', message: 'exceeded quota' });
  // A pod that the record does not know yet, of a Job that it does.
  const ofJob = told(run, { podUid: randomUUID(), jobUid: run.jobUid, reason: 'Scheduled' });
  const foreign = told(run, { podUid: randomUUID() });
  expect(await repository.keep([event, foreign, job, ofJob])).toEqual([true, false, true, true]);
  const later = { ...event, count: 3, lastSeenAt: new Date(AT + 60_000) };
  expect(await repository.keep([later])).toEqual([true]);
  // As from a list that is older than what is known.
  expect(await repository.keep([{ ...event, message: 'older' }])).toEqual([true]);
  const { events, leftOut } = await listed(run);
  expect(leftOut).toBeNull();
  expect(events.map(({ uid }) => uid)).toEqual([event.uid, job.uid, ofJob.uid]);
  expect(events[0]).toEqual({
    uid: event.uid, attempt: 1, objectKind: 'Pod', objectName: event.objectName, type: 'Normal', reason: 'Pulled', message: event.message,
    component: 'kubelet', count: 3, firstSeenAt: event.firstSeenAt, lastSeenAt: later.lastSeenAt,
  });

  const complete = await readComplete(roles.api, {}, run.uid, [run.namespaceUid]);
  const entry = complete!.timeline.find(({ kubernetesEvent }) => kubernetesEvent?.reason === 'Pulled');
  expect(entry).toMatchObject({
    at: event.firstSeenAt, type: 'kubernetes.event', source: 'cluster', attempt: 1, seq: null, kubernetesEvent: { component: 'kubelet', count: 3 },
    message: `kubelet told of its pod: Pulled: ${event.message} (3 times, last at 2026-01-02T03:06:00.000Z)`,
  });
  const times = complete!.timeline.map(({ at }) => at.getTime());
  expect(times).toEqual([...times].sort((a, b) => a - b));
  expect(await listStorageLocations(roles.api, {}, run.uid, 'all')).toContainEqual(
    { backend: 'database', holds: 'kubernetesEvents', location: 'crucible.kubernetes_events', attempt: null, items: 3, bytes: 0, path: null });

  await new EvaluationRepository(roles.operator).finish({
    uid: run.uid, epoch: 1, phase: 'Failed', verdict: { class: 'QuotaExceeded' }, passed: null, finishedAt: new Date(AT),
  });
  expect(await expire(roles.recorder, { class: 'records', days: 7, maxRuns: 10 })).toBe(1);
  expect((await roles.owner.query('SELECT FROM crucible.kubernetes_events WHERE evaluation_uid = $1', [run.uid])).rowCount).toBe(0);
});

test('an event of one namespace gets into no run of another, whatever UID it names', async () => {
  const [run, other] = [await running(), await running()];
  expect(await repository.keep([told(run, { namespaceUid: other.namespaceUid }), told(other, { jobUid: run.jobUid, podUid: null })])).toEqual([false, false]);
  expect(await listed(run)).toEqual({ events: [], leftOut: null });
  // Nor is it shown to who may not see the run.
  await repository.keep([told(run)]);
  expect(await listKubernetesEvents(roles.api, run.uid, [other.namespaceUid])).toEqual({ events: [], leftOut: null });
});

test('of a flood the first hundred are kept and the others counted; what is kept still grows', async () => {
  const [run, quiet] = [await running(), await running()];
  const flood = Array.from({ length: 250 }, (_, n) => told(run, { reason: `Flood${n}`, firstSeenAt: new Date(AT + n), lastSeenAt: new Date(AT + n) }));
  const first = flood.slice(0, 60);
  await repository.keep([...first, told(quiet)]);
  expect(await repository.keep(flood)).toEqual(flood.map(() => true));
  const { events, leftOut } = await listed(run);
  expect(events.map(({ reason }) => reason)).toEqual(flood.slice(0, MAX_KUBERNETES_EVENTS).map(({ reason }) => reason));
  expect(leftOut).toEqual({ count: 150, firstSeenAt: new Date(AT + 100), lastSeenAt: new Date(AT + 249) });
  await repository.keep([{ ...flood[0]!, count: 9 }, told(run, { reason: 'Late', firstSeenAt: new Date(AT + 300), lastSeenAt: new Date(AT + 300) })]);
  const after = await listed(run);
  expect(after.events).toHaveLength(MAX_KUBERNETES_EVENTS);
  expect([after.events[0]?.count, after.leftOut?.count, after.leftOut?.lastSeenAt]).toEqual([9, 151, new Date(AT + 300)]);
  expect((await listed(quiet)).events).toHaveLength(1);
  const timeline = (await readComplete(roles.api, {}, run.uid, 'all'))!.timeline;
  expect(timeline.filter(({ type }) => type === 'kubernetes.eventsLeftOut').map(({ source, kubernetesEvent, message }) => [source, kubernetesEvent, message])).toEqual([
    ['record', null, 'About 151 more events of Kubernetes were not kept, the last of 2026-01-02T03:05:00.300Z.'],
  ]);
});

test('whatever is in its texts, it is stored, bounded, and shown as it is', async () => {
  const run = await running();
  const hostile = `\0\ud800 "'; DROP TABLE crucible.events; -- \u202e\u001b[2J{}\\u0000\n`;
  const long = hostile.repeat(1_000);
  const texts = { objectKind: long, objectName: long, type: long, reason: long, message: long, component: long };
  expect(await repository.keep([told(run, texts), told(run, { message: hostile, count: 2 ** 31 - 1 })])).toEqual([true, true]);
  const [cut, whole] = (await listed(run)).events;
  const shown = hostile.replace('\0', '\\u0000').replace('\ud800', '\\ud800');
  expect(whole?.message).toBe(shown);
  const expected = { objectKind: 63, objectName: 253, type: 16, reason: 128, message: 1024, component: 128 };
  for (const [name, length] of Object.entries(expected)) {
    const text = cut?.[name as keyof typeof texts] ?? '';
    expect([name, [...text].length]).toEqual([name, length]);
    expect(shown.repeat(1024).startsWith(text), name).toBe(true);
  }
});

test('a batch that Postgres refuses is no outage', async () => {
  const run = await running();
  await expect(repository.keep([told(run, { podUid: 'not a uid' })])).rejects.toMatchObject({ name: 'QueryError' });
  const event = told(run);
  await expect(repository.keep([event, event])).rejects.toMatchObject({ name: 'QueryError' });
  expect(await repository.keep([])).toEqual([]);
});

test('nobody but the operator writes them, and it only through the function', async () => {
  const run = await running();
  await repository.keep([told(run)]);
  const statements = [
    `INSERT INTO crucible.kubernetes_events (evaluation_uid) VALUES ('${run.uid}')`, `UPDATE crucible.kubernetes_events SET message = 'x'`,
    'DELETE FROM crucible.kubernetes_events', 'TRUNCATE crucible.kubernetes_events',
  ];
  for (const role of ['operator', 'recorder', 'api'] as const)
    for (const statement of statements) await expect(roles[role].query(statement), `${role}: ${statement}`).rejects.toMatchObject({ code: '42501' });
  for (const role of ['recorder', 'api'] as const)
    await expect(roles[role].query(`SELECT crucible.keep_kubernetes_events('[]')`)).rejects.toMatchObject({ code: '42501' });
  await expect(roles.recorder.query('SELECT FROM crucible.kubernetes_events')).rejects.toMatchObject({ code: '42501' });
  for (const statement of statements.slice(2)) await expect(roles.owner.query(statement)).rejects.toMatchObject({ cause: { code: 'CRU01' } });
});
