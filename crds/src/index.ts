export * from './constants.ts';
export * from './models.ts';
export * from './quantity.ts';
export * from './resources.ts';
export { clip } from './schema/fields.ts';
export type { Condition } from './schema/conditions.ts';
export type { EvaluationRuntimeSpec, EvaluationRuntimeStatus } from './schema/evaluation-runtime.ts';
export { evaluationRuntimeSpecSchema, evaluationRuntimeStatusSchema } from './schema/evaluation-runtime.ts';
export type { EvaluationSpec, Expectation, Resources } from './schema/evaluation-spec.ts';
export { IMMUTABLE_SPEC_FIELDS, MUTABLE_SPEC_FIELDS, evaluationSpecSchema } from './schema/evaluation-spec.ts';
export type { Attempt, EvaluationStatus, Verdict } from './schema/evaluation-status.ts';
export { evaluationStatusSchema, verdictSchema } from './schema/evaluation-status.ts';

import type { ATTRIBUTIONS, CONDITIONS, CONFIDENCES, PHASES, VERDICT_CLASSES } from './constants.ts';

export type Phase = (typeof PHASES)[number];
export type VerdictClass = (typeof VERDICT_CLASSES)[number];
export type Attribution = (typeof ATTRIBUTIONS)[number];
export type Confidence = (typeof CONFIDENCES)[number];
export type ConditionType = (typeof CONDITIONS)[number];
