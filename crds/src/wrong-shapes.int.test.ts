import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ApiServer, readCrds } from '../../test/integration/api-server.ts';
import { testServer } from '../../test/integration/environment.ts';
import { API_VERSION, GROUP } from './constants.ts';
import {
  InvalidResourceError,
  parseEvaluation,
  parseEvaluationRuntime,
  parseEvaluationSuite,
  parseSecurityDrill,
} from './resources.ts';
import { MUTABLE_SPEC_FIELDS } from './schema/evaluation-spec.ts';
import { MUTABLE_SUITE_FIELDS } from './schema/evaluation-suite.ts';
import { aRuntime, aSuite, anEvaluation } from './testing/builders.ts';
import { ACCEPTED } from './testing/samples.ts';
import { changes, likely, put } from './testing/shapes.ts';
import type { Json, Schema } from './testing/shapes.ts';
import { ACCEPTED_SUITES } from './testing/suite-samples.ts';

// Specs of every wrong shape, made from the schema itself: a good one, and at any place in it something that does not
// belong there, or just might. The API server must answer each with a yes or a no that says where; and what it lets in,
// our own parser must be able to read, because the operator will.

const NAMESPACE = `shapes-${process.pid}`;
/** Of each kind. More of them: CRUCIBLE_SHAPES=5000; a failure prints the seed and the smallest spec that fails. */
const SHAPES = Number(process.env['CRUCIBLE_SHAPES'] ?? 150);
const LIMIT_MS = 30_000 + SHAPES * 200;

type Spec = Record<string, unknown>;

interface Kind {
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  readonly good: readonly Spec[];
  readonly parse: (raw: unknown) => unknown;
  /** Of spec; the rest never changes. Undefined: one that exists is at work in other tests at once. */
  readonly mutable?: readonly string[] | 'all';
}

const KINDS: readonly Kind[] = [
  {
    kind: 'Evaluation',
    plural: 'evaluations',
    namespaced: true,
    good: ACCEPTED.map(({ spec }) => ({ ...anEvaluation().spec, ...spec })),
    parse: parseEvaluation,
    mutable: MUTABLE_SPEC_FIELDS,
  },
  {
    kind: 'EvaluationSuite',
    plural: 'evaluationsuites',
    namespaced: true,
    good: ACCEPTED_SUITES.map(({ spec }) => ({ ...aSuite().spec, ...spec })),
    parse: parseEvaluationSuite,
    mutable: MUTABLE_SUITE_FIELDS,
  },
  {
    kind: 'EvaluationRuntime',
    plural: 'evaluationruntimes',
    namespaced: false,
    good: [
      aRuntime().spec,
      {
        ...aRuntime().spec,
        launcher: 'Injected',
        runtimeClassName: 'gvisor',
        env: [{ name: 'A', value: '1' }],
        default: { resources: { cpu: '500m', memory: '128Mi', disk: 4096 }, timeoutSeconds: 5 },
        maximum: { resources: { cpu: 2, memory: '1Gi', disk: '1Gi' }, timeoutSeconds: 60 },
      },
    ],
    parse: parseEvaluationRuntime,
    mutable: 'all',
  },
  {
    kind: 'SecurityDrill',
    plural: 'securitydrills',
    namespaced: false,
    good: [{}, { runtimeClassNames: ['gvisor'], defaultRuntime: true, kind: 'Quick' }],
    parse: parseSecurityDrill,
  },
];

let api: ApiServer;
beforeAll(async () => {
  api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
  await api.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
});
afterAll(async () => {
  await api.delete(`/api/v1/namespaces/${NAMESPACE}`);
  api.close();
});

function specSchema({ plural }: Kind): Schema {
  const crd = readCrds().find(({ metadata }) => metadata.name === `${plural}.${GROUP}`) as any;
  return crd.spec.versions[0].schema.openAPIV3Schema.properties.spec as Schema;
}

/** As it goes over the wire. Large ones would only be slow. */
function goodSpecs({ good }: Kind): fc.Arbitrary<Json> {
  const sent = good.map((spec) => JSON.parse(JSON.stringify(spec)) as Json);
  return fc.constantFrom(...sent.filter((spec) => JSON.stringify(spec).length < 20_000));
}

