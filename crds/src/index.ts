export * from './constants.ts';
export * from './matrix.ts';
export * from './models.ts';
export * from './quantity.ts';
export * from './resources.ts';
export { clip } from './schema/fields.ts';
export type { Condition } from './schema/conditions.ts';
export type { EvaluationRuntimeSpec, EvaluationRuntimeStatus } from './schema/evaluation-runtime.ts';
export { evaluationRuntimeSpecSchema, evaluationRuntimeStatusSchema } from './schema/evaluation-runtime.ts';
export type { EvaluationSpec, Expectation, Resources } from './schema/evaluation-spec.ts';
export { IMMUTABLE_SPEC_FIELDS, MUTABLE_SPEC_FIELDS, evaluationSpecSchema } from './schema/evaluation-spec.ts';
export type {
  EvaluationSuiteSpec,
  EvaluationSuiteStatus,
  PassRate,
  SuiteCellStatus,
  SuiteSummary,
} from './schema/evaluation-suite.ts';
export {
  IMMUTABLE_SUITE_FIELDS,
  MUTABLE_SUITE_FIELDS,
  evaluationSuiteSpecSchema,
  evaluationSuiteStatusSchema,
} from './schema/evaluation-suite.ts';
export type { Attempt, EvaluationStatus, Verdict } from './schema/evaluation-status.ts';
export type { SecurityDrillSpec, SecurityDrillStatus } from './schema/security-drill.ts';
export { securityDrillSpecSchema, securityDrillStatusSchema } from './schema/security-drill.ts';
export { evaluationStatusSchema, verdictSchema } from './schema/evaluation-status.ts';

import type { ATTRIBUTIONS, CONDITIONS, CONFIDENCES, PHASES, SUITE_PHASES, VERDICT_CLASSES } from './constants.ts';

export type Phase = (typeof PHASES)[number];
export type SuitePhase = (typeof SUITE_PHASES)[number];
export type VerdictClass = (typeof VERDICT_CLASSES)[number];
export type Attribution = (typeof ATTRIBUTIONS)[number];
export type Confidence = (typeof CONFIDENCES)[number];
export type ConditionType = (typeof CONDITIONS)[number];
