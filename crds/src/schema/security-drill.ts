import * as z from 'zod';
import { conditionsSchema, observedGenerationSchema } from './conditions.ts';
import { count, dnsSubdomain, text, timestamp, withRules } from './fields.ts';

const OUTCOMES = ['held', 'broken', 'open'] as const;

const specShape = {
  runtimeClassNames: z
    .array(dnsSubdomain())
    .max(8)
    .optional()
    .describe(
      'RuntimeClasses to drill. Neither this nor defaultRuntime: every class of the cluster, and its default runtime.',
    ),
  defaultRuntime: z
    .boolean()
    .optional()
    .describe('Drill what runs when no RuntimeClass is named. True when runtimeClassNames is unset.'),
  kind: z
    .enum(['Full', 'Quick'])
    .default('Full')
    .describe('Full: every attack. Quick: those that decide about admission.'),
};

export const securityDrillSpecSchema = withRules(
  z.object(specShape),
  [],
  [{ rule: 'self == oldSelf', message: 'spec cannot be changed: create another SecurityDrill' }],
).describe('An attack on sandboxes of this cluster, on demand.');

const outcome = () => z.enum(OUTCOMES);
const int32 = () => count().meta({ format: 'int32' });

const ruleSchema = z.object({
  rule: z.int().min(1).max(99).meta({ format: 'int32' }).describe('Of the sandbox contract, docs/drill.md.'),
  title: text({ max: 128 }).describe('What the rule says.'),
  outcome: outcome().describe('held, broken, or open: neither could be shown.'),
  evidence: text({ max: 512 }).describe('What was seen. Partly printed by a sandbox: text, never to be interpreted.'),
});

const classSchema = z.object({
  runtimeClassName: text({ max: 253 }).describe('Empty: the cluster’s default runtime.'),
  drillId: text({ max: 36 }).describe('In the record.'),
  held: int32().describe('Rules that hold.'),
  broken: int32().describe('Rules that are broken.'),
  open: int32().describe('Rules of which neither could be shown.'),
  rules: z.array(ruleSchema).max(40).describe('Rule by rule.'),
});

export const securityDrillStatusSchema = z
  .object({
    observedGeneration: observedGenerationSchema,
    phase: z
      .enum(['Pending', 'Running', 'Held', 'Broken', 'Failed'])
      .optional()
      .describe('For people; programs read the conditions.'),
    conditions: conditionsSchema.optional(),
    startedAt: timestamp().optional().describe('When the first attack began.'),
    finishedAt: timestamp().optional().describe('When the last one was judged.'),
    held: int32().optional().describe('Rules that hold, over all classes.'),
    broken: int32().optional().describe('Rules that are broken, over all classes.'),
    open: int32().optional().describe('Rules of which neither could be shown, over all classes.'),
    classes: z.array(classSchema).max(9).optional().describe('The report of each RuntimeClass.'),
  })
  .meta({ default: { observedGeneration: -1 } })
  .describe('The scored report. Written by the operator only.');

export type SecurityDrillSpec = z.infer<typeof securityDrillSpecSchema>;
export type SecurityDrillStatus = z.infer<typeof securityDrillStatusSchema>;
