import { posix } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CONDITIONS, LIMITS } from './constants.ts';
import { EvaluationModel, EvaluationRuntimeModel } from './models.ts';
import { InvalidResourceError, parseEvaluation, parseEvaluationRuntime } from './resources.ts';
import { celString, clip, codePoints, relativePath, text } from './schema/fields.ts';
import { aRuntime, anEvaluation } from './testing/builders.ts';
import { ACCEPTED, REJECTED } from './testing/samples.ts';

// The same samples go to a real API server in crds.int.test.ts: both must agree.
describe('our parser agrees with the API server that', () => {
  test.each(ACCEPTED)('$name is fine', ({ spec }) => {
    const { retry: parsed, ...rest } = parseEvaluation(anEvaluation(spec)).spec;
    const { retry: written, ...expected } = anEvaluation(spec).spec;
    expect(rest).toEqual(expected);
    expect(parsed?.on).toEqual(written?.on ?? written?.true);
  });

  test.each(REJECTED.filter(({ parsed }) => parsed !== null))('$name is not', ({ spec, message, parsed }) => {
    expect(() => parseEvaluation(anEvaluation(spec))).toThrow(parsed ?? message);
  });
});

test('retry.on has one name for readers, whichever way YAML was read', () => {
  expect(parseEvaluation(anEvaluation({ retry: { limit: 3, true: ['Any'] } })).spec.retry).toEqual({
    limit: 3,
    on: ['Any'],
  });
});

describe('an error', () => {
  test('names the resource and every problem with its path', () => {
    const raw = {
      ...anEvaluation(),
      spec: { runtime: 'python', code: 'x', env: [{ name: '1', value: 2 }], cancel: 'yes' },
    };
    try {
      parseEvaluation(raw);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(InvalidResourceError);
      const { message, problems } = error as InvalidResourceError;
      expect(message).toMatch(/^Evaluation evals\/hello is invalid: /);
      expect(problems.map((problem) => problem.split(':')[0])).toEqual([
        'spec.env[0].name',
        'spec.env[0].value',
        'spec.cancel',
      ]);
    }
  });

  test.each([null, undefined, 7, 'x', [], {}, { metadata: null }])('is readable for %s too', (raw) => {
    expect(() => parseEvaluation(raw)).toThrow(/^Evaluation is invalid: /);
    expect(() => parseEvaluationRuntime(raw)).toThrow(/^EvaluationRuntime is invalid: /);
  });

  test('says when it is another kind', () => {
    expect(() => parseEvaluation(aRuntime())).toThrow('kind');
  });
});

test('fields of a newer version are ignored, not refused', () => {
  const raw = anEvaluation();
  expect(
    parseEvaluation({ ...raw, spec: { ...raw.spec, later: 1 }, status: { observedGeneration: 1, later: 2 } }).status,
  ).toEqual({ observedGeneration: 1 });
});

test('a status at its bounds is read and stays under 16 KiB where it matters', () => {
  const at = '2026-01-01T00:00:00Z';
  const status = {
    conditions: CONDITIONS.map((type) => ({ type, status: 'True', reason: 'R', message: 'm', lastTransitionTime: at })),
    attempts: Array.from({ length: LIMITS.retries + 1 }, (_, index) => ({
      number: index + 1,
      verdict: {
        class: 'NonZeroExit',
        attributableTo: 'Code',
        confidence: 'Confirmed',
        message: 'x'.repeat(LIMITS.attemptMessageCharacters),
      },
    })),
    output: { tail: 'x'.repeat(LIMITS.tailCharacters) },
  };
  expect(parseEvaluation({ ...anEvaluation(), status }).status).toEqual(status);
  expect(JSON.stringify(status).length).toBeLessThan(16 * 1024);
});

describe('models', () => {
  test('fill in what kind they are, drop what is undefined and validate', () => {
    const { metadata, spec } = anEvaluation();
    const model = new EvaluationModel({ metadata, spec: { ...spec, stdin: undefined } });
    expect(model.toJSON()).toEqual({ apiVersion: 'crucible.dev/v1alpha1', kind: 'Evaluation', metadata, spec });
    expect(() => model.validate()).not.toThrow();
    expect(EvaluationModel.is(model)).toBe(true);
    expect(EvaluationRuntimeModel.is(model)).toBe(false);
  });

  test('refuse what the API server would', () => {
    expect(() => new EvaluationModel({ ...anEvaluation(), spec: { runtime: 'python' } }).validate()).toThrow(
      'spec.runtime needs spec.code',
    );
    expect(() => new EvaluationRuntimeModel({ ...aRuntime({ entryFile: '/x' }) }).validate()).toThrow(
      'spec.entryFile: must be a relative path',
    );
  });
});

describe('properties', () => {
  test('an accepted path stays inside its folder', () => {
    const schema = relativePath('a');
    const piece = fc.constantFrom('.', '..', '/', '\\', 'a', 'b.c', '\u0000', '\n', '...', ' ', 'é');
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join('')),
        (path) => {
          fc.pre(schema.safeParse(path).success);
          expect(posix.normalize(path)).toBe(path);
          expect(posix.resolve('/crucible/code', path)).toBe(`/crucible/code/${path}`);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('lengths are counted as the API server counts them', () => {
    const schema = text({ max: 5 });
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 10 }), (value) => {
        expect(schema.safeParse(value).success).toBe(codePoints(value) <= 5);
      }),
    );
  });

  test('what is clipped fits, and what fits is not clipped', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 20 }), fc.integer({ min: 1, max: 20 }), (value, max) => {
        const clipped = clip(value, max);
        expect(codePoints(clipped)).toBeLessThanOrEqual(max);
        if (codePoints(value) <= max) expect(clipped).toBe(value);
      }),
    );
  });
});

test('CEL strings cannot be broken out of', () => {
  expect(celString('a\\b')).toBe("r'a\\b'");
  expect(() => celString("a'b")).toThrow('cannot quote');
});
