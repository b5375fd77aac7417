import { evaluationSpecSchema } from '@crucible/crds';
import * as z from 'zod';
import { namespaceName } from './common.ts';

const label = z.string().max(63);
const NAME = '[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?';

/** What to run. The whole resource may be given, as kubectl takes it; the rules of spec are the resource's own. */
export const submissionSchema = z
  .strictObject({
    apiVersion: z.literal('crucible.dev/v1alpha1').optional(),
    kind: z.literal('Evaluation').optional(),
    metadata: z.strictObject({
      namespace: namespaceName,
      name: z.string().regex(new RegExp(`^${NAME}$`), 'must be a DNS label').optional().describe('Default: made from generateName.'),
      generateName: z
        .string()
        .regex(/^[a-z0-9][-a-z0-9]{0,52}$/, 'must begin with a letter or digit')
        .optional()
        .describe('Beginning of a name, which is completed. Default: eval-'),
      labels: z.record(z.string().max(317), label).optional(),
      annotations: z.record(z.string().max(317), z.string().max(8192)).optional(),
    }),
    spec: evaluationSpecSchema,
  })
  .meta({ id: 'EvaluationSubmission', description: 'An Evaluation to run.' });

export type Submission = z.output<typeof submissionSchema>;
