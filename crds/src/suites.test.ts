import { describe, expect, test } from 'vitest';
import { EvaluationSuiteModel } from './models.ts';
import { parseEvaluationSuite } from './resources.ts';
import { aSuite } from './testing/builders.ts';
import { ACCEPTED_SUITES, REJECTED_SUITES } from './testing/suite-samples.ts';

// The same samples go to a real API server in suites.int.test.ts: both must agree.
describe('our parser agrees with the API server that', () => {
  test.each(ACCEPTED_SUITES)('$name is fine', ({ spec }) => {
    expect(parseEvaluationSuite(aSuite(spec)).spec).toEqual(aSuite(spec).spec);
  });

  test.each(REJECTED_SUITES)('$name is not', ({ spec, message, parsed }) => {
    expect(() => parseEvaluationSuite(aSuite(spec))).toThrow(parsed ?? message);
  });
});

test('the model builds and validates one', () => {
  const { metadata, spec } = aSuite();
  expect(new EvaluationSuiteModel({ metadata, spec }).toJSON()).toEqual(aSuite());
  expect(EvaluationSuiteModel.is(aSuite())).toBe(true);
  expect(() => new EvaluationSuiteModel({ metadata, spec: { ...spec, samples: 0 } }).validate()).toThrow(/samples/);
});
