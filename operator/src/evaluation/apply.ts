import { API_VERSION, CAPTURE_FINALIZER, FIELD_MANAGERS, LABELS } from '@crucible/crds';
import type { AttemptRepository, Database, EvaluationRepository, SubmissionRepository, Transaction } from '@crucible/storage';
import {
  CONFIG_MAPS,
  EVALUATIONS,
  JOBS,
  NAMESPACES,
  PODS,
  isAlreadyExists,
  isConflict,
  isForbidden,
  isInvalid,
  isNamespaceTerminating,
  isNotFound,
} from '../kube/index.ts';
import type { CallOptions, KubeClient, KubeObject, Resource } from '../kube/index.ts';
import { WaitingError } from '../controller/index.ts';
import type { Action } from './actions.ts';
import type { AttemptIdentity } from './job.ts';
import { buildConfigMap, buildJob } from './job.ts';
import { jobName } from './names.ts';
import type { Job, Pod } from './objects.ts';
import { isDeleting, uidOf } from './objects.ts';
import { hasNode } from './pod.ts';
import { allocateUid } from './sandbox-uid.ts';
import type { Settings } from './settings.ts';
import type { Snapshot } from './snapshot.ts';

/** For the watch to bring what the API server said. */
const LOOK_AGAIN_SECONDS = 1;

export interface ApplyDependencies {
  readonly client: KubeClient;
  readonly database: Pick<Database, 'transaction'>;
  readonly evaluations: EvaluationRepository;
  readonly attempts: AttemptRepository;
  readonly submissions: Pick<SubmissionRepository, 'explain'>;
  readonly settings: Settings;
  /** The leader's epoch, the fence of every write to the record. */
  readonly epoch: () => number;
  /** Of the sandboxes that run at this moment. */
  readonly sandboxUids: Pick<ReadonlySet<number>, 'has' | 'size'>;
}

/** The Evaluation as a plan left it: at which version, or that it is gone. */
export interface Left {
  readonly version?: string | undefined;
  readonly gone?: boolean;
}

/**
 * Carries out a plan, action by action; the first failure ends it, and the next reconcile decides anew. Every action may
 * be repeated: it was perhaps done by a process that did not live to see the answer.
 */
export class Applier {
  readonly #deps: ApplyDependencies;

  constructor(deps: ApplyDependencies) {
    this.#deps = deps;
  }

