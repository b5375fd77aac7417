import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { ApiServer, readCrds } from '../../test/integration/api-server.ts';
import type { ApiResponse } from '../../test/integration/api-server.ts';
import { testServer } from '../../test/integration/environment.ts';
import { GROUP, VERSION } from './constants.ts';
import { parseEvaluation, parseEvaluationSuite } from './resources.ts';
import type { Evaluation } from './resources.ts';
import { IMMUTABLE_SPEC_FIELDS } from './schema/evaluation-spec.ts';
import { aRuntime, anEvaluation } from './testing/builders.ts';
import { ACCEPTED, FIELD_VALUES, REJECTED } from './testing/samples.ts';

const NAMESPACE = `crds-${process.pid}`;
const EVALUATIONS = `/apis/${GROUP}/${VERSION}/namespaces/${NAMESPACE}/evaluations`;
const SUITES = `/apis/${GROUP}/${VERSION}/namespaces/${NAMESPACE}/evaluationsuites`;
const RUNTIMES = `/apis/${GROUP}/${VERSION}/evaluationruntimes`;
const DRY_RUN = '?dryRun=All&fieldValidation=Strict';

let api: ApiServer;
let created = 0;

beforeAll(async () => {
  api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
  await api.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
});

afterAll(async () => {
  await api.delete(`/api/v1/namespaces/${NAMESPACE}`);
  api.close();
});

type RawSpec = Readonly<Record<string, unknown>>;

const evaluation = (spec: RawSpec, metadata: object = {}): unknown =>
  anEvaluation(spec, { namespace: NAMESPACE, ...metadata });

async function store(spec: RawSpec): Promise<string> {
  created += 1;
  const name = `stored-${created}`;
  expectStatus(await api.create(EVALUATIONS, evaluation(spec, { name })), 201);
  return `${EVALUATIONS}/${name}`;
}

function expectStatus(response: ApiResponse, status: number): void {
  expect(response.status, response.body['message']).toBe(status);
}

function expectRefused(response: ApiResponse, message: string): void {
  expectStatus(response, 422);
  expect(response.body['message']).toContain(message);
}

describe('the CRDs', () => {
  test.each(readCrds().map((crd) => crd.metadata.name))('%s is structural and its names are accepted', async (name) => {
    const { body } = await api.get(`/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`);
    const conditions = Object.fromEntries(
      body['status'].conditions.map((entry: { type: string; status: string }) => [entry.type, entry.status]),
    );
    expect(conditions).toMatchObject({ Established: 'True', NamesAccepted: 'True' });
    expect(conditions).not.toHaveProperty('NonStructuralSchema');
  });
});

describe('an Evaluation is accepted:', () => {
  test.each(ACCEPTED)('$name', async ({ spec }) => {
    expectStatus(await api.create(EVALUATIONS + DRY_RUN, evaluation(spec)), 201);
  });
});

describe('an Evaluation is refused:', () => {
  test.each(REJECTED)('$name', async ({ spec, message }) => {
    expectRefused(await api.create(EVALUATIONS + DRY_RUN, evaluation(spec)), message);
  });

  test.each(['with.dots', 'x'.repeat(64)])('metadata.name %s', async (name) => {
    expectRefused(
      await api.create(EVALUATIONS + DRY_RUN, evaluation({}, { name })),
      'metadata.name must be a DNS label',
    );
  });

  test('without a spec', async () => {
    const { spec: _, ...rest } = evaluation({}) as { spec: unknown };
    expectRefused(await api.create(EVALUATIONS + DRY_RUN, rest), 'spec: Required value');
  });

  test('with a field that does not exist', async () => {
    const response = await api.create(EVALUATIONS + DRY_RUN, evaluation({ podTemplate: {} }));
    expectStatus(response, 400);
    expect(response.body['message']).toContain('unknown field "spec.podTemplate"');
  });
});

describe('every sample is accepted:', () => {
  const folder = resolve(import.meta.dirname, '../../deploy/samples');
  const documents = readdirSync(folder).flatMap((file) =>
    parseAllDocuments(readFileSync(join(folder, file), 'utf8')).map((document) => ({
      file,
      sample: document.toJS() as Evaluation,
    })),
  );

  test.each(documents)('$file: $sample.metadata.name', async ({ sample }) => {
    expect(sample.metadata.namespace).toBe('evals');
    const here = { ...sample, metadata: { ...sample.metadata, namespace: NAMESPACE } };
    const suite = (sample.kind as string) === 'EvaluationSuite';
    expectStatus(await api.create((suite ? SUITES : EVALUATIONS) + DRY_RUN, here), 201);
    expect(suite ? parseEvaluationSuite(sample) : parseEvaluation(sample)).toEqual(sample);
  });
});

describe('what only the operator can know is left to it:', () => {
  test.each([
    { runtime: 'no-such-runtime' },
    { isolation: { runtimeClassName: 'no-such-class' } },
    { queue: 'no-such-queue' },
  ])('%o', async (spec) => {
    expectStatus(await api.create(EVALUATIONS + DRY_RUN, evaluation(spec)), 201);
  });
});

