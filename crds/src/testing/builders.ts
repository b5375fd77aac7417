import { API_VERSION } from '../constants.ts';
import type { Evaluation, EvaluationRuntime, EvaluationSuite, ObjectMeta } from '../resources.ts';
import type { EvaluationRuntimeSpec } from '../schema/evaluation-runtime.ts';
import type { EvaluationSuiteSpec } from '../schema/evaluation-suite.ts';
import type { EvaluationSpec } from '../schema/evaluation-spec.ts';

/** The smallest valid Evaluation, with what a test cares about on top; undefined removes a field. */
export function anEvaluation(spec: Partial<EvaluationSpec> = {}, metadata: Partial<ObjectMeta> = {}): Evaluation {
  return {
    apiVersion: API_VERSION,
    kind: 'Evaluation',
    metadata: { name: 'hello', namespace: 'evals', ...metadata } as ObjectMeta,
    spec: withoutUndefined({ runtime: 'python', code: 'print("hello")', ...spec }),
  };
}

export function aRuntime(
  spec: Partial<EvaluationRuntimeSpec> = {},
  metadata: Partial<ObjectMeta> = {},
): EvaluationRuntime {
  return {
    apiVersion: API_VERSION,
    kind: 'EvaluationRuntime',
    metadata: { name: 'python', ...metadata } as ObjectMeta,
    spec: withoutUndefined({
      image: 'crucible/runtime-python:test',
      command: ['/usr/bin/python3'],
      entryFile: 'main.py',
      launcher: 'Included' as const,
      ...spec,
    }),
  };
}

export function aSuite(spec: Partial<EvaluationSuiteSpec> = {}, metadata: Partial<ObjectMeta> = {}): EvaluationSuite {
  const template = { spec: { runtime: 'python', code: 'print("hello")' } };
  return {
    apiVersion: API_VERSION,
    kind: 'EvaluationSuite',
    metadata: { name: 'sums', namespace: 'evals', ...metadata } as ObjectMeta,
    spec: withoutUndefined({ template, ...spec }),
  };
}

function withoutUndefined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}
