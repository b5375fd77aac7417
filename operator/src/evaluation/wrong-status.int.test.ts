import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { API_VERSION, GROUP, evaluationStatusSchema } from '@crucible/crds';
import fc from 'fast-check';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { changes, put } from '../../../crds/src/testing/shapes.ts';
import type { Json, Schema } from '../../../crds/src/testing/shapes.ts';
import { ApiServer, readCrds } from '../../../test/integration/api-server.ts';
import { testServer } from '../../../test/integration/environment.ts';
import { endFromStatus } from './from-status.ts';
import { DomainMetrics } from './metrics.ts';
import { plan } from './plan.ts';
import type { RawEvaluation, Snapshot } from './snapshot.ts';
import { announcements, buildStatus, observedStatus, sameStatus, waitingOf } from './status.ts';
import { NOW, at, attempt, launched, output, pod, rawEvaluation, record, settings, snapshot } from './testing/builders.ts';

// Whoever may write a status may write anything into it that the API server lets in. The operator decides from it; whatever
// it is, it comes to a decision, and what it writes next is a status as it should be.

const NAMESPACE = `status-${process.pid}`;
const PATH = `/apis/${API_VERSION}/namespaces/${NAMESPACE}/evaluations`;
const SHAPES = Number(process.env['CRUCIBLE_SHAPES'] ?? 200);
const LIMIT_MS = 30_000 + SHAPES * 200;
const TESTDATA = join(import.meta.dirname, '../../../deploy/gitops/check/testdata');

let api: ApiServer;
beforeAll(async () => {
  api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
  await api.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
  const object = { apiVersion: API_VERSION, kind: 'Evaluation', metadata: { name: 'odd' }, spec: { runtime: 'python', code: '1' } };
  expect((await api.create(PATH, object)).status).toBe(201);
});
afterAll(async () => {
  await api.delete(`/api/v1/namespaces/${NAMESPACE}`);
  api.close();
});

function statusSchema(): Schema {
  const crd = readCrds().find(({ metadata }) => metadata.name === `evaluations.${GROUP}`) as any;
  return crd.spec.versions[0].schema.openAPIV3Schema.properties.status as Schema;
}

/** Of two phases at once, and not all of it. */
function mixtures(fields: readonly string[]): fc.Arbitrary<Json> {
  const [one, some] = [fc.constantFrom(...good()), fc.subarray([...fields])];
  return fc.tuple(one, one, some, some).map(([left, right, taken, kept]) => {
    const mixed = { ...left, ...Object.fromEntries(Object.entries(right).filter(([field]) => taken.includes(field))) };
    return Object.fromEntries(Object.entries(mixed).filter(([field]) => kept.includes(field)));
  });
}

/** As they are in every phase. */
function good(): { [key: string]: Json }[] {
  return readdirSync(TESTDATA).map((file) => JSON.parse(readFileSync(join(TESTDATA, file), 'utf8'))).filter(({ kind }) => kind === 'Evaluation').map(({ status }) => status as { [key: string]: Json });
}

const finished = { evaluation: record({ phase: 'Succeeded', finishedAt: new Date(NOW - 10_000) }), attempts: [attempt()] };

function worlds(status: NonNullable<RawEvaluation['status']>): Snapshot[] {
  const raw = (spec = {}, metadata = {}): RawEvaluation => ({ ...rawEvaluation(spec, { metadata }), status });
  const over = { pod: pod().ended(0).build(), output: output() };
  return [
    snapshot({ raw: raw() }),
    snapshot({ raw: raw(), record: 'unavailable' }),
    snapshot({ raw: raw({ ttlSecondsAfterFinished: 60 }), record: finished }),
    launched({ raw: raw() }),
    launched({ raw: raw(), pod: pod().running().build() }),
    launched({ raw: raw({ expect: { exitCode: 0 } }), ...over }),
    launched({ raw: raw({}, { deletionTimestamp: at(-5) }), record: 'unavailable', unavailableSince: NOW - 90_000, ...over }),
    launched({ raw: raw(), job: undefined, record: { evaluation: record(), attempts: [attempt({ podUid: 'gone' })] } }),
  ];
}

function decide(subject: Snapshot): void {
  const { view, requeueAfterSeconds = 0 } = plan(subject, NOW, settings());
  expect(requeueAfterSeconds).not.toBeNaN();
  const { raw } = subject;
  const next = view === undefined ? observedStatus(raw.status!, 1) : buildStatus(view, 1, raw.status, NOW);
  if (view !== undefined) expect(evaluationStatusSchema.safeParse(next).error).toBeUndefined();
  sameStatus(raw.status, next);
  waitingOf(raw.status);
  announcements(raw.status, next);
  endFromStatus(raw, [attempt()], undefined);
  new DomainMetrics(new Registry(), () => undefined, () => [raw]).statusWritten(raw, next, NOW);
}

it('a status of any shape that is let in is decided from', async () => {
  const answers = { taken: 0, refused: 0 };
  const schema = statusSchema();
  const shapes = fc.tuple(mixtures(Object.keys(schema.properties ?? {})), fc.array(changes(schema), { maxLength: 2 })).map(([status, wrong]) => wrong.reduce(put, status));
  const one = fc.asyncProperty(shapes, async (status) => {
    const patch = [{ op: 'add', path: '/status', value: status }];
    const answer = await api.send('PATCH', `${PATH}/odd/status?dryRun=All`, patch, 'application/json-patch+json');
    expect([200, 400, 422], `${answer.status}: ${answer.body['message']}`).toContain(answer.status);
    answers[answer.status === 200 ? 'taken' : 'refused'] += 1;
    const kept = answer.body['status'] as RawEvaluation['status'] | null;
    if (answer.status !== 200) return;
    for (const world of worlds(kept ?? {})) decide(world);
  });
  await fc.assert(one, { numRuns: SHAPES });
  expect(Math.min(answers.taken, answers.refused), JSON.stringify(answers)).toBeGreaterThan(SHAPES / 10);
}, LIMIT_MS);
