import type { RejectedSample, Sample } from './samples.ts';

// As in samples.ts. The base is a template of { runtime: python, code } and nothing else.

const template = (spec: object, metadata?: object): object => ({
  ...(metadata !== undefined && { metadata }),
  spec: { runtime: 'python', code: 'print(1)', ...spec },
});
const range = (count: number): string[] => Array.from({ length: count }, (_, index) => String(index));
const parameter = (name: string, count = 2): object => ({ name, values: range(count) });
const matrix = (parameters: object[], rest: object = {}): Sample['spec'] => ({ matrix: { parameters, ...rest } });
const TOO_MANY = 'a suite may have at most 1000 runs';

export const ACCEPTED_SUITES: readonly Sample[] = [
  { name: 'the smallest', spec: {} },
  {
    name: 'every field',
    spec: {
      template: template({ env: [{ name: 'FIXED', value: '1' }], args: ['--seed', '$(SEED)'], retry: { limit: 1, true: ['Any'] } }, {
        labels: { team: 'a', 'example.com/kind': '' },
      }),
      matrix: {
        parameters: [parameter('MODEL'), parameter('SEED', 10)],
        exclude: [{ MODEL: '0' }, { MODEL: '1', SEED: '9' }],
        include: [{ MODEL: 'huge', SEED: '' }, { EXTRA: '😀' }],
      },
      samples: 5,
      parallelism: 100,
      minPassPercent: 90,
      failFast: true,
      cancel: false,
    },
  },
  { name: 'a matrix without anything', spec: { matrix: {} } },
  { name: 'includes alone', spec: { matrix: { include: [{ A: '1' }, { B: '2' }] } } },
  { name: 'a thousand runs', spec: { ...matrix([parameter('A', 100)]), samples: 10 } },
  { name: 'a thousand samples', spec: { samples: 1000 } },
  { name: 'six parameters', spec: matrix(['A', 'B', 'C', 'D', 'E', 'F'].map((name) => parameter(name, 3))) },
];

export const REJECTED_SUITES: readonly RejectedSample[] = [
  { name: 'no template', spec: { template: undefined }, message: 'spec.template: Required value', parsed: 'spec.template:' },
  { name: 'no spec in it', spec: { template: {} }, message: 'spec.template.spec: Required value', parsed: 'spec.template.spec:' },
  { name: 'a template that no Evaluation could be', spec: { template: template({ image: 'x' }) }, message: 'set exactly one of spec.runtime' },
  { name: 'a mistake inside the template', spec: { template: template({ timeoutSeconds: 0 }) }, message: 'spec.template.spec.timeoutSeconds', },
  { name: '1001 samples', spec: { samples: 1001 }, message: 'spec.samples' },
  { name: 'no samples', spec: { samples: 0 }, message: 'spec.samples' },
  { name: '1010 runs', spec: { ...matrix([parameter('A', 100)]), samples: 11 }, message: TOO_MANY },
  { name: '4096 combinations', spec: matrix(['A', 'B', 'C', 'D', 'E', 'F'].map((name) => parameter(name, 4))), message: TOO_MANY },
  { name: 'runs that only exclude makes few', spec: matrix([parameter('A', 100), parameter('B', 11)], { exclude: [{ B: '0' }] }), message: TOO_MANY },
  { name: 'an include too many', spec: { ...matrix([parameter('A', 100)], { include: [{ A: 'x' }] }), samples: 10 }, message: TOO_MANY },
  { name: 'seven parameters', spec: matrix(range(7).map((name) => parameter(`A${name}`))), message: 'must have at most 6 items', parsed: 'spec.matrix.parameters' },
  { name: 'a parameter twice', spec: matrix([parameter('A'), parameter('A')]), message: 'Duplicate value' },
  { name: 'a value twice', spec: matrix([{ name: 'A', values: ['1', '1'] }]), message: 'Duplicate value' },
  { name: 'a parameter without values', spec: matrix([{ name: 'A', values: [] }]), message: 'spec.matrix.parameters[0].values' },
  { name: 'a number as a value', spec: matrix([{ name: 'A', values: [1] }]), message: 'spec.matrix.parameters[0].values[0]' },
  { name: 'a parameter that is no variable', spec: matrix([parameter('learning-rate')]), message: 'must be a name of letters, digits and underscores' },
  { name: 'a parameter that YAML reads as true', spec: matrix([parameter('On')]), message: 'may not be a word that YAML takes for' },
  { name: 'a NUL in a value', spec: matrix([{ name: 'A', values: ['a\0'] }]), message: 'NUL' },
  { name: 'an exclude of an unknown parameter', spec: matrix([parameter('A')], { exclude: [{ B: '1' }] }), message: 'it would exclude nothing' },
  { name: 'an exclude of an unknown value', spec: matrix([parameter('A')], { exclude: [{ A: '7' }] }), message: 'it would exclude nothing' },
  { name: 'an exclude without parameters', spec: { matrix: { exclude: [{ A: '7' }] } }, message: 'it would exclude nothing' },
  { name: 'an empty exclude', spec: matrix([parameter('A')], { exclude: [{}] }), message: 'at least 1', parsed: 'must have 1 to 6 parameters' },
  { name: 'an include that is no variable', spec: matrix([], { include: [{ 'a b': '1' }] }), message: 'must be a name of letters, digits and underscores' },
  { name: 'an include that YAML read as true', spec: matrix([], { include: [{ true: '1' }] }), message: 'may not be a word that YAML takes for' },
  { name: 'a parameter that is in the environment already', spec: { ...matrix([parameter('A')]), template: template({ env: [{ name: 'A', value: '' }] }) }, message: 'choose another name' },
  { name: 'an include that is in the environment already', spec: { ...matrix([], { include: [{ A: '1' }] }), template: template({ env: [{ name: 'A', value: '' }] }) }, message: 'choose another name' },
  { name: 'a label of ours', spec: { template: template({}, { labels: { 'crucible.dev/suite-uid': 'x' } }) }, message: 'are given by Crucible' },
  { name: 'parallelism 101', spec: { parallelism: 101 }, message: 'spec.parallelism' },
  { name: '101 percent', spec: { minPassPercent: 101 }, message: 'spec.minPassPercent' },
];

/** Two valid values of each field that must not change. */
export const SUITE_FIELD_VALUES: Readonly<Record<string, readonly [unknown, unknown]>> = {
  template: [template({}), template({ code: 'print(2)' })],
  matrix: [matrix([parameter('A')])['matrix'], matrix([parameter('A', 3)])['matrix']],
  samples: [1, 2],
  minPassPercent: [90, 100],
  failFast: [true, false],
};