  async apply(snapshot: Snapshot, actions: readonly Action[], signal: AbortSignal): Promise<Left> {
    let version = snapshot.raw.metadata.resourceVersion;
    for (const action of actions) {
      signal.throwIfAborted();
      const left = await this.#perform(snapshot, action, { signal }).catch((error: unknown) => {
        if (error instanceof LaunchRefusedError) error.left = { version };
        throw error;
      });
      if (left?.version !== undefined) version = left.version;
      // What is still to be done is for its Job and pods, by their uids.
      if (left?.gone === true) version = undefined;
    }
    return version === undefined ? { gone: true } : { version };
  }

  /** Says what became of the Evaluation when it was the action's object. */
  async #perform(snapshot: Snapshot, action: Action, call: CallOptions): Promise<Left | void> {
    const { client } = this.#deps;
    const { namespace = '', uid = '' } = snapshot.raw.metadata;
    switch (action.type) {
      case 'addFinalizer':
        return await this.#addFinalizer(snapshot, call);
      case 'removeFinalizer':
        return leftOf(await this.#removeFinalizer(EVALUATIONS, snapshot.raw, call));
      case 'deleteEvaluation':
        return await ignoreGone(
          client.delete(EVALUATIONS, namespace, snapshot.raw.metadata.name ?? '', {
            uid,
            propagationPolicy: 'Background',
            ...call,
          }),
        );
      case 'launch':
        return await this.#launch(snapshot, action, call);
      case 'lowerDeadline':
        return await this.#lowerDeadline(namespace, action, call);
      case 'settleJob':
        return await this.#settleJob(snapshot, action, call);
      case 'withdraw':
        return await this.#withdraw(snapshot, action, call);
      case 'confirmGoing':
        return await this.#confirmGoing(snapshot, call);
      case 'recordEnding':
        return await this.#deps.attempts.setEnding({
          evaluationUid: uid,
          number: action.number,
          ending: action.verdict,
          epoch: this.#deps.epoch(),
        });
      case 'deleteJob':
        return await ignoreGone(
          client.delete(JOBS, namespace, action.jobName, {
            uid: action.jobUid,
            propagationPolicy: 'Background',
            ...call,
          }),
        );
      case 'deleteConfigMap':
        return await ignoreGone(
          client.delete(CONFIG_MAPS, namespace, action.name, { propagationPolicy: 'Background', ...call }),
        );
      case 'releasePod':
        return await this.#releasePod(snapshot, action, call);
      case 'recordJob':
        return await this.#deps.attempts.setJob({
          evaluationUid: uid,
          number: action.number,
          jobUid: action.jobUid,
          epoch: this.#deps.epoch(),
        });
      case 'recordPod':
        return await this.#deps.attempts.setPod({
          evaluationUid: uid,
          number: action.number,
          epoch: this.#deps.epoch(),
          ...action.pod,
        });
      case 'recordPhase':
        await this.#deps.evaluations.setPhase({ uid, phase: action.phase, epoch: this.#deps.epoch() });
        return;
      case 'recordWaiting':
        await this.#deps.evaluations.setQueue({ uid, queue: action.queue, epoch: this.#deps.epoch() });
        if (action.refusal !== undefined) await this.#deps.submissions.explain(uid, action.refusal);
        return;
      case 'recordEvaluation':
        return await this.#recordEvaluation(snapshot, action.phase);
      case 'recordAttempt':
        return await this.#recordAttempt(snapshot, action);
      case 'recordEnd':
        return await this.#recordEnd(uid, action);
    }
  }

  // ---------------------------------------------------------------- the record

  async #recordEvaluation(snapshot: Snapshot, phase: string, tx?: Transaction): Promise<void> {
    const { uid = '', namespace = '', name = '', generation = 1, labels, creationTimestamp } = snapshot.raw.metadata;
    const input = {
      uid,
      namespace,
      namespaceUid: snapshot.cluster.namespace?.metadata.uid ?? '',
      name,
      generation,
      spec: snapshot.raw.spec as object,
      ...(labels && { labels }),
      createdAt: new Date(creationTimestamp ?? 0),
      phase,
      epoch: this.#deps.epoch(),
    };
    await this.#deps.evaluations.upsertAccepted(input, tx);
  }

  async #recordAttempt(
    snapshot: Snapshot,
    { number, run, risks, inputs }: Extract<Action, { type: 'recordAttempt' }>,
  ): Promise<void> {
    const { uid = '', name = '' } = snapshot.raw.metadata;
    const epoch = this.#deps.epoch();
    await this.#deps.database.transaction(async (tx) => {
      await this.#recordEvaluation(snapshot, 'Starting', tx);
      const attempt = {
        evaluationUid: uid,
        number,
        jobName: jobName({ name, uid }, number),
        image: run.image,
        runtimeClass: run.runtimeClassName ?? null,
        timeoutSeconds: run.timeoutSeconds,
        ...(risks.length > 0 && { acceptedRisks: risks.map(({ rules, reason }) => ({ rules, reason })) }),
        ...(inputs.length > 0 && { inputs }),
        epoch,
      };
      await this.#deps.attempts.create(attempt, tx);
      await this.#deps.evaluations.setPhase({ uid, phase: 'Starting', epoch }, tx);
    });
  }

  async #recordEnd(uid: string, { attempt, evaluation }: Extract<Action, { type: 'recordEnd' }>): Promise<void> {
    const epoch = this.#deps.epoch();
    await this.#deps.database.transaction(async (tx) => {
      if (attempt !== undefined) {
        const { pod, ...end } = attempt;
        if (pod !== undefined)
          await this.#deps.attempts.setPod({ evaluationUid: uid, number: end.number, epoch, ...pod }, tx);
        agreed(await this.#deps.attempts.finalize({ evaluationUid: uid, epoch, ...end }, tx), 'the end of the attempt');
      }
      if (evaluation === undefined) return;
      const { acceptedAttempt, ...end } = evaluation;
      if (acceptedAttempt !== undefined) {
        agreed(
          await this.#deps.attempts.accept({ evaluationUid: uid, number: acceptedAttempt, epoch }, tx),
          'the accepted attempt',
        );
      }
      agreed(await this.#deps.evaluations.finish({ uid, epoch, ...end }, tx), 'the end of the evaluation');
    });
  }

  // ---------------------------------------------------------------- the cluster

  async #launch(
    snapshot: Snapshot,
    { number, run }: Extract<Action, { type: 'launch' }>,
    call: CallOptions,
  ): Promise<void> {
    const { settings, attempts, epoch } = this.#deps;
    const { namespace = '', name = '', uid = '' } = snapshot.raw.metadata;
    const identity: AttemptIdentity = { namespace, name, uid, attempt: number };
    await refusable(this.#createOnce(CONFIG_MAPS, buildConfigMap(run, identity, settings.sandbox), call));
    const sandboxUid = allocateUid(settings.sandbox.uids, { uid, number }, this.#deps.sandboxUids);
    const wanted = buildJob({ run, identity, sandboxUid, settings: settings.sandbox, patience: settings.patience });
    const job = await refusable(this.#createOnce<Job>(JOBS, wanted, call));
    // Only from here on does the recorder trust the Job's pods.
    await attempts.setJob({ evaluationUid: uid, number, jobUid: uidOf(job), epoch: epoch() });
  }

  /**
   * Not applied: what is there already was made by an earlier try and is never changed (a second one would suspend again
   * what Kueue has started meanwhile), and to the API server an apply costs twice as much.
   */
  async #createOnce<T extends KubeObject>(resource: Resource, wanted: KubeObject, call: CallOptions): Promise<T> {
    const { client } = this.#deps;
    const { namespace, name = '', labels } = wanted.metadata;
    try {
      return await client.create<T>(resource, wanted as T, { fieldManager: FIELD_MANAGERS.objects, ...call });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const existing = await client.get<T>(resource, namespace, name, call);
      const owner = LABELS.evaluationUid;
      if (existing.metadata.labels?.[owner] === labels?.[owner]) return existing;
      throw new Error(`a ${resource.kind} of the name ${name} belongs to another evaluation`);
    }
  }

  async #lowerDeadline(
    namespace: string,
    action: Extract<Action, { type: 'lowerDeadline' }>,
    call: CallOptions,
  ): Promise<void> {
    const patch = { metadata: { uid: action.podUid }, spec: { activeDeadlineSeconds: action.seconds } };
    try {
      await this.#deps.client.mergePatch(PODS, namespace, action.podName, patch, {
        fieldManager: FIELD_MANAGERS.objects,
        ...call,
      });
    } catch (error) {
      // Gone, another one of that name, or a deadline that is lower already (the API server refuses to raise it).
      if (!isNotFound(error) && !isConflict(error) && !isInvalid(error)) throw error;
    }
  }

  /**
   * A pod that the scheduler has not placed is deleted first, and only as it was seen: placed in the meantime, it may
   * have run and printed. Deleting its Job at once would have the garbage collector take it in either case.
   */
  async #withdraw(
    snapshot: Snapshot,
    { number, jobName, jobUid }: Extract<Action, { type: 'withdraw' }>,
    call: CallOptions,
  ): Promise<void> {
    const { client } = this.#deps;
    const { namespace = '', uid = '' } = snapshot.raw.metadata;
    const labelSelector = `${LABELS.evaluationUid}=${uid},${LABELS.attempt}=${number}`;
    const { items } = await client.list<Pod>(PODS, { namespace, labelSelector, ...call });
    if (items.some(hasNode)) throw placed();
    for (const { metadata } of items) {
      if (metadata.deletionTimestamp !== undefined) continue;
      const seen = { uid: metadata.uid, resourceVersion: metadata.resourceVersion };
      try {
        await client.delete(PODS, namespace, metadata.name ?? '', { ...seen, ...call });
      } catch (error) {
        if (isConflict(error)) throw placed();
        // Where the operator may not delete pods, the garbage collector does, with the Job. What is placed between this
        // look and that keeps its finalizer, and is judged by its capture like any other.
        if (!isNotFound(error) && !isForbidden(error)) throw error;
      }
    }
    const options = { uid: jobUid, propagationPolicy: 'Background', ...call } as const;
    await ignoreGone(client.delete(JOBS, namespace, jobName, options));
  }

  async #confirmGoing(snapshot: Snapshot, call: CallOptions): Promise<void> {
    const { client } = this.#deps;
    const { namespace = '', name = '', uid } = snapshot.raw.metadata;
    const live = await client.get<KubeObject>(EVALUATIONS, namespace, name, call).catch(undefinedIfGone);
    if (live === undefined || live.metadata.uid !== uid || isDeleting(live)) return;
    const around = await client.get<KubeObject>(NAMESPACES, undefined, namespace, call).catch(undefinedIfGone);
    if (around === undefined || isDeleting(around)) return;
    throw new WaitingError(LOOK_AGAIN_SECONDS, 'NotDeleted', 'the evaluation is not being deleted');
  }

  async #settleJob(
    snapshot: Snapshot,
    action: Extract<Action, { type: 'settleJob' }>,
    call: CallOptions,
  ): Promise<void> {
    const { name = '', uid = '', namespace = '' } = snapshot.raw.metadata;
    const ownerReferences = [{ apiVersion: API_VERSION, kind: 'Evaluation', name, uid }];
    const patch = {
      metadata: { uid: action.jobUid, ownerReferences },
      spec: { ttlSecondsAfterFinished: this.#deps.settings.jobTtlSeconds },
    };
    await ignoreGone(
      this.#deps.client.mergePatch(JOBS, namespace, action.jobName, patch, {
        fieldManager: FIELD_MANAGERS.objects,
        ...call,
      }),
    );
  }

  async #releasePod(
    snapshot: Snapshot,
    action: Extract<Action, { type: 'releasePod' }>,
    call: CallOptions,
  ): Promise<void> {
    const pod = [snapshot.pod, ...snapshot.others].find((known) => known && uidOf(known) === action.podUid);
    if (pod !== undefined) await this.#removeFinalizer(PODS, pod, call);
  }

  async #addFinalizer(snapshot: Snapshot, call: CallOptions): Promise<Left> {
    const { namespace = '', name = '', uid, finalizers, resourceVersion } = snapshot.raw.metadata;
    // The resourceVersion makes it a compare-and-set: the list is replaced as a whole, and others keep theirs in it.
    const patch = { metadata: { uid, resourceVersion, finalizers: [...(finalizers ?? []), CAPTURE_FINALIZER] } };
    return leftOf(
      await this.#deps.client.mergePatch<KubeObject>(EVALUATIONS, namespace, name, patch, {
        fieldManager: FIELD_MANAGERS.objects,
        ...call,
      }),
    );
  }

  /**
   * Others remove theirs at the same time (the Job controller from the pod), so ours is found anew when the first try
   * misses. The object as it is then; undefined when it is gone, or another one has its name.
   */
  async #removeFinalizer(resource: Resource, object: KubeObject, call: CallOptions): Promise<KubeObject | undefined> {
    const { client } = this.#deps;
    const { namespace, name = '', uid } = object.metadata;
    let current: KubeObject | undefined = object;
    for (let attempt = 0; attempt < 3 && current !== undefined; attempt += 1) {
      const index = current.metadata.finalizers?.indexOf(CAPTURE_FINALIZER) ?? -1;
      if (current.metadata.uid !== uid) return undefined;
      if (index < 0) return current;
      const path = `/metadata/finalizers/${index}`;
      try {
        return await client.jsonPatch<KubeObject>(
          resource,
          namespace,
          name,
          [
            { op: 'test', path: '/metadata/uid', value: uid },
            { op: 'test', path, value: CAPTURE_FINALIZER },
            { op: 'remove', path },
          ],
          { fieldManager: FIELD_MANAGERS.objects, ...call },
        );
      } catch (error) {
        if (isNotFound(error)) return undefined;
        if (!isInvalid(error) && !isConflict(error)) throw error;
        current = await client.get<KubeObject>(resource, namespace, name, call).catch(undefinedIfGone);
      }
    }
    return current;
  }
}

