import { API_VERSION, FIELD_MANAGERS, LABELS } from '@crucible/crds';
import type { SubmissionRepository } from '@crucible/storage';
import {
  CONFIG_MAPS,
  EVALUATIONS,
  JOBS,
  NAMESPACES,
  PODS,
  isConflict,
  isInvalid,
  isNotFound,
} from '../kube/index.ts';
import type { CallOptions, KubeObject } from '../kube/index.ts';
import { WaitingError } from '../controller/index.ts';
import type { Action } from './actions.ts';
import { AttemptLauncher, LaunchRefusedError } from './apply-launch.ts';
import type { LaunchDependencies, Left } from './apply-launch.ts';
import { RecordWriter, identityOf } from './apply-record.ts';
import type { RecordDependencies } from './apply-record.ts';
import type { ConfigMapSweep } from './config-map-sweep.ts';
import { addFinalizer, releasePod, removeFinalizer } from './finalizers.ts';
import type { Pod } from './objects.ts';
import { isDeleting, uidOf } from './objects.ts';
import { inSteps } from './order.ts';
import type { Lane } from './order.ts';
import { hasNode } from './pod.ts';
import { isOutOfReach, unlessOutOfReach } from './reach.ts';
import type { ReachDependencies } from './reach.ts';
import type { Settings } from './settings.ts';
import { needsContent } from './slim.ts';
import { isDeletingSnapshot } from './snapshot.ts';
import type { RawEvaluation, Snapshot } from './snapshot.ts';

/** For the watch to bring what the API server said. */
const LOOK_AGAIN_SECONDS = 1;

export interface ApplyDependencies extends RecordDependencies, LaunchDependencies, ReachDependencies {
  readonly settings: Settings;
  readonly submissions: Pick<SubmissionRepository, 'tell'>;
  readonly configMaps: Pick<ConfigMapSweep, 'want'>;
}

/**
 * Carries out a plan, step by step; the first failure ends it, and the next reconcile decides anew. Every action may
 * be repeated: it was perhaps done by a process that did not live to see the answer.
 */
export class Applier {
  readonly #deps: ApplyDependencies;
  readonly #record: RecordWriter;
  readonly #launcher: AttemptLauncher;

  constructor(deps: ApplyDependencies) {
    this.#deps = deps;
    this.#record = new RecordWriter(deps);
    this.#launcher = new AttemptLauncher(deps);
  }