describe('once created, an Evaluation', () => {
  test('has a value here for each field that must not change', () => {
    expect(Object.keys(FIELD_VALUES).sort()).toEqual([...IMMUTABLE_SPEC_FIELDS].sort());
  });

  // A base without the field that is valid with it added, apart from the rule under test.
  const byImage = { runtime: undefined, code: undefined, image: 'i', command: ['c'] };
  const belongsToImage = (field: string): boolean => field === 'image' || field === 'command';

  test.each(Object.keys(FIELD_VALUES))('keeps spec.%s: no change, removal or addition', async (field) => {
    const [first, second] = FIELD_VALUES[field] ?? [];
    const message = `spec.${field} cannot be changed`;
    const filled = await store({ ...(belongsToImage(field) && byImage), [field]: first });
    expectStatus(await api.mergePatch(filled, { spec: { [field]: first } }), 200);
    expectRefused(await api.mergePatch(filled, { spec: { [field]: second } }), message);
    expectRefused(await api.mergePatch(filled, { spec: { [field]: null } }), message);
    const missing = await store(belongsToImage(field) ? {} : byImage);
    expectRefused(await api.mergePatch(missing, { spec: { [field]: first } }), message);
  });

  test('can be cancelled, and not the other way', async () => {
    const path = await store({});
    expectStatus(await api.mergePatch(path, { spec: { cancel: false } }), 200);
    expectStatus(await api.mergePatch(path, { spec: { cancel: true } }), 200);
    expectRefused(await api.mergePatch(path, { spec: { cancel: false } }), 'spec.cancel cannot be taken back');
    expectRefused(await api.mergePatch(path, { spec: { cancel: null } }), 'spec.cancel cannot be taken back');
  });

  test.each(['priority', 'ttlSecondsAfterFinished'])('may get, change and lose spec.%s', async (field) => {
    const path = await store({});
    for (const value of [1, 2, null]) expectStatus(await api.mergePatch(path, { spec: { [field]: value } }), 200);
  });

  test('counts as unobserved until the operator has seen it, and takes a status only there', async () => {
    const path = await store({});
    expect((await api.get(path)).body['status']).toEqual({ observedGeneration: -1 });
    await api.mergePatch(path, { status: { phase: 'Running' } });
    expect((await api.get(path)).body['status']).toEqual({ observedGeneration: -1 });
    expectStatus(await api.mergePatch(`${path}/status`, { status: { phase: 'Running', observedGeneration: 1 } }), 200);
    expect((await api.get(path)).body['status']).toEqual({ phase: 'Running', observedGeneration: 1 });
    expectRefused(
      await api.mergePatch(`${path}/status`, { status: { verdict: { class: 'Odd', message: '' } } }),
      'Unsupported value: "Odd"',
    );
  });

  test('reads well in a table', async () => {
    const path = await store({});
    const condition = {
      type: 'Passed',
      status: 'True',
      reason: 'Expected',
      message: '',
      lastTransitionTime: '2026-01-01T00:00:00Z',
    };
    const verdict = { class: 'Succeeded', message: 'exited with 0' };
    const status = {
      phase: 'Succeeded',
      verdict,
      exitCode: 0,
      duration: '3s',
      conditions: [condition],
      attempts: [{ number: 1 }, { number: 2 }],
    };
    expectStatus(await api.mergePatch(`${path}/status`, { status }), 200);
    const table = await api.send(
      'GET',
      path,
      undefined,
      'application/json',
      'application/json;as=Table;g=meta.k8s.io;v=v1',
    );
    const names = table.body['columnDefinitions'].map((column: { name: string }) => column.name);
    expect(names).toEqual([
      'Name',
      'Phase',
      'Verdict',
      'Exit',
      'Passed',
      'Attempts',
      'Duration',
      'Age',
      'Runtime',
      'Message',
    ]);
    expect(table.body['rows'][0].cells.slice(1, 7)).toEqual(['Succeeded', 'Succeeded', 0, 'True', 2, '3s']);
  });
});

describe('an EvaluationRuntime', () => {
  const bounds = (cpu: unknown, seconds: number): object => ({
    resources: { cpu, memory: '1Gi', disk: 4096 },
    timeoutSeconds: seconds,
  });

  test.each([
    ['the smallest', { launcher: undefined }],
    [
      'every field',
      {
        runtimeClassName: 'gvisor',
        env: [{ name: 'A', value: 'b' }],
        default: bounds('500m', 60),
        maximum: bounds(4, 3600),
      },
    ],
  ])('is accepted: %s', async (_, spec) => {
    expectStatus(await api.create(RUNTIMES + DRY_RUN, aRuntime(spec as object)), 201);
  });

  test.each([
    ['no entry file', { entryFile: undefined }, 'spec.entryFile: Required value'],
    ['an absolute entry file', { entryFile: '/main.py' }, 'must be a relative path'],
    ['an unknown launcher', { launcher: 'Magic' }, 'Unsupported value: "Magic"'],
    [
      'a default above the maximum',
      { default: bounds('1500m', 60), maximum: bounds('1', 60) },
      'spec.default.resources.cpu may not be more than',
    ],
    [
      'a default time above the maximum',
      { default: bounds('1', 61), maximum: bounds('1', 60) },
      'spec.default.timeoutSeconds may not be more than',
    ],
  ])('is refused: %s', async (_, spec, message) => {
    expectRefused(await api.create(RUNTIMES + DRY_RUN, aRuntime(spec as object)), message);
  });

  test('is injected with the launcher unless its image has it', async () => {
    const { body } = await api.create(RUNTIMES + DRY_RUN, aRuntime({ launcher: undefined } as object));
    expect(body['spec'].launcher).toBe('Injected');
  });
});
