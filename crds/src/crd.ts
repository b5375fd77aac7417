import type { z } from 'zod';
import { GROUP, VERSION } from './constants.ts';
import { evaluationRuntimeSpecSchema, evaluationRuntimeStatusSchema } from './schema/evaluation-runtime.ts';
import { evaluationSpecSchema } from './schema/evaluation-spec.ts';
import { evaluationSuiteSpecSchema, evaluationSuiteStatusSchema } from './schema/evaluation-suite.ts';
import { evaluationStatusSchema } from './schema/evaluation-status.ts';
import { securityDrillSpecSchema, securityDrillStatusSchema } from './schema/security-drill.ts';
import { toStructuralSchema } from './structural.ts';

interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly jsonPath: string;
  readonly description?: string;
  /** 1: with `-o wide` only. */
  readonly priority?: 1;
}

export interface ResourceDefinition {
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly scope: 'Namespaced' | 'Cluster';
  readonly description: string;
  readonly spec: z.ZodType;
  readonly status: z.ZodType;
  readonly columns: readonly PrinterColumn[];
}

const AGE: PrinterColumn = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

export const RESOURCE_DEFINITIONS: readonly ResourceDefinition[] = [
  {
    kind: 'Evaluation',
    plural: 'evaluations',
    singular: 'evaluation',
    shortNames: ['eval', 'evals'],
    scope: 'Namespaced',
    description: 'Untrusted code that is run once in a sandbox, with everything that came out of it and a verdict.',
    spec: evaluationSpecSchema,
    status: evaluationStatusSchema,
    columns: [
      { name: 'Phase', type: 'string', jsonPath: '.status.phase' },
      { name: 'Verdict', type: 'string', jsonPath: '.status.verdict.class' },
      {
        name: 'Exit',
        type: 'integer',
        jsonPath: '.status.exitCode',
        description: 'Exit code of the accepted attempt.',
      },
      {
        name: 'Passed',
        type: 'string',
        jsonPath: '.status.conditions[?(@.type=="Passed")].status',
        description: 'Whether spec.expect holds.',
      },
      { name: 'Attempts', type: 'integer', jsonPath: '.status.attempts[-1:].number' },
      { name: 'Duration', type: 'string', jsonPath: '.status.duration' },
      AGE,
      { name: 'Runtime', type: 'string', jsonPath: '.spec.runtime', priority: 1 },
      { name: 'Message', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].message', priority: 1 },
    ],
  },
  {
    kind: 'EvaluationSuite',
    plural: 'evaluationsuites',
    singular: 'evaluationsuite',
    shortNames: ['evalsuite'],
    scope: 'Namespaced',
    description: 'One Evaluation for every cell of a matrix, several times if wanted, and how many of them passed.',
    spec: evaluationSuiteSpecSchema,
    status: evaluationSuiteStatusSchema,
    columns: [
      { name: 'Phase', type: 'string', jsonPath: '.status.phase' },
      { name: 'Total', type: 'integer', jsonPath: '.status.summary.total' },
      { name: 'Passed', type: 'integer', jsonPath: '.status.summary.passed' },
      { name: 'Failed', type: 'integer', jsonPath: '.status.summary.failed' },
      {
        name: 'Infra',
        type: 'integer',
        jsonPath: '.status.summary.infrastructureFailed',
        description: 'Runs that the infrastructure broke.',
      },
      {
        name: 'Pass rate',
        type: 'string',
        jsonPath: '.status.summary.passRate',
        description: 'Of the runs that passed or failed, with its 95 % Wilson interval.',
      },
      AGE,
      { name: 'Running', type: 'integer', jsonPath: '.status.summary.running', priority: 1 },
      { name: 'Duration', type: 'string', jsonPath: '.status.duration', priority: 1 },
      { name: 'Message', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].message', priority: 1 },
    ],
  },
  {
    kind: 'EvaluationRuntime',
    plural: 'evaluationruntimes',
    singular: 'evaluationruntime',
    shortNames: ['evalrt'],
    scope: 'Cluster',
    description: 'What evaluations run in: an image, how it is given the code, and what an Evaluation may ask for.',
    spec: evaluationRuntimeSpecSchema,
    status: evaluationRuntimeStatusSchema,
    columns: [
      { name: 'Image', type: 'string', jsonPath: '.spec.image' },
      { name: 'Entry', type: 'string', jsonPath: '.spec.entryFile' },
      { name: 'RuntimeClass', type: 'string', jsonPath: '.spec.runtimeClassName' },
      {
        name: 'Ready',
        type: 'string',
        jsonPath: '.status.conditions[?(@.type=="Ready")].status',
        description: 'Whether evaluations can use it.',
      },
      {
        name: 'Pinned',
        type: 'string',
        jsonPath: '.status.conditions[?(@.type=="ImagePinned")].status',
        description: 'Whether its image is named by digest.',
      },
      AGE,
      { name: 'Message', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].message', priority: 1 },
    ],
  },
  {
    kind: 'SecurityDrill',
    plural: 'securitydrills',
    singular: 'securitydrill',
    shortNames: ['drill', 'drills'],
    scope: 'Cluster',
    description: 'An attack on sandboxes of this cluster, rule by rule of the sandbox contract, and what it found.',
    spec: securityDrillSpecSchema,
    status: securityDrillStatusSchema,
    columns: [
      { name: 'Phase', type: 'string', jsonPath: '.status.phase' },
      { name: 'Held', type: 'integer', jsonPath: '.status.held' },
      { name: 'Broken', type: 'integer', jsonPath: '.status.broken' },
      { name: 'Open', type: 'integer', jsonPath: '.status.open' },
      { name: 'Kind', type: 'string', jsonPath: '.spec.kind' },
      AGE,
      {
        name: 'Message',
        type: 'string',
        jsonPath: '.status.conditions[?(@.type=="Finished")].message',
        priority: 1,
      },
    ],
  },
];

// The name becomes a label value on the Job and its pods, and part of their names.
const NAME_RULE = {
  rule: "self.metadata.name.size() <= 63 && self.metadata.name.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
  message:
    'metadata.name must be a DNS label: at most 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit',
};

/** The CustomResourceDefinition, as the API server takes it. */
export function customResourceDefinition(definition: ResourceDefinition): object {
  const { kind, plural, singular, shortNames, scope, columns } = definition;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${plural}.${GROUP}`,
      labels: { 'app.kubernetes.io/name': 'crucible', 'app.kubernetes.io/part-of': 'crucible' },
    },
    spec: {
      group: GROUP,
      scope,
      names: { kind, listKind: `${kind}List`, plural, singular, shortNames, categories: ['crucible'] },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: columns,
          schema: { openAPIV3Schema: rootSchema(definition) },
        },
      ],
    },
  };
}

function rootSchema({ kind, description, spec, status }: ResourceDefinition): object {
  return {
    type: 'object',
    description,
    required: ['spec'],
    'x-kubernetes-validations': [NAME_RULE],
    properties: {
      apiVersion: { type: 'string', description: 'Version of the schema of this resource.' },
      kind: { type: 'string', description: 'Kind of this resource.' },
      metadata: { type: 'object' },
      spec: toStructuralSchema(spec, `${kind}.spec`),
      status: toStructuralSchema(status, `${kind}.status`),
    },
  };
}
