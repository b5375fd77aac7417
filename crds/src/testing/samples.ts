import { LIMITS } from '../constants.ts';

// What the API server and our own parser must agree on. Specs are raw on purpose: most of them no type would allow.
// `undefined` removes a field of the base, which is { runtime: python, code }.

type RawSpec = Readonly<Record<string, unknown>>;

export interface Sample {
  readonly name: string;
  readonly spec: RawSpec;
}

export interface RejectedSample extends Sample {
  /** What the API server's message contains. */
  readonly message: string;
  /** What our parser's message contains, when it is not the same; null when only the API server can know. */
  readonly parsed?: string | null;
}

const byImage = { runtime: undefined, code: undefined, image: 'python:3.13', command: ['python3', 'tool.py'] };
const files = (...paths: string[]): unknown => paths.map((path) => ({ path, content: 'x' }));
const env = (...names: string[]): unknown => names.map((name) => ({ name, value: 'x' }));
const kib = (count: number): string => 'x'.repeat(count * 1024);

export const ACCEPTED: readonly Sample[] = [
  { name: 'the smallest', spec: {} },
  {
    name: 'every field',
    spec: {
      files: [
        { path: 'data/input.json', content: '{}' },
        { path: '.config/x', content: '' },
      ],
      args: ['--fast', ''],
      env: [
        { name: 'SEED', value: '1' },
        { name: '_x9', value: '' },
      ],
      stdin: '',
      resources: { cpu: '500m', memory: '256Mi', disk: '64Mi' },
      timeoutSeconds: 60,
      isolation: { runtimeClassName: 'gvisor' },
      output: { maxBytes: '1Mi' },
      artifacts: { paths: ['out/**', '*.json', 'a/?/[bc].txt'], maxBytes: '4Mi' },
      retry: { limit: 2, on: ['Infrastructure'] },
      priority: -100,
      queue: 'team-a',
      expect: {
        exitCode: 0,
        stdout: {
          contains: 'hello',
          matches: '^h.*o$',
          equals: 'hello',
          json: { path: 'a.b[0]', equals: '1', min: 0.5, max: 2 },
        },
      },
      ttlSecondsAfterFinished: 86_400,
      cancel: false,
    },
  },
  { name: 'image and command', spec: byImage },
  { name: 'image and command with code', spec: { ...byImage, code: 'print(1)' } },
  { name: 'numbers as quantities', spec: { resources: { cpu: 2, memory: 268_435_456, disk: 4096 } } },
  { name: 'a fraction of a CPU', spec: { resources: { cpu: '0.05' } } },
  { name: 'code of exactly 128 KiB', spec: { code: kib(128) } },
  { name: 'code of 128 KiB in four-byte characters', spec: { code: '😀'.repeat(32 * 1024) } },
  {
    name: 'a long value in characters outside the basic plane',
    spec: { env: [{ name: 'A', value: '😀'.repeat(8192) }] },
  },
  { name: 'a JSON document that is only a number', spec: { expect: { stdout: { json: { path: '$', min: 0.9 } } } } },
  { name: 'the largest streams', spec: { output: { maxBytes: '4Mi' } } },
  { name: 'the largest artifacts', spec: { artifacts: { paths: ['out'], maxBytes: '4608Ki' } } },
  { name: 'retry.on as YAML 1.1 reads it', spec: { retry: { limit: 1, true: ['Any'] } } },
  {
    name: 'files from ConfigMaps',
    spec: {
      files: [
        { path: 'data/big.json', configMapRef: { name: 'inputs.v1', key: 'big.json' } },
        { path: 'small', content: '' },
      ],
    },
  },
  { name: 'a second and a day', spec: { timeoutSeconds: LIMITS.timeoutSeconds } },
  { name: 'names with an underscore and dots in paths', spec: { files: files('a.b/c..d', 'x/.hidden') } },
];

const paths = (path: string): RejectedSample => ({
  name: `file path ${JSON.stringify(path)}`,
  spec: { files: files(path) },
  message: 'must be a relative path without',
});