  async apply(snapshot: Snapshot, actions: readonly Action[], signal: AbortSignal): Promise<Left> {
    if (snapshot.raw.slim === true && needsContent(actions)) throw new Error('the content of the Evaluation has not been read');
    let left: Left = { version: snapshot.raw.metadata.resourceVersion };
    for (const step of inSteps(actions, isDeletingSnapshot(snapshot))) {
      const done = await Promise.allSettled(step.map((lane) => this.#lane(snapshot, lane, signal)));
      for (const lane of done) if (lane.status === 'fulfilled') left = lane.value ?? left;
      const failed = done.find((lane) => lane.status === 'rejected');
      if (failed === undefined) continue;
      if (failed.reason instanceof LaunchRefusedError) failed.reason.left = left;
      throw failed.reason;
    }
    return left;
  }

  /** What became of the Evaluation, when one of the actions was about it. */
  async #lane(snapshot: Snapshot, lane: Lane, signal: AbortSignal): Promise<Left | undefined> {
    let left: Left | undefined;
    for (const action of lane) {
      signal.throwIfAborted();
      left = (await this.#perform(snapshot, action, { signal })) ?? left;
    }
    return left;
  }

  /** Says what became of the Evaluation when it was the action's object. */
  async #perform(snapshot: Snapshot, action: Action, call: CallOptions): Promise<Left | void> {
    const { client } = this.#deps;
    const { namespace = '', uid = '' } = snapshot.raw.metadata;
    switch (action.type) {
      case 'addFinalizer':
        return leftOf(await addFinalizer(client, snapshot.raw, call));
      case 'clearStatus':
        return await this.#clearStatus(snapshot.raw, call);
      case 'removeFinalizer':
        return leftOf(await removeFinalizer(client, snapshot.raw, call));
      case 'deleteEvaluation':
        return await this.#unlessGone(snapshot.raw,
          client.delete(EVALUATIONS, namespace, snapshot.raw.metadata.name ?? '', {
            uid,
            propagationPolicy: 'Background',
            ...call,
          }),
        );
      case 'createConfigMap':
        return await this.#launcher.createConfigMap(snapshot, action, call);
      case 'launch':
        return await this.#launcher.launch(snapshot, action, call);
      case 'lowerDeadline':
        return await this.#lowerDeadline(snapshot.raw, action, call);
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
        return await this.#unlessGone(snapshot.raw,
          client.delete(JOBS, namespace, action.jobName, {
            uid: action.jobUid,
            propagationPolicy: 'Background',
            ...call,
          }),
        );
      case 'sweepConfigMaps':
        return this.#deps.configMaps.want(namespace, uid);
      case 'deleteConfigMap':
        return await this.#unlessGone(snapshot.raw,
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
        return await this.#recordWaiting(snapshot, action);
      case 'recordEvaluation':
        return await this.#record.evaluation(snapshot, action.phase);
      case 'recordAttempt':
        return await this.#record.attempt(snapshot, action);
      case 'recordEnd':
        return await this.#record.end(uid, action);
    }
  }

  async #recordWaiting({ raw, cluster }: Snapshot, { queue, notAdmitted }: Extract<Action, { type: 'recordWaiting' }>): Promise<void> {
    const { evaluations, submissions, epoch } = this.#deps;
    const { uid = '' } = raw.metadata;
    // What was recorded may be refused afterwards: its runtime is gone.
    await evaluations.setQueue({ uid, queue: queue ?? notAdmitted, epoch: epoch() });
    const { namespace } = cluster;
    if (notAdmitted !== undefined && namespace !== undefined) await submissions.tell({ ...identityOf(raw, namespace), ...notAdmitted });
  }

  /** As a whole: by applying, nobody takes away what somebody else has put into it. */
  async #clearStatus({ metadata }: RawEvaluation, call: CallOptions): Promise<void> {
    const { namespace, name = '', resourceVersion } = metadata;
    const patch = { metadata: { resourceVersion }, status: null };
    const options = { fieldManager: FIELD_MANAGERS.status, subresource: 'status', metadataOnly: true, ...call };
    await this.#deps.client.mergePatch(EVALUATIONS, namespace, name, patch, options);
  }

  async #lowerDeadline(
    raw: RawEvaluation,
    action: Extract<Action, { type: 'lowerDeadline' }>,
    call: CallOptions,
  ): Promise<void> {
    const patch = { metadata: { uid: action.podUid }, spec: { activeDeadlineSeconds: action.seconds } };
    try {
      await this.#deps.client.mergePatch(PODS, raw.metadata.namespace, action.podName, patch, {
        fieldManager: FIELD_MANAGERS.objects,
        metadataOnly: true,
        ...call,
      });
    } catch (error) {
      // Gone, another one of that name, or a deadline that is lower already (the API server refuses to raise it).
      if (!isOutOfReach(error, raw, this.#deps) && !isConflict(error) && !isInvalid(error)) throw error;
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
    const seen = await this.#unlessGone(snapshot.raw, client.list<Pod>(PODS, { namespace, labelSelector, ...call }));
    const pods = seen?.items ?? [];
    if (pods.some(hasNode)) throw placed();
    for (const { metadata } of pods) {
      if (metadata.deletionTimestamp !== undefined) continue;
      const asSeen = { uid: metadata.uid, resourceVersion: metadata.resourceVersion };
      try {
        await client.delete(PODS, namespace, metadata.name ?? '', { ...asSeen, ...call });
      } catch (error) {
        if (isConflict(error)) throw placed();
        if (!isOutOfReach(error, snapshot.raw, this.#deps)) throw error;
      }
    }
    const options = { uid: jobUid, propagationPolicy: 'Background', ...call } as const;
    await this.#unlessGone(snapshot.raw, client.delete(JOBS, namespace, jobName, options));
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
    await this.#unlessGone(snapshot.raw,
      this.#deps.client.mergePatch(JOBS, namespace, action.jobName, patch, {
        fieldManager: FIELD_MANAGERS.objects,
        metadataOnly: true,
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
    if (pod !== undefined) await this.#unlessGone(snapshot.raw, releasePod(this.#deps.client, pod, call));
  }

  /** What is to be done to something that is gone is done. A conflict is the uid's precondition: another object of that name. */
  #unlessGone<T>(raw: RawEvaluation, call: Promise<T>): Promise<T | undefined> {
    return unlessOutOfReach(call, raw, this.#deps, isConflict);
  }
}

function leftOf(object: KubeObject | undefined): Left {
  return object === undefined ? { gone: true } : { version: object.metadata.resourceVersion };
}

function placed(): WaitingError {
  return new WaitingError(LOOK_AGAIN_SECONDS, 'PodPlaced', 'the pod got its node in the meantime');
}

function undefinedIfGone(error: unknown): undefined {
  if (isNotFound(error)) return undefined;
  throw error;
}
