import * as z from 'zod';

// Shapes that many routes share. Names given with meta({ id }) become components of the contract.

export const timestamp = z.date().describe('RFC 3339, UTC.');

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string().describe('What was wrong and what to do about it.'),
    instance: z.string().optional().describe('The request’s id, as in the header x-request-id and in the log.'),
    errors: z
      .array(z.object({ field: z.string(), message: z.string() }))
      .optional()
      .describe('What is wrong with a body or a parameter, field by field.'),
  })
  .meta({ id: 'Problem', description: 'RFC 9457 problem document.' });

const problemResponse = (description: string) => ({
  description,
  content: { 'application/problem+json': { schema: problemSchema } },
});

const PROBLEMS = {
  400: problemResponse('The request cannot be read: a parameter or the body.'),
  401: problemResponse('No token, or one that the cluster does not accept.'),
  403: problemResponse('The cluster’s RBAC does not allow it.'),
  404: problemResponse('There is no such thing, or the caller may not see it.'),
  409: problemResponse('It does not fit what is there.'),
  410: problemResponse('There was such a thing; retention has deleted it.'),
  413: problemResponse('Too large.'),
  415: problemResponse('Not a content type that is understood here.'),
  416: problemResponse('The range lies outside of what there is.'),
  422: problemResponse('Well-formed, and refused by the cluster: field by field.'),
  429: problemResponse('Too many requests; Retry-After and RateLimit say when to go on.'),
  503: problemResponse('Starting, shutting down, or something it needs is away; Retry-After says when to try again.'),
};

/** The problems that a route can answer with; 400, 429 and 503 every route can. */
export function problems<S extends keyof typeof PROBLEMS>(...statuses: S[]): Pick<typeof PROBLEMS, S | 400 | 429 | 503> {
  const chosen = [400, ...statuses, 429, 503] as const;
  return Object.fromEntries(chosen.map((status) => [status, PROBLEMS[status as S]])) as Pick<typeof PROBLEMS, S | 400 | 429 | 503>;
}

/** As Kubernetes gives them: of any version. */
export const uid = z
  .string()
  .regex(/^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/, 'must be a UID')
  .meta({ format: 'uuid' });

export const idParams = z.object({ id: uid.describe('metadata.uid of the Evaluation.') });

export const cursor = z.string().max(200).optional().describe('nextCursor of the page before.');

export function page<T extends z.ZodType>(item: T) {
  return z.object({ items: z.array(item), nextCursor: z.string().optional().describe('Present while there may be more.') });
}

export const namespaceName = z
  .string()
  .regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must be the name of a namespace')
  .describe('Name of a namespace.');

export const attemptQuery = z.strictObject({
  attempt: z.coerce.number().int().min(1).max(1000).optional().describe('Default: the accepted attempt, else the newest.'),
});

export const acceptedEvaluation = z
  .object({
    id: uid,
    namespace: z.string(),
    name: z.string(),
    statusUrl: z.string().describe('200 when finished, 202 until then.'),
  })
  .meta({ id: 'AcceptedEvaluation' });