export const REJECTED: readonly RejectedSample[] = [
  // Issue: bad input that the API server itself must refuse.
  {
    name: 'a wrong type',
    spec: { code: 7 },
    message: 'spec.code in body must be of type string',
    parsed: 'spec.code: Invalid input: expected string',
  },
  {
    name: '300 KiB of code',
    spec: { code: kib(300) },
    message: 'spec.code: Too long: may not be more than 131072 bytes',
    parsed: 'spec.code: may not be more than 131072',
  },
  {
    name: 'a negative timeout',
    spec: { timeoutSeconds: -1 },
    message: 'spec.timeoutSeconds in body should be greater than or equal to 1',
    parsed: 'spec.timeoutSeconds: Too small',
  },
  {
    name: 'both runtime and image',
    spec: { image: 'python:3.13', command: ['python3'] },
    message: 'set exactly one of spec.runtime',
  },
  // One program, given in one way.
  { name: 'neither runtime nor image', spec: { runtime: undefined }, message: 'set exactly one of spec.runtime' },
  { name: 'image without command', spec: { ...byImage, command: undefined }, message: 'spec.image needs spec.command' },
  { name: 'command with runtime', spec: { command: ['ls'] }, message: 'spec.command goes with spec.image only' },
  { name: 'runtime without code', spec: { code: undefined }, message: 'spec.runtime needs spec.code' },
  {
    name: 'empty code',
    spec: { code: '' },
    message: 'spec.code in body should be at least 1 chars long',
    parsed: 'spec.code: must not be empty',
  },
  {
    name: 'empty command',
    spec: { ...byImage, command: [] },
    message: 'spec.command in body should have at least 1 items',
    parsed: 'spec.command: Too small',
  },
  {
    name: 'an image with a space',
    spec: { ...byImage, image: 'python 3' },
    message: 'must be a container image reference',
  },
  { name: 'a runtime with capitals', spec: { runtime: 'Python' }, message: 'must be a DNS label' },
  // Sizes.
  {
    name: 'code and files over 128 KiB together',
    spec: { code: kib(100), files: [{ path: 'a', content: kib(29) }] },
    message: 'together may be at most 128 KiB',
  },
  {
    name: 'code and stdin over 128 KiB together',
    spec: { code: kib(100), stdin: kib(29) },
    message: 'together may be at most 128 KiB',
  },
  {
    name: 'code over 128 KiB in bytes but not in characters',
    spec: { code: '😀'.repeat(32 * 1024 + 1) },
    message: 'together may be at most 128 KiB',
  },
  {
    name: 'arguments over 64 KiB',
    spec: { args: Array.from({ length: 17 }, () => kib(4)) },
    message: 'together may be at most 64 KiB',
  },
  { name: 'an argument with NUL', spec: { args: ['a\u0000b'] }, message: 'must not contain a NUL character' },
  {
    name: 'timeout of more than a day',
    spec: { timeoutSeconds: 86_401 },
    message: 'spec.timeoutSeconds in body should be less than or equal to 86400',
    parsed: 'spec.timeoutSeconds: Too big',
  },
  {
    name: 'timeout zero',
    spec: { timeoutSeconds: 0 },
    message: 'should be greater than or equal to 1',
    parsed: 'spec.timeoutSeconds: Too small',
  },
  {
    name: 'timeout as text',
    spec: { timeoutSeconds: '60' },
    message: 'must be of type integer',
    parsed: 'expected number',
  },
  // Environment.
  {
    name: 'an environment name with a hyphen',
    spec: { env: env('A-B') },
    message: 'must be a name of letters, digits and underscores',
  },
  { name: 'an environment name twice', spec: { env: env('A', 'B', 'A') }, message: 'Duplicate value' },
  {
    name: 'a number as environment value',
    spec: { env: [{ name: 'A', value: 1 }] },
    message: 'must be of type string',
    parsed: 'expected string',
  },
  {
    name: 'a value with NUL',
    spec: { env: [{ name: 'A', value: '\u0000' }] },
    message: 'must not contain a NUL character',
  },
  // Files.
  ...['/etc/passwd', '../x', 'a/../b', 'a/..', '..', '.', './a', 'a//b', 'a/', '..data', 'a\\b', 'a\nb', '']
    .map(paths)
    .map((sample) =>
      sample.name === 'file path ""'
        ? { ...sample, message: 'should be at least 1 chars long', parsed: 'must not be empty' }
        : sample,
    ),
  ...[{}, { content: 'x', configMapRef: { name: 'a', key: 'b' } }].map((file, index) => ({
    name: `a file with ${index === 0 ? 'neither content nor' : 'content and'} a ConfigMap`,
    spec: { files: [{ path: 'a', ...file }] },
    message: 'set exactly one of content and configMapRef',
  })),
  {
    name: 'a ConfigMap key with a slash',
    spec: { files: [{ path: 'a', configMapRef: { name: 'a', key: 'b/c' } }] },
    message: 'must be a key of a ConfigMap',
  },
  {
    name: 'a ConfigMap without a key',
    spec: { files: [{ path: 'a', configMapRef: { name: 'a' } }] },
    message: 'spec.files[0].configMapRef.key',
  },
  { name: 'a file where stdin is', spec: { files: files('.stdin') }, message: 'may not be .stdin' },
  { name: 'a file path twice', spec: { files: files('a', 'a') }, message: 'Duplicate value' },
  {
    name: 'a path that is file and folder',
    spec: { files: files('a/b', 'a') },
    message: 'may not be both a file and a folder',
  },
  {
    name: 'too many files',
    spec: { files: files(...Array.from({ length: 65 }, (_, index) => `f${index}`)) },
    message: 'Too many: 65: must have at most 64 items',
    parsed: 'Too big',
  },
  // Quantities.
  {
    name: 'memory in lower case',
    spec: { resources: { memory: '256mb' } },
    message: 'spec.resources.memory in body should match',
    parsed: 'is not a size',
  },
  {
    name: 'zero CPU',
    spec: { resources: { cpu: '0' } },
    message: 'spec.resources.cpu in body should match',
    parsed: 'is not an amount of CPU',
  },
  {
    name: 'zero CPU with decimals',
    spec: { resources: { cpu: '0.000' } },
    message: 'should match',
    parsed: 'is not an amount of CPU',
  },
  {
    name: 'negative disk',
    spec: { resources: { disk: -1 } },
    message: 'should be greater than or equal to 1',
    parsed: 'is not a size',
  },
  {
    name: 'half a byte',
    spec: { resources: { disk: 0.5 } },
    message: 'must be of type integer',
    parsed: 'Invalid input',
  },
  // What leaves the sandbox.
  {
    name: 'streams that exceed the log file',
    spec: { output: { maxBytes: '5Mi' } },
    message: 'a run may emit at most 8Mi',
  },
  {
    name: 'streams that exceed it with the default artifacts',
    spec: { output: { maxBytes: '2Mi' }, artifacts: { paths: ['out'] } },
    message: 'a run may emit at most 8Mi',
  },
  {
    name: 'artifacts that exceed it',
    spec: { artifacts: { paths: ['out'], maxBytes: '1000Gi' } },
    message: 'a run may emit at most 8Mi',
  },
  {
    name: 'artifacts outside the working folder',
    spec: { artifacts: { paths: ['/etc/*'] } },
    message: 'must be a relative path without',
  },
  {
    name: 'artifacts above the working folder',
    spec: { artifacts: { paths: ['out/../../x'] } },
    message: 'must be a relative path without',
  },
  {
    name: 'no artifact paths',
    spec: { artifacts: { paths: [] } },
    message: 'should have at least 1 items',
    parsed: 'Too small',
  },
  // Retry, queue, isolation, scoring.
  {
    name: 'too many retries',
    spec: { retry: { limit: 11 } },
    message: 'spec.retry.limit in body should be less than or equal to 10',
    parsed: 'spec.retry.limit: Too big',
  },
  {
    name: 'retry without limit',
    spec: { retry: { on: ['Any'] } },
    message: 'spec.retry.limit: Required value',
    parsed: 'spec.retry.limit: Invalid input',
  },
  {
    name: 'retry on something else',
    spec: { retry: { limit: 1, on: ['Code'] } },
    message: 'Unsupported value: "Code"',
    parsed: 'spec.retry.on[0]: Invalid option',
  },
  { name: 'retry.on twice', spec: { retry: { limit: 1, on: ['Any'], true: ['Any'] } }, message: 'on is given twice' },
  { name: 'a queue that is no DNS label', spec: { queue: 'team/a' }, message: 'must be a DNS label' },
  {
    name: 'a runtime class that is no DNS subdomain',
    spec: { isolation: { runtimeClassName: 'g visor' } },
    message: 'must be a DNS subdomain',
  },
  {
    name: 'an expectation of nothing',
    spec: { expect: { stdout: {} } },
    message: 'set equals, contains, matches or json',
  },
  {
    name: 'a JSON expectation of nothing',
    spec: { expect: { stdout: { json: { path: 'a' } } } },
    message: 'set equals, min or max',
  },
  {
    name: 'a JSON path with spaces',
    spec: { expect: { stdout: { json: { path: 'a b', min: 1 } } } },
    message: 'must be keys and indexes joined by dots',
  },
  {
    name: 'an expression that is not RE2',
    spec: { expect: { stdout: { matches: '(' } } },
    message: 'must be an RE2 regular expression',
    parsed: null,
  },
  {
    name: 'an expression with look-ahead',
    spec: { expect: { stdout: { matches: 'a(?=b)' } } },
    message: 'must be an RE2 regular expression',
    parsed: null,
  },
  {
    name: 'an impossible exit code',
    spec: { expect: { exitCode: 256 } },
    message: 'should be less than or equal to 255',
    parsed: 'spec.expect.exitCode: Too big',
  },
  {
    name: 'a priority out of range',
    spec: { priority: 1_000_001 },
    message: 'should be less than or equal to',
    parsed: 'spec.priority: Too big',
  },
  {
    name: 'a negative time to live',
    spec: { ttlSecondsAfterFinished: -1 },
    message: 'should be greater than or equal to 0',
    parsed: 'spec.ttlSecondsAfterFinished: Too small',
  },
];

/** For each immutable field a first value and another one; the test changes, removes and adds each. */
export const FIELD_VALUES: Readonly<Record<string, readonly [unknown, unknown]>> = {
  runtime: ['python', 'node'],
  image: ['python:3.13', 'python:3.14'],
  command: [['a'], ['b']],
  code: ['print(1)', 'print(2)'],
  files: [files('a'), files('b')],
  args: [['a'], ['b']],
  env: [env('A'), env('B')],
  stdin: ['a', 'b'],
  resources: [{ cpu: '1' }, { cpu: '2' }],
  timeoutSeconds: [1, 2],
  isolation: [{ runtimeClassName: 'a' }, { runtimeClassName: 'b' }],
  output: [{ maxBytes: 1 }, { maxBytes: 2 }],
  artifacts: [{ paths: ['a'] }, { paths: ['b'] }],
  retry: [{ limit: 1 }, { limit: 2 }],
  queue: ['a', 'b'],
  expect: [{ exitCode: 0 }, { exitCode: 1 }],
};
