import { randomInt } from 'node:crypto';
import { API_VERSION } from '@crucible/crds';
import { KubeError, isAlreadyExists, isConflict, isInvalid, isNotFound, isTransient, type KubeObject } from '@crucible/operator/kube';
import { SubmissionRepository, isPending, isUnavailable, readState, readSubmission } from '@crucible/storage';
import type { EvaluationOwner, EvaluationState } from '@crucible/storage';
import type { Caller } from './auth/authenticator.ts';
import { hiddenNamespace } from './auth/authorizer.ts';
import { Problem, forbidden, notFound, unavailable } from './problems.ts';
import type { Services } from './services.ts';
import type { Submission } from './schemas/submission.ts';

// What is more than reading a row: submitting, cancelling, and the status through Postgres and Redis.

const RECORD_ATTEMPTS = 6;
const FIRST_PAUSE_MILLISECONDS = 100;
// No vowels: a name is no word.
const NAME_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
const NAME_CHARACTERS = 10;

export const statusUrl = (id: string): string => `/api/eval-status/${id}`;

/** The resource that is sent to the API server: whole, and as the caller wrote it. */
export function toResource(body: Submission, name: string): KubeObject & { spec: unknown } {
  const { namespace, labels, annotations } = body.metadata;
  return {
    apiVersion: API_VERSION,
    kind: 'Evaluation',
    metadata: { name, namespace, ...(labels && { labels }), ...(annotations && { annotations }) },
    spec: body.spec,
  };
}

/** As the cluster completes a generateName, with more to choose from: 27^10. */
function uniqueName(prefix: string): string {
  return prefix + Array.from({ length: NAME_CHARACTERS }, () => NAME_ALPHABET[randomInt(NAME_ALPHABET.length)]).join('');
}

/**
 * First in the cluster, which decides whether it may be, then a row, and only then is the caller told: who asks for its
 * status is never told that there is no such thing. Postgres is asked before: without it nothing is submitted.
 */
export async function submit(services: Services, caller: Caller, body: Submission) {
  await services.database.query('SELECT 1');
  if ((await services.authorizer.uidOf(caller, body.metadata.namespace)) === 'hidden') throw await hiddenFrom(services, caller, body.metadata.namespace);
  const { uid = '', name = '', namespace = '' } = (await create(services, caller, body)).metadata;
  await record(services, caller, { uid, namespace, name });
  return { id: uid, namespace, name, statusUrl: statusUrl(uid) };
}

/** Whoever may not create anything there has no use for the namespace's UID. */
async function hiddenFrom({ authorizer }: Services, caller: Caller, namespace: string): Promise<Problem> {
  const may = await authorizer.may(caller, { verb: 'create', namespace, resource: 'evaluations' });
  return may ? hiddenNamespace(namespace) : forbidden(`you may not create evaluations in namespace "${namespace}"`);
}

/** The name is made here, not by the cluster: a second try cannot make a second run, and finds what the first one made. */
async function create({ cluster }: Services, { token }: Caller, body: Submission): Promise<KubeObject> {
  const { name: given, generateName = 'eval-', namespace } = body.metadata;
  const name = given ?? uniqueName(generateName);
  const attempt = () => cluster.createEvaluation(token, toResource(body, name));
  try {
    return await attempt();
  } catch (error) {
    // With a name of the caller's own, who tries again is told that it exists.
    if (given !== undefined || !mayHaveHappened(error)) throw error;
  }
  try {
    return await attempt().catch((error: unknown) => {
      if (isAlreadyExists(error)) return cluster.getEvaluation(token, namespace, name);
      throw error;
    });
  } catch {
    throw unavailable(`the API server did not say whether it created evaluation ${namespace}/${name}: look for it, or submit again with this metadata.name, which cannot make a second one`);
  }
}

/** No answer, or one of which nobody knows from how far behind it comes. */
const mayHaveHappened = (error: unknown): boolean => error instanceof KubeError && isTransient(error) && error.code !== 429;

