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
import { ACCEPTED_SUITES } from './testing/suite-samples.ts';

// Specs of every wrong shape, made from the schema itself: a good one, and at any place in it something that does not
// belong there, or just might. The API server must answer each with a yes or a no that says where; and what it lets in,
// our own parser must be able to read, because the operator will.

const NAMESPACE = `shapes-${process.pid}`;
/** Of each kind. More of them: CRUCIBLE_SHAPES=5000; a failure prints the seed and the smallest spec that fails. */
const SHAPES = Number(process.env['CRUCIBLE_SHAPES'] ?? 150);
const LIMIT_MS = 30_000 + SHAPES * 200;

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Spec = Record<string, unknown>;
interface Schema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly enum?: readonly Json[];
  readonly minimum?: number;
  readonly maximum?: number;
}
type Step = string | number;

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

/** Every place the schema knows, and what belongs there; an item of a list is index 0, a key of a map is A. */
function places(schema: Schema, path: Step[] = []): { path: Step[]; schema: Schema }[] {
  const below = (child: Schema | undefined, step: Step): { path: Step[]; schema: Schema }[] =>
    child === undefined ? [] : places(child, [...path, step]);
  return [
    { path, schema },
    ...Object.entries(schema.properties ?? {}).flatMap(([name, child]) => below(child, name)),
    ...below(schema.items, 0),
    ...below(schema.additionalProperties, 'A'),
  ];
}

const STRANGE_TEXTS = ['', ' ', '\u0000', '\ufffd', '../..', '/', 'true', '0x10', '1e9', 'a b', 'A', '.stdin', 'x'.repeat(70_000)];
const text = fc.oneof(fc.constantFrom(...STRANGE_TEXTS), fc.string({ unit: 'binary', maxLength: 40 }));
const number = fc.oneof(
  fc.constantFrom<Json>(0, -1, 1.5, 2 ** 31, 2 ** 53, -(2 ** 63), 1e300),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const SMALL: readonly Json[] = [[], {}, [[]], [null], [{}], { unknown: 1 }, { path: 'x' }, [{ path: 'x', content: 'y' }, { path: 'x', content: 'z' }]];
const anything: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(null, true, false, ...SMALL),
  text,
  number,
  fc.array(fc.oneof(fc.string(), fc.integer(), fc.constant(null)), { maxLength: 70 }) as fc.Arbitrary<Json>,
  fc.dictionary(fc.string({ maxLength: 5 }), fc.oneof(fc.string(), fc.integer()), { maxKeys: 3 }) as fc.Arbitrary<Json>,
);

/** Of the right type, so that more than the type decides. */
function likely({ type, enum: values, minimum = 0, maximum = 100 }: Schema): fc.Arbitrary<Json> {
  if (values !== undefined) return fc.constantFrom(...values);
  if (type === 'boolean') return fc.boolean();
  if (type === 'integer' || type === 'number') return fc.integer({ min: minimum - 1, max: maximum + 1 });
  if (type === 'array') return fc.constantFrom<Json>([], ['A'], [{ name: 'A', value: '1' }], [{ path: 'a', content: '' }]);
  if (type === 'string') return fc.oneof(text, fc.constantFrom('a', 'python', '1', '1Mi', 'out/**'));
  return fc.constantFrom<Json>({}, '1Mi', 7, { A: '1' });
}

interface Change {
  readonly path: readonly Step[];
  readonly value: Json;
}

function changes(kind: Kind): fc.Arbitrary<Change> {
  const known = places(specSchema(kind));
  return fc.constantFrom(...known).chain(({ path, schema }) => {
    const value = fc.oneof(likely(schema), anything);
    const extra = fc.option(fc.string({ minLength: 1, maxLength: 8 }), { nil: undefined, freq: 12 });
    return fc.record({ value, extra }).map(({ value, extra }) => ({ path: extra === undefined ? path : [...path, extra], value }));
  });
}

/** The same with `value` at that place; what is missing on the way there is made. */
function put(into: Json, { path: [step, ...path], value }: Change): Json {
  if (step === undefined) return value;
  if (typeof step === 'number') {
    const list = Array.isArray(into) ? [...into] : [];
    list[step] = put(list[step] ?? null, { path, value });
    return list;
  }
  const object = typeof into === 'object' && into !== null && !Array.isArray(into) ? into : {};
  return { ...object, [step]: put(object[step] ?? null, { path, value }) };
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
      .tuple(goodSpecs(kind), fc.oneof(fc.tuple(changes(kind)), fc.array(changes(kind), { minLength: 2, maxLength: 3 })))
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
      fc.array(changes(kind), { maxLength: 2 }),
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
