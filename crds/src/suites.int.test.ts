import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ApiServer } from '../../test/integration/api-server.ts';
import type { ApiResponse } from '../../test/integration/api-server.ts';
import { testServer } from '../../test/integration/environment.ts';
import { GROUP, VERSION } from './constants.ts';
import { IMMUTABLE_SUITE_FIELDS } from './schema/evaluation-suite.ts';
import { aSuite } from './testing/builders.ts';
import { ACCEPTED_SUITES, REJECTED_SUITES, SUITE_FIELD_VALUES } from './testing/suite-samples.ts';

const NAMESPACE = `suites-${process.pid}`;
const SUITES = `/apis/${GROUP}/${VERSION}/namespaces/${NAMESPACE}/evaluationsuites`;
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

const suite = (spec: object, metadata: object = {}): object => aSuite(spec, { namespace: NAMESPACE, ...metadata });

async function store(spec: object): Promise<string> {
  created += 1;
  const name = `stored-${created}`;
  expectStatus(await api.create(SUITES, suite(spec, { name })), 201);
  return `${SUITES}/${name}`;
}

function expectStatus(response: ApiResponse, status: number): void {
  expect(response.status, response.body['message']).toBe(status);
}

function expectRefused(response: ApiResponse, message: string): void {
  expectStatus(response, 422);
  expect(response.body['message']).toContain(message);
}

describe('an EvaluationSuite is accepted:', () => {
  test.each(ACCEPTED_SUITES)('$name', async ({ spec }) => {
    expectStatus(await api.create(SUITES + DRY_RUN, suite(spec)), 201);
  });
});

describe('an EvaluationSuite is refused:', () => {
  test.each(REJECTED_SUITES)('$name', async ({ spec, message }) => {
    expectRefused(await api.create(SUITES + DRY_RUN, suite(spec)), message);
  });

  test('with cancel in the template, which is the suite’s own', async () => {
    const template = { spec: { runtime: 'python', code: 'x', cancel: true } };
    const response = await api.create(SUITES + DRY_RUN, suite({ template }));
    expectStatus(response, 400);
    expect(response.body['message']).toContain('unknown field "spec.template.spec.cancel"');
  });
});

describe('once created, an EvaluationSuite', () => {
  test('has a value here for each field that must not change', () => {
    expect(Object.keys(SUITE_FIELD_VALUES).sort()).toEqual([...IMMUTABLE_SUITE_FIELDS].sort());
  });

  test.each(Object.keys(SUITE_FIELD_VALUES))('keeps spec.%s: no change, removal or addition', async (field) => {
    const [first, second] = SUITE_FIELD_VALUES[field] ?? [];
    const message = `spec.${field} cannot be changed`;
    const filled = await store({ [field]: first });
    expectStatus(await api.mergePatch(filled, { spec: { [field]: first } }), 200);
    expectRefused(await api.mergePatch(filled, { spec: { [field]: second } }), message);
    if (field === 'template') return;
    expectRefused(await api.mergePatch(filled, { spec: { [field]: null } }), message);
    expectRefused(await api.mergePatch(await store({}), { spec: { [field]: first } }), message);
  });

  test('can be cancelled, and not the other way; parallelism may change', async () => {
    const path = await store({});
    for (const parallelism of [1, 50, null]) expectStatus(await api.mergePatch(path, { spec: { parallelism } }), 200);
    expectStatus(await api.mergePatch(path, { spec: { cancel: true } }), 200);
    expectRefused(await api.mergePatch(path, { spec: { cancel: false } }), 'spec.cancel cannot be taken back');
  });

  test('reads well in a table, and has a short name', async () => {
    const path = await store({});
    const rate = { passed: 7, runs: 8, rate: 0.875, low: 0.5291, high: 0.9776 };
    const passRates = { all: rate, withoutRetried: rate, withoutInfrastructure: rate, withoutRetriedAndInfrastructure: rate };
    const counts = { passed: 7, failed: 1, infrastructureFailed: 0, cancelled: 0 };
    const summary = {
      total: 8, notStarted: 0, running: 0, ...counts, finished: 8, retried: 0, passRate: '88% (53–98%)',
      verdicts: [{ class: 'Succeeded', count: 8 }], passRates,
    };
    const cells = [{ cell: 1, parameters: { A: '1' }, ...counts, passRate: rate }];
    expectStatus(await api.mergePatch(`${path}/status`, { status: { phase: 'Succeeded', summary, cells } }), 200);
    const as = 'application/json;as=Table;g=meta.k8s.io;v=v1';
    const { body } = await api.send('GET', path, undefined, 'application/json', as);
    expect(body['columnDefinitions'].map(({ name }: { name: string }) => name)).toEqual([
      'Name', 'Phase', 'Total', 'Passed', 'Failed', 'Infra', 'Pass rate', 'Age', 'Running', 'Duration', 'Message',
    ]);
    expect(body['rows'][0].cells.slice(1, 7)).toEqual(['Succeeded', 8, 7, 1, 0, '88% (53–98%)']);
    const group = await api.get(`/apis/${GROUP}/${VERSION}`);
    expect(group.body['resources'].find(({ name }: { name: string }) => name === 'evaluationsuites').shortNames).toEqual(['evalsuite']);
  });
});
