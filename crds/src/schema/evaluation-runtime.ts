import * as z from 'zod';
import { parseBytes, parseCpu } from '../quantity.ts';
import { conditionsSchema, observedGenerationSchema } from './conditions.ts';
import { argument, dnsSubdomain, environment, imageReference, relativePath, withRules } from './fields.ts';
import type { Rule } from './fields.ts';
import { resourcesSchema, timeoutSeconds } from './evaluation-spec.ts';

const boundsSchema = (
  what: string,
): z.ZodObject<{
  resources: z.ZodOptional<typeof resourcesSchema>;
  timeoutSeconds: z.ZodOptional<z.ZodInt>;
}> =>
  z.object({
    resources: resourcesSchema.optional().describe(`Resources ${what}.`),
    timeoutSeconds: timeoutSeconds().optional().describe(`Run time ${what}.`),
  });

const shape = {
  image: imageReference().describe('Container image of the runtime.'),
  command: z
    .array(argument(4096))
    .min(1)
    .max(64)
    .describe('Program and first arguments; the path of the entry file and spec.args of the Evaluation are appended.'),
  entryFile: relativePath('main.py').describe(
    'Name under which the code appears in /crucible/code, for example main.py.',
  ),
  launcher: z
    .enum(['Included', 'Injected'])
    .default('Injected')
    .describe('Included: the image carries /crucible/bin/launcher. Injected: an init container copies it in.'),
  runtimeClassName: dnsSubdomain()
    .optional()
    .describe('RuntimeClass that every evaluation of this runtime uses; an Evaluation cannot choose another.'),
  env: environment().optional().describe('Environment variables of the code; those of the Evaluation win.'),
  default: boundsSchema('when the Evaluation says nothing')
    .optional()
    .describe('What an Evaluation gets that does not ask.'),
  maximum: boundsSchema('at most').optional().describe('What an Evaluation may ask for. Unset: no limit here.'),
};

type RuntimeSpec = z.infer<z.ZodObject<typeof shape>>;

const exceeds = (kind: 'cpu' | 'memory' | 'disk', spec: RuntimeSpec): boolean => {
  const wanted = spec.default?.resources?.[kind];
  const allowed = spec.maximum?.resources?.[kind];
  if (wanted === undefined || allowed === undefined) return false;
  const parse = kind === 'cpu' ? parseCpu : parseBytes;
  try {
    return parse(wanted) > parse(allowed);
  } catch {
    return false; // reported at the field itself
  }
};

const defined = (field: string): string => `has(self.${field}) && has(self.${field}.resources)`;

const rules: readonly Rule<RuntimeSpec>[] = [
  ...(['cpu', 'memory', 'disk'] as const).map((kind): Rule<RuntimeSpec> => {
    const both = ['default', 'maximum']
      .map((field) => `${defined(field)} && has(self.${field}.resources.${kind})`)
      .join(' && ');
    const value = (field: string): string => `quantity(string(self.${field}.resources.${kind}))`;
    return {
      cel: `!(${both}) || !${value('default')}.isGreaterThan(${value('maximum')})`,
      message: `spec.default.resources.${kind} may not be more than spec.maximum.resources.${kind}`,
      check: (spec) => !exceeds(kind, spec),
    };
  }),
  {
    cel: '!(has(self.default) && has(self.default.timeoutSeconds) && has(self.maximum) && has(self.maximum.timeoutSeconds)) || self.default.timeoutSeconds <= self.maximum.timeoutSeconds',
    message: 'spec.default.timeoutSeconds may not be more than spec.maximum.timeoutSeconds',
    check: (spec) => (spec.default?.timeoutSeconds ?? 0) <= (spec.maximum?.timeoutSeconds ?? Number.POSITIVE_INFINITY),
  },
];

export const evaluationRuntimeSpecSchema = withRules(z.object(shape), rules).describe(
  'What evaluations of this runtime run in. Written by the platform team.',
);

export const evaluationRuntimeStatusSchema = z
  .object({ observedGeneration: observedGenerationSchema, conditions: conditionsSchema.optional() })
  .meta({ default: { observedGeneration: -1 } })
  .describe('Whether evaluations can use it. Written by the operator only.');

export type EvaluationRuntimeSpec = z.infer<typeof evaluationRuntimeSpecSchema>;
export type EvaluationRuntimeStatus = z.infer<typeof evaluationRuntimeStatusSchema>;
