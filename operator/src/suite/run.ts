import { createHash } from 'node:crypto';
import { API_VERSION, LABELS, expandArgument } from '@crucible/crds';
import type { Cell, Evaluation, EvaluationSuite } from '@crucible/crds';
import type { RunPlace } from '@crucible/storage';

const MAX_NAME = 63;

/**
 * `<suite>-<8 hex of its uid>-<cell>-<sample>`: the same for every process at every time, so that a second try after a
 * crash meets the first one's Evaluation; and different when a suite's name is used again.
 */
export function runName(suite: { name: string; uid: string }, { cell, sample }: RunPlace): string {
  const hash = createHash('sha256').update(suite.uid).digest('hex').slice(0, 8);
  const suffix = `-${hash}-${cell}-${sample}`;
  return suite.name.slice(0, MAX_NAME - suffix.length).replace(/-+$/, '') + suffix;
}

/** Every run of a suite, cell by cell: neighbours in a list are samples of the same thing. */
export function placesOf(cells: number, samples: number): RunPlace[] {
  return Array.from({ length: cells * samples }, (_, index) => ({
    cell: Math.floor(index / samples) + 1,
    sample: (index % samples) + 1,
  }));
}

/**
 * The Evaluation of one run. Parameters are environment variables and whole or partial arguments, never source text: a
 * value cannot change what the program is. The owner reference is for the garbage collector alone, and says nothing about
 * blocking: a suite's own finalizer keeps it until its runs have ended.
 */
export function buildRun(suite: EvaluationSuite, place: RunPlace, cell: Cell): Evaluation {
  const { name, namespace, uid = '' } = suite.metadata;
  const { spec, metadata } = suite.spec.template;
  const env = [...(spec.env ?? []), ...cell.map(([variable, value]) => ({ name: variable, value }))];
  return {
    apiVersion: API_VERSION,
    kind: 'Evaluation',
    metadata: {
      name: runName({ name, uid }, place),
      namespace,
      labels: {
        ...metadata?.labels,
        [LABELS.suite]: name,
        [LABELS.suiteUid]: uid,
        [LABELS.suiteCell]: String(place.cell),
        [LABELS.suiteSample]: String(place.sample),
      },
      ownerReferences: [{ apiVersion: API_VERSION, kind: 'EvaluationSuite', name, uid, controller: true }],
    },
    spec: {
      ...spec,
      ...(env.length > 0 && { env }),
      ...(spec.args !== undefined && { args: spec.args.map((argument) => expandArgument(argument, cell)) }),
    },
  };
}
