import * as z from 'zod';
import { API_VERSION } from './constants.ts';
import { evaluationRuntimeSpecSchema, evaluationRuntimeStatusSchema } from './schema/evaluation-runtime.ts';
import { evaluationSpecSchema } from './schema/evaluation-spec.ts';
import { evaluationSuiteSpecSchema, evaluationSuiteStatusSchema } from './schema/evaluation-suite.ts';
import { evaluationStatusSchema } from './schema/evaluation-status.ts';
import { securityDrillSpecSchema, securityDrillStatusSchema } from './schema/security-drill.ts';

// Whole resources, as they come over the wire. metadata is the API server's own business and only typed here.

const ownerReferenceSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  name: z.string(),
  uid: z.string(),
});

export const objectMetaSchema = z.looseObject({
  name: z.string(),
  namespace: z.string().optional(),
  uid: z.string().optional(),
  generation: z.number().optional(),
  resourceVersion: z.string().optional(),
  creationTimestamp: z.string().optional(),
  deletionTimestamp: z.string().optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
  finalizers: z.array(z.string()).optional(),
  ownerReferences: z.array(ownerReferenceSchema).optional(),
});

export const evaluationSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Evaluation'),
  metadata: objectMetaSchema,
  spec: evaluationSpecSchema,
  status: evaluationStatusSchema.optional(),
});

export const evaluationRuntimeSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('EvaluationRuntime'),
  metadata: objectMetaSchema,
  spec: evaluationRuntimeSpecSchema,
  status: evaluationRuntimeStatusSchema.optional(),
});

export const evaluationSuiteSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('EvaluationSuite'),
  metadata: objectMetaSchema,
  spec: evaluationSuiteSpecSchema,
  status: evaluationSuiteStatusSchema.optional(),
});

export const securityDrillSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('SecurityDrill'),
  metadata: objectMetaSchema,
  spec: securityDrillSpecSchema,
  status: securityDrillStatusSchema.optional(),
});

export type ObjectMeta = z.infer<typeof objectMetaSchema>;
export type Evaluation = z.infer<typeof evaluationSchema>;
export type EvaluationRuntime = z.infer<typeof evaluationRuntimeSchema>;
export type SecurityDrill = z.infer<typeof securityDrillSchema>;

export type EvaluationSuite = z.infer<typeof evaluationSuiteSchema>;

/** What the API server let through but we cannot read, or what it would refuse: each problem with its path. */
export class InvalidResourceError extends Error {
  override readonly name = 'InvalidResourceError';
  readonly problems: readonly string[];

  constructor(subject: string, problems: readonly string[]) {
    super(`${subject} is invalid: ${problems.join('; ')}`);
    this.problems = problems;
  }
}

/** Reads an Evaluation, with retry.on under its one name whichever way the YAML was written. */
export function parseEvaluation(raw: unknown): Evaluation {
  const evaluation = parse(evaluationSchema, 'Evaluation', raw);
  const { retry } = evaluation.spec;
  if (retry?.true === undefined) return evaluation;
  return { ...evaluation, spec: { ...evaluation.spec, retry: { limit: retry.limit, on: retry.true } } };
}

export const parseEvaluationSuite = (raw: unknown): EvaluationSuite => parse(evaluationSuiteSchema, 'EvaluationSuite', raw);

export const parseEvaluationRuntime = (raw: unknown): EvaluationRuntime =>
  parse(evaluationRuntimeSchema, 'EvaluationRuntime', raw);

export const parseSecurityDrill = (raw: unknown): SecurityDrill => parse(securityDrillSchema, 'SecurityDrill', raw);

function parse<S extends z.ZodType>(schema: S, kind: string, raw: unknown): z.output<S> {
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  const metadata = (raw as { metadata?: { namespace?: string; name?: string } } | null)?.metadata;
  const name = [metadata?.namespace, metadata?.name].filter((part) => typeof part === 'string').join('/');
  throw new InvalidResourceError(name === '' ? kind : `${kind} ${name}`, result.error.issues.map(describeIssue));
}

function describeIssue(issue: { readonly path: readonly PropertyKey[]; readonly message: string }): string {
  let path = '';
  for (const key of issue.path)
    path += typeof key === 'number' ? `[${key}]` : `${path === '' ? '' : '.'}${String(key)}`;
  // Rules of the spec as a whole name their fields themselves.
  return path === '' || path === 'spec' ? issue.message : `${path}: ${issue.message}`;
}
