import * as z from 'zod';
import { plan } from '../plans.ts';
import { problems } from '../schemas/common.ts';
import { submissionSchema } from '../schemas/submission.ts';
import type { Routes } from './route.ts';

const planSchema = z
  .object({
    admitted: z.boolean(),
    reason: z.string().nullable().describe('Why the operator would refuse it.'),
    message: z.string().nullable(),
    paused: z.string().nullable().describe('Why nothing new is started at present; null: it is not paused, as far as the caller may see.'),
    assumptions: z.array(z.string()).describe('What could not be looked at with the caller’s rights.'),
    pod: z.record(z.string(), z.unknown()).nullable().describe('As the operator would have it made.'),
    policy: z
      .object({
        runtimeClassName: z.string().nullable(),
        network: z.string(),
        serviceAccountToken: z.boolean(),
        userIds: z.object({ first: z.int(), last: z.int() }),
        timeoutSeconds: z.int(),
        graceSeconds: z.int(),
        memoryBytes: z.number(),
        diskBytes: z.number(),
        cpuMilli: z.number(),
        streamBytes: z.number(),
        artifactBytes: z.number(),
      })
      .nullable(),
    queue: z.object({ waiting: z.int(), running: z.int(), limit: z.int(), positionAtMost: z.int() }),
  })
  .meta({ id: 'Plan' });

export const planRoutes: Routes = (app, services) => {
  app.post('/api/plans', {
    config: { access: 'caller', limit: 'write' },
    schema: {
      operationId: 'planEvaluation', tags: ['evaluations'], summary: 'What would happen, without doing it',
      description: 'A dry run in the cluster with the caller’s own token, the operator’s decision, and the pod that it would make.',
      body: submissionSchema,
      response: { 200: planSchema, ...problems(401, 403, 404, 409, 413, 415, 422) },
    },
  }, ({ caller, submitted }) => plan(services, caller, submitted));
};