async function record(services: Services, caller: Caller, run: { uid: string; namespace: string; name: string }): Promise<void> {
  for (let attempt = 1, pause = FIRST_PAUSE_MILLISECONDS; ; attempt += 1, pause *= 2) {
    try {
      // After it was created: whatever has the name now is what it was created in, or it is gone with what it was created in.
      const home = await services.authorizer.freshUidOf(caller, run.namespace);
      if (home === 'none') throw new Problem(409, `namespace "${run.namespace}" was deleted meanwhile, and the evaluation with it`);
      if (home === 'hidden') throw unrecorded(run, `you may not get namespace "${run.namespace}" any more`);
      const row = { ...run, namespaceUid: home.uid, submittedBy: caller.identity.username };
      return await new SubmissionRepository(services.database).record(row);
    } catch (error) {
      const away = isUnavailable(error) ? 'Postgres does not answer' : error instanceof KubeError ? 'the API server does not say which namespace it is in' : undefined;
      if (away === undefined) throw error;
      if (attempt === RECORD_ATTEMPTS || (error instanceof KubeError && !isTransient(error))) throw unrecorded(run, away);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** It runs all the same, and its status is known as soon as the operator has recorded it. */
const unrecorded = ({ uid, namespace, name }: { uid: string; namespace: string; name: string }, why: string): Problem =>
  unavailable(`evaluation ${namespace}/${name} was created with the id ${uid}, but is not recorded yet: ${why}; do not submit it again`);

export async function cancel(services: Services, caller: Caller, { uid, namespaceUid, namespace, name }: EvaluationOwner) {
  const state = await endOf(services, uid, namespaceUid);
  // The API server says so of what has not finished.
  if (state !== undefined && !(await services.authorizer.may(caller, { verb: 'patch', namespace, resource: 'evaluations' })))
    throw forbidden(`you may not patch evaluations in namespace "${namespace}"`);
  if (state !== undefined) throw new Problem(409, `it had already finished (${state}): there is nothing to cancel`);
  try {
    await services.cluster.cancelEvaluation(caller.token, { uid, namespace, name });
  } catch (error) {
    if (isNotFound(error)) throw new Problem(404, 'it is not in the cluster any more: there is nothing to cancel');
    // The API server calls a patch of another object's UID invalid.
    if (isConflict(error) || (isInvalid(error) && /metadata\.uid/.test((error as Error).message)))
      throw new Problem(409, `another evaluation is called ${namespace}/${name} now: this one is not in the cluster any more`);
    throw error;
  }
  return { id: uid, namespace, name, statusUrl: statusUrl(uid) };
}

/** The phase that it ended in. Cancelling needs no Postgres: undefined also while that is away. */
async function endOf({ database }: Services, uid: string, namespaceUid: string): Promise<string | undefined> {
  try {
    const state = await readState(database, uid, [namespaceUid]);
    return state?.state === 'finished' ? state.phase : undefined;
  } catch (error) {
    if (isUnavailable(error)) return undefined;
    throw error;
  }
}

/** What nobody has recorded is said with the reason, where there is one. */
export async function notRecorded({ database }: Services, { uid, namespaceUid }: EvaluationOwner): Promise<Problem> {
  const found = await readSubmission(database, uid, [namespaceUid]);
  if (found?.state !== 'submitted') return notFound();
  if (found.reason === null) return new Problem(404, `evaluation ${found.namespace}/${found.name} is submitted, and the operator has not recorded it yet`);
  const what = found.refused ? 'not accepted' : 'waiting to be admitted';
  return new Problem(404, `evaluation ${found.namespace}/${found.name} is ${what} and hence not recorded: ${found.reason}: ${found.message}`);
}

/** Undefined: unknown. Postgres first; while it is away, Redis may still know that it has not finished. */
export async function statusOf(services: Services, { uid, namespaceUid }: EvaluationOwner) {
  const state = await stateOf(services, uid, namespaceUid);
  if (state === undefined) return undefined;
  const unknown = { verdict: null, passed: null, finishedAt: null, queueReason: null, queueMessage: null, refused: false };
  const { state: is, ...known } = state;
  return { id: uid, finished: is === 'finished', ...unknown, ...known, queuePosition: is === 'accepted' ? await positionOf(services, uid) : null };
}

async function stateOf({ database, redis }: Services, uid: string, namespaceUid: string): Promise<EvaluationState | undefined> {
  try {
    return await readState(database, uid, [namespaceUid]);
  } catch (error) {
    if (!isUnavailable(error) || (await isPending(redis, uid)) !== true) throw error;
    return { state: 'accepted', phase: 'Queued', queueReason: null, queueMessage: 'Postgres does not answer; Redis knows that it has not finished.', refused: false };
  }
}

async function positionOf({ snapshots }: Services, uid: string): Promise<number | null> {
  try {
    return (await snapshots.positions()).get(uid) ?? null;
  } catch (error) {
    if (isUnavailable(error)) return null;
    throw error;
  }
}
