import * as z from 'zod';
import { LIMITS } from '../constants.ts';
import { count, listMap, text, timestamp } from './fields.ts';

/** metav1.Condition, with messages bounded so that a status stays small. */
export const conditionSchema = z.object({
  type: text({ min: 1, max: 64 }).describe('What the condition is about.'),
  status: z.enum(['True', 'False', 'Unknown']).describe('Whether it holds.'),
  observedGeneration: count().optional().describe('The metadata.generation this was concluded from.'),
  lastTransitionTime: timestamp().describe('When the status last changed.'),
  reason: text({ min: 1, max: 128 }).describe('One word for programs, in CamelCase.'),
  message: text({ max: LIMITS.messageCharacters }).describe(
    'One sentence for people; where something is wrong, it says what to change.',
  ),
});

export const conditionsSchema = listMap(conditionSchema, 16, 'type').describe(
  'Accepted, Started, Captured, Complete, Failed, Finished (either way) and Passed (with spec.expect) are what pipelines wait on; Contained says what the receipt shows; Ready, Reconciling and Stalled are for kstatus.',
);

export type Condition = z.infer<typeof conditionSchema>;

/** kstatus reads -1 as "no controller has looked yet", so that a fresh object never counts as ready. */
export const observedGenerationSchema = z
  .int()
  .min(-1)
  .optional()
  .meta({ default: -1, format: 'int64' })
  .describe('The metadata.generation that the status describes; -1 until the operator has seen the resource.');
