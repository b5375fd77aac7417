import { clip, isOfDrill } from '@crucible/crds';
import type { Condition, EvaluationRuntime, EvaluationRuntimeStatus } from '@crucible/crds';
import type { Claim } from '../evaluation/actions.ts';
import { time } from '../evaluation/view.ts';

export interface RuntimeFacts {
  /** The parsed resource, or what is wrong with it. */
  readonly runtime: EvaluationRuntime | undefined;
  readonly invalid: string | undefined;
  readonly runtimeClasses: readonly string[];
  /** Of the installation, for a runtime that names none. */
  readonly defaultRuntimeClass: string | undefined;
}

type Claims = Readonly<Record<string, Claim>>;

/** Can evaluations use it, and is its image always the same one? Pure. */
export function judgeRuntime(facts: RuntimeFacts): Claims {
  const { runtime } = facts;
  const problem = problemOf(facts);
  const forDrill = runtime !== undefined && isOfDrill(runtime.metadata);
  const ready: Claims =
    problem === undefined
      ? { Ready: { status: 'True', reason: 'Usable', message: `${forDrill ? 'The drill' : 'Evaluations'} can use it.` } }
      : { Ready: { status: 'False', ...problem }, Stalled: { status: 'True', ...problem } };
  return runtime === undefined ? ready : { ...ready, ImagePinned: pinned(runtime.spec.image) };
}

function problemOf({ runtime, invalid, runtimeClasses, defaultRuntimeClass }: RuntimeFacts): { reason: string; message: string } | undefined {
  if (runtime === undefined) return { reason: 'InvalidSpec', message: clip(invalid ?? 'The spec cannot be read.', 1024) };
  const own = runtime.spec.runtimeClassName;
  const wanted = own ?? defaultRuntimeClass;
  if (wanted === undefined || runtimeClasses.includes(wanted)) return undefined;
  const known = [...runtimeClasses].sort().slice(0, 20).join(', ') || 'none';
  const whose = own === undefined ? 'the default of this installation' : 'spec.runtimeClassName';
  const message = `The cluster has no RuntimeClass "${wanted}", which is ${whose} (it has: ${known}), so evaluations are refused. Have it installed, or name another one.`;
  return { reason: 'RuntimeClassNotFound', message: clip(message, 1024) };
}

function pinned(image: string): Claim {
  if (/@sha256:[0-9a-f]{64}$/.test(image))
    return { status: 'True', reason: 'ByDigest', message: 'The image is named by its digest.' };
  const message = 'The image is named by a tag, so it may be another one tomorrow. Name it by digest (image@sha256:…) to run the same one always.';
  return { status: 'False', reason: 'ByTag', message };
}

/** Conditions keep the time of their last transition. Pure. */
export function buildRuntimeStatus(
  claims: Claims,
  generation: number,
  previous: EvaluationRuntimeStatus | undefined,
  now: number,
): EvaluationRuntimeStatus {
  const conditions = Object.entries(claims).map(([type, claim]): Condition => {
    const before = previous?.conditions?.find((candidate) => candidate.type === type);
    const kept = before !== undefined && before.status === claim.status;
    const lastTransitionTime = kept ? before.lastTransitionTime : time(new Date(now));
    return { type, observedGeneration: generation, lastTransitionTime, ...claim };
  });
  return { observedGeneration: generation, conditions };
}
