import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { effectiveSpec } from './effective.ts';
import type { EffectiveSpec, InstallationDefaults } from './effective.ts';
import type { EvaluationRuntimeSpec } from './schema/evaluation-runtime.ts';
import type { EvaluationSpec } from './schema/evaluation-spec.ts';
import { aRuntime, anEvaluation } from './testing/builders.ts';

const merge = (
  spec: Partial<EvaluationSpec>,
  runtime?: Partial<EvaluationRuntimeSpec> | 'none',
  installation?: InstallationDefaults,
) => effectiveSpec(anEvaluation(spec).spec, runtime === 'none' ? undefined : aRuntime(runtime).spec, installation);

function accepted(...args: Parameters<typeof merge>): EffectiveSpec {
  const result = merge(...args);
  if (!result.ok) throw new Error(result.violations.join('; '));
  return result.spec;
}

function violations(...args: Parameters<typeof merge>): readonly string[] {
  const result = merge(...args);
  return result.ok ? [] : result.violations;
}

const byImage = { runtime: undefined, code: undefined, image: 'i', command: ['c', '-x'] };

test('defaults fill in everything that was not said', () => {
  expect(accepted({})).toEqual({
    image: 'crucible/runtime-python:test',
    command: ['/usr/bin/python3', '/crucible/code/main.py'],
    launcher: 'Included',
    files: [{ path: 'main.py', content: 'print("hello")' }],
    env: {},
    resources: { cpuMilli: 1000, memoryBytes: 256 * 2 ** 20, diskBytes: 64 * 2 ** 20 },
    timeoutSeconds: 60,
    output: { maxBytes: 2 ** 20 },
    retry: { limit: 0, on: ['Infrastructure'] },
    priority: 0,
  });
});

test('the Evaluation comes before the runtime, the runtime before the built-in values', () => {
  const runtime = {
    default: { resources: { cpu: '250m', memory: '1Gi' }, timeoutSeconds: 30 },
    env: [
      { name: 'A', value: '1' },
      { name: 'B', value: '1' },
    ],
  };
  const { resources, timeoutSeconds, env } = accepted(
    { resources: { cpu: '2' }, env: [{ name: 'B', value: '2' }] },
    runtime,
  );
  expect(resources).toEqual({ cpuMilli: 2000, memoryBytes: 2 ** 30, diskBytes: 64 * 2 ** 20 });
  expect(timeoutSeconds).toBe(30);
  expect(env).toEqual({ A: '1', B: '2' });
});

test('the whole program is assembled', () => {
  const spec = {
    args: ['a', ''],
    files: [{ path: 'd/x', content: 'y' }],
    stdin: '',
    artifacts: { paths: ['out'] },
    queue: 'q',
    expect: { stdout: { contains: 'x' } },
  };
  expect(accepted({ ...spec, retry: { limit: 1, true: ['Any'] } })).toMatchObject({
    command: ['/usr/bin/python3', '/crucible/code/main.py', 'a', ''],
    files: [{ path: 'main.py' }, { path: 'd/x', content: 'y' }],
    stdin: '',
    artifacts: { paths: ['out'], maxBytes: 4 * 2 ** 20, maxFiles: 1000 },
    retry: { limit: 1, on: ['Any'] },
    queue: 'q',
    expect: { exitCode: 0, stdout: { contains: 'x' } },
  });
});

test('an image of the user is injected with the launcher and keeps its command', () => {
  expect(accepted({ ...byImage, args: ['y'] }, 'none')).toMatchObject({
    image: 'i',
    command: ['c', '-x', 'y'],
    launcher: 'Injected',
    files: [],
  });
  expect(accepted({ ...byImage, code: 'z' }, 'none').files).toEqual([{ path: 'main', content: 'z' }]);
});

describe('the RuntimeClass', () => {
  const installation = { runtimeClassName: 'installed' };
  const isolation = { runtimeClassName: 'asked' };
  test.each([
    ['is absent when nobody names one', {}, {}, undefined, undefined],
    ["is the installation's default", {}, {}, installation, 'installed'],
    ["is the Evaluation's", { isolation }, {}, installation, 'asked'],
    ["is the runtime's", {}, { runtimeClassName: 'always' }, installation, 'always'],
  ])('%s', (_, spec, runtime, defaults, expected) =>
    expect(accepted(spec, runtime, defaults).runtimeClassName).toBe(expected),
  );

  test("cannot be another one than the runtime's", () => {
    expect(violations({ isolation }, { runtimeClassName: 'always' })).toEqual([
      'spec.isolation.runtimeClassName is asked, but runtime python always uses always: leave it out',
    ]);
    expect(violations({ isolation }, { runtimeClassName: 'asked' })).toEqual([]);
  });
});

describe('maxima', () => {
  const maximum = { resources: { cpu: '500m', memory: '128Mi', disk: '32Mi' }, timeoutSeconds: 10 };

  test('refuse what is asked, each with its limit', () => {
    const asked = { resources: { cpu: '1', memory: '129Mi', disk: '33Mi' }, timeoutSeconds: 11 };
    expect(violations(asked, { maximum })).toEqual([
      'spec.resources.cpu is 1, more than the 500m that are allowed: lower it',
      'spec.resources.memory is 129Mi, more than the 128Mi that are allowed: lower it',
      'spec.resources.disk is 33Mi, more than the 32Mi that are allowed: lower it',
      'spec.timeoutSeconds is 11, more than the 10 that are allowed: lower it',
    ]);
  });

  test('lower what nobody asked for', () => {
    expect(accepted({}, { maximum })).toMatchObject({
      resources: { cpuMilli: 500, memoryBytes: 128 * 2 ** 20, diskBytes: 32 * 2 ** 20 },
      timeoutSeconds: 10,
    });
  });

  test('of the installation hold for images too', () => {
    expect(violations({ ...byImage, timeoutSeconds: 11 }, 'none', { maximum })).toEqual([
      'spec.timeoutSeconds is 11, more than the 10 that are allowed: lower it',
    ]);
  });

  test('are never exceeded, and are only ever blamed on the Evaluation', () => {
    const size = fc.option(fc.integer({ min: 1, max: 100 }), { nil: undefined });
    const resources = fc.record({ cpu: size, memory: size, disk: size });
    fc.assert(
      fc.property(resources, resources, resources, resources, (asked, fallback, maximum, installed) => {
        const result = merge(
          { resources: asked },
          { default: { resources: fallback }, maximum: { resources: maximum } },
          { maximum: { resources: installed } },
        );
        const exceeded = (['cpu', 'memory', 'disk'] as const).some(
          (kind) => (asked[kind] ?? 0) > Math.min(maximum[kind] ?? Infinity, installed[kind] ?? Infinity),
        );
        expect(result.ok).toBe(!exceeded);
        if (result.ok)
          expect(result.spec.resources.diskBytes).toBeLessThanOrEqual(
            Math.min(maximum.disk ?? Infinity, installed.disk ?? Infinity),
          );
      }),
    );
  });
});

test.each([['main.py'], ['main.py/x']])('a file %s may not take the place of the code', (path) => {
  expect(violations({ files: [{ path, content: '' }] })).toEqual([
    `spec.files has ${path}, which collides with the entry file main.py that holds spec.code: rename it`,
  ]);
});

test('a file may not be a folder of the entry file', () => {
  expect(violations({ files: [{ path: 'src', content: '' }] }, { entryFile: 'src/main.py' })).toHaveLength(1);
  expect(violations({ files: [{ path: 'src/other.py', content: '' }] }, { entryFile: 'src/main.py' })).toEqual([]);
});
