import { InvalidResourceError, parseEvaluationRuntime } from '@crucible/crds';
import type { EvaluationRuntime } from '@crucible/crds';
import type { KubeObject } from '../kube/index.ts';

export type ParsedRuntime = { readonly runtime: EvaluationRuntime; readonly invalid: undefined } | { readonly runtime: undefined; readonly invalid: string };

export interface Runtimes {
  readonly runtimes: readonly EvaluationRuntime[];
  /** What is wrong with those that cannot be read, by name: an older CRD let them in. */
  readonly unreadableRuntimes: ReadonlyMap<string, string>;
}

/** A cache gives the same object until it changes, and each decision looks at all of them. */
const known = new WeakMap<KubeObject, ParsedRuntime>();

export function parsedRuntime(raw: KubeObject): ParsedRuntime {
  const parsed = known.get(raw) ?? parse(raw);
  known.set(raw, parsed);
  return parsed;
}

export function readRuntimes(raws: readonly KubeObject[]): Runtimes {
  const runtimes: EvaluationRuntime[] = [];
  const unreadableRuntimes = new Map<string, string>();
  for (const raw of raws) {
    const { runtime, invalid } = parsedRuntime(raw);
    if (runtime !== undefined) runtimes.push(runtime);
    else unreadableRuntimes.set(raw.metadata.name ?? '', invalid);
  }
  return { runtimes, unreadableRuntimes };
}

function parse(raw: KubeObject): ParsedRuntime {
  try {
    return { runtime: parseEvaluationRuntime({ ...raw, status: undefined }), invalid: undefined };
  } catch (error) {
    if (!(error instanceof InvalidResourceError)) throw error;
    return { runtime: undefined, invalid: `The spec cannot be read: ${error.problems.join('; ')}.` };
  }
}