function leftOf(object: KubeObject | undefined): Left {
  return object === undefined ? { gone: true } : { version: object.metadata.resourceVersion };
}

function placed(): WaitingError {
  return new WaitingError(LOOK_AGAIN_SECONDS, 'PodPlaced', 'the pod got its node in the meantime');
}

/** The API server's policies, quotas or validation refused the attempt's objects. */
export class LaunchRefusedError extends Error {
  override readonly name = 'LaunchRefusedError';
  /** The Evaluation as the actions before it left it: what the refusal is said on. */
  left: Left = {};
}

async function refusable<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    const refused = (isForbidden(error) && !isNamespaceTerminating(error)) || isInvalid(error);
    throw refused ? new LaunchRefusedError((error as Error).message, { cause: error }) : error;
  }
}

/** Two that decided differently about one end: the record has the first; the next reconcile reads it. */
function agreed(outcome: string, what: string): void {
  if (outcome === 'conflict') throw new Error(`${what} was recorded otherwise`);
}

async function ignoreGone(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    // A conflict is the uid's precondition: an object of that name which is not ours.
    if (!isNotFound(error) && !isConflict(error)) throw error;
  }
}

function undefinedIfGone(error: unknown): undefined {
  if (isNotFound(error)) return undefined;
  throw error;
}