describe.each(KINDS)('$kind', (kind) => {
  const path = kind.namespaced
    ? `/apis/${API_VERSION}/namespaces/${NAMESPACE}/${kind.plural}`
    : `/apis/${API_VERSION}/${kind.plural}`;
  const named = (name: string, spec: Json): object => ({
    apiVersion: API_VERSION,
    kind: kind.kind,
    metadata: { name, ...(kind.namespaced && { namespace: NAMESPACE }) },
    spec,
  });

  it('of any shape gets a yes or a no that says where, and what is let in can be read', async () => {
    const answers = { taken: 0, refused: 0 };
    const shapes = fc
      .tuple(goodSpecs(kind), fc.oneof(fc.tuple(changes(specSchema(kind))), fc.array(changes(specSchema(kind)), { minLength: 2, maxLength: 3 })))
      .map(([good, wrong]) => wrong.reduce(put, good));
    const one = fc.asyncProperty(shapes, async (spec) => {
      const { status, body } = await api.create(`${path}?dryRun=All`, named('shape', spec));
      const said = String(body['message']);
      expect([201, 400, 422], `${status}: ${said}`).toContain(status);
      answers[status === 201 ? 'taken' : 'refused'] += 1;
      if (status === 201) return void kind.parse(body);
      expect(said).toMatch(/spec|strict decoding|unable to|cannot/i);
      try {
        kind.parse(named('shape', spec));
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidResourceError);
      }
    });
    await fc.assert(one, { numRuns: SHAPES });
    // A generator that makes only one of them tests nothing.
    expect(Math.min(answers.taken, answers.refused), JSON.stringify(answers)).toBeGreaterThan(0);
  }, LIMIT_MS);

  // A SecurityDrill that exists sets drills of other tests going.
  if (kind.mutable === undefined) return;
  it('that exists and is changed in any way takes over what may be changed, and nothing else', async () => {
    const answers = { taken: 0, refused: 0 };
    const schema = specSchema(kind);
    const mutable = kind.mutable === 'all' ? Object.keys(schema.properties ?? {}) : (kind.mutable ?? []);
    const allowed = fc.record(
      Object.fromEntries(mutable.map((field) => [field, likely(schema.properties?.[field] ?? {})])),
      { requiredKeys: [] },
    ) as fc.Arbitrary<{ [key: string]: Json }>;
    const fixed = (spec: Spec): Spec => Object.fromEntries(Object.entries(spec).filter(([field]) => !mutable.includes(field)));
    let count = 0;
    const one = fc.asyncProperty(
      goodSpecs(kind),
      fc.option(allowed, { nil: {} }),
      fc.array(changes(specSchema(kind)), { maxLength: 2 }),
      async (good, may, wrong) => {
        const name = `changed-${process.pid}-${(count += 1)}`;
        const created = await api.create(path, named(name, good));
        expect(created.status, created.body['message']).toBe(201);
        const { generation } = created.body['metadata'];
        const spec = wrong.reduce(put, { ...(good as { [key: string]: Json }), ...may });
        const patch = [{ op: 'replace', path: '/spec', value: spec }];
        const replaced = await api.send('PATCH', `${path}/${name}`, patch, 'application/json-patch+json');
        expect([200, 400, 422], `${replaced.status}: ${replaced.body['message']}`).toContain(replaced.status);
        const { body } = await api.get(`${path}/${name}`);
        kind.parse(body);
        expect(fixed(body['spec'])).toEqual(fixed(created.body['spec']));
        if (replaced.status !== 200) expect(body['metadata'].generation).toBe(generation);
        answers[replaced.status === 200 ? 'taken' : 'refused'] += 1;
        await api.delete(`${path}/${name}`);
      },
    );
    await fc.assert(one, { numRuns: Math.ceil(SHAPES / 3) });
    expect(Math.min(answers.taken, answers.refused), JSON.stringify(answers)).toBeGreaterThan(0);
  }, LIMIT_MS);
});
