import { API_VERSION } from '@crucible/crds';
import { isConflict, isInvalid, isNotFound, type KubeObject } from '@crucible/operator/kube';
import { SubmissionRepository, isPending, isUnavailable, readState } from '@crucible/storage';
import type { EvaluationOwner, EvaluationState } from '@crucible/storage';
import type { Caller } from './auth/authenticator.ts';
import { hiddenNamespace } from './auth/authorizer.ts';
import { Problem, unavailable } from './problems.ts';
import type { Services } from './services.ts';
import type { Submission } from './schemas/submission.ts';

// What is more than reading a row: submitting, cancelling, and the status through Postgres and Redis.

const RECORD_ATTEMPTS = 6;
const FIRST_PAUSE_MILLISECONDS = 100;

export const statusUrl = (id: string): string => `/api/eval-status/${id}`;

/** The resource that is sent to the API server: with a name, whole, and as the caller wrote it. */
export function toResource(body: Submission): KubeObject & { spec: unknown } {
  const { name, generateName, namespace, labels, annotations } = body.metadata;
  const named = name === undefined ? { generateName: generateName ?? 'eval-' } : { name };
  return {
    apiVersion: API_VERSION,
    kind: 'Evaluation',
    metadata: { ...named, namespace, ...(labels && { labels }), ...(annotations && { annotations }) },
    spec: body.spec,
  };
}

/**
 * First in the cluster, which decides whether it may be, then a row, and only then is the caller told: who asks for its
 * status is never told that there is no such thing. Postgres is asked before: without it nothing is submitted.
 */
export async function submit(services: Services, caller: Caller, body: Submission) {
  await services.database.query('SELECT 1');
  if ((await services.authorizer.uidOf(caller, body.metadata.namespace)) === 'hidden') throw hiddenNamespace(body.metadata.namespace);
  const created = await services.cluster.createEvaluation(caller.token, toResource(body));
  const { uid = '', name = '', namespace = '' } = created.metadata;
  // After it: whatever has the name now is what it was created in, or it is gone with what it was created in.
  const home = await services.authorizer.freshUidOf(caller, namespace);
  if (typeof home !== 'object') throw new Problem(409, `namespace "${namespace}" was deleted meanwhile, and the evaluation with it`);
  await record(services, { uid, namespace, namespaceUid: home.uid, name, submittedBy: caller.identity.username });
  return { id: uid, namespace, name, statusUrl: statusUrl(uid) };
}

async function record(services: Services, row: Parameters<SubmissionRepository['record']>[0]): Promise<void> {
  const submissions = new SubmissionRepository(services.database);
  for (let attempt = 1, pause = FIRST_PAUSE_MILLISECONDS; ; attempt += 1, pause *= 2) {
    try {
      return await submissions.record(row);
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      if (attempt === RECORD_ATTEMPTS) throw unrecorded(row);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** It runs all the same, and its status is known as soon as the operator has recorded it. */
const unrecorded = ({ uid, namespace, name }: { uid: string; namespace: string; name: string }): Problem =>
  unavailable(`evaluation ${namespace}/${name} was created with the id ${uid}, but is not recorded yet: Postgres does not answer; do not submit it again`);

export async function cancel({ cluster }: Services, caller: Caller, { uid, namespace, name }: EvaluationOwner) {
  try {
    await cluster.cancelEvaluation(caller.token, { uid, namespace, name });
  } catch (error) {
    if (isNotFound(error)) throw new Problem(404, 'it is not in the cluster any more: there is nothing to cancel');
    // The API server calls a patch of another object's UID invalid.
    if (isConflict(error) || (isInvalid(error) && /metadata\.uid/.test((error as Error).message)))
      throw new Problem(409, `another evaluation is called ${namespace}/${name} now: this one is not in the cluster any more`);
    throw error;
  }
  return { id: uid, namespace, name, statusUrl: statusUrl(uid) };
}

/** Undefined: unknown. Postgres first; while it is away, Redis may still know that it has not finished. */
export async function statusOf(services: Services, { uid, namespaceUid }: EvaluationOwner) {
  const state = await stateOf(services, uid, namespaceUid);
  if (state === undefined) return undefined;
  const unknown = { verdict: null, passed: null, finishedAt: null, queueReason: null, queueMessage: null };
  const { state: is, ...known } = state;
  return { id: uid, finished: is === 'finished', ...unknown, ...known, queuePosition: is === 'accepted' ? await positionOf(services, uid) : null };
}

async function stateOf({ database, redis }: Services, uid: string, namespaceUid: string): Promise<EvaluationState | undefined> {
  try {
    return await readState(database, uid, [namespaceUid]);
  } catch (error) {
    if (!isUnavailable(error) || (await isPending(redis, uid)) !== true) throw error;
    return { state: 'accepted', phase: 'Queued', queueReason: null, queueMessage: 'Postgres does not answer; Redis knows that it has not finished.' };
  }
}

async function positionOf({ snapshots }: Services, uid: string): Promise<number | null> {
  try {
    return (await snapshots.queue()).items.find((item) => item.uid === uid)?.position ?? null;
  } catch (error) {
    if (isUnavailable(error)) return null;
    throw error;
  }
}
