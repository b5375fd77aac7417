import { isDeepStrictEqual } from 'node:util';
import { FIELD_MANAGERS, LABELS } from '@crucible/crds';
import type { AttemptRepository } from '@crucible/storage';
import { WaitingError } from '../controller/index.ts';
import { CONFIG_MAPS, JOBS, isAlreadyExists, isForbidden, isInvalid, isNamespaceTerminating } from '../kube/index.ts';
import type { CallOptions, KubeClient, KubeObject, Resource } from '../kube/index.ts';
import type { Action } from './actions.ts';
import type { AttemptIdentity } from './job.ts';
import { EPOCH_ANNOTATION, buildConfigMap, buildJob, hasTermsOf } from './job.ts';
import { uidOf } from './objects.ts';
import { allocateUid } from './sandbox-uid.ts';
import type { Settings } from './settings.ts';
import type { Snapshot } from './snapshot.ts';

export interface LaunchDependencies {
  readonly client: KubeClient;
  readonly attempts: AttemptRepository;
  readonly settings: Settings;
  readonly epoch: () => number;
  /** Of the sandboxes that run at this moment. */
  readonly sandboxUids: Pick<ReadonlySet<number>, 'has' | 'size'>;
}

/** The Evaluation as a plan left it: at which version, or that it is gone. */
export interface Left {
  readonly version?: string | undefined;
  readonly gone?: boolean;
}

/** By then this leader knows that it is none. */
const FENCED_RETRY_SECONDS = 15;

/** Makes the objects of an attempt. */
export class AttemptLauncher {
  readonly #deps: LaunchDependencies;

  constructor(deps: LaunchDependencies) {
    this.#deps = deps;
  }

  async createConfigMap(
    snapshot: Snapshot,
    { number, run }: Extract<Action, { type: 'createConfigMap' }>,
    call: CallOptions,
  ): Promise<void> {
    const wanted = buildConfigMap(run, identityOf(snapshot, number), this.#deps.settings.sandbox);
    const fits = (existing: KubeObject): boolean => {
      if (sameContent(existing, wanted)) return true;
      // There may be a Job of it: the record was not asked.
      if (snapshot.record !== 'unavailable' && snapshot.record.assumed === true)
        throw new WaitingError(0, 'Begun', 'the evaluation has been begun already');
      return false;
    };
    await refusable(this.#createOnce(CONFIG_MAPS, wanted, call, fits));
  }

  async launch(
    snapshot: Snapshot,
    { number, run }: Extract<Action, { type: 'launch' }>,
    call: CallOptions,
  ): Promise<void> {
    const { settings, attempts, epoch } = this.#deps;
    const { uid = '' } = snapshot.raw.metadata;
    const identity = identityOf(snapshot, number);
    const sandboxUid = allocateUid(settings.sandbox.uids, { uid, number }, this.#deps.sandboxUids);
    const wanted = buildJob({ run, identity, sandboxUid, settings: settings.sandbox, patience: settings.patience });
    const terms = { image: run.image, runtimeClass: run.runtimeClassName ?? null, timeoutSeconds: run.timeoutSeconds };
    const job = await refusable(this.#createOnce(JOBS, wanted, call, (existing) => hasTermsOf(existing, terms)));
    // Only from here on does the recorder trust the Job's pods.
    await attempts.setJob({ evaluationUid: uid, number, jobUid: uidOf(job), epoch: epoch() });
  }

  /**
   * Not applied: what is there already was made by an earlier try and is never changed (a second one would suspend again
   * what Kueue has started meanwhile), and to the API server an apply costs twice as much. Unless it does not fit what is launched
   * now: the try may have been long ago, or of somebody who no longer led, and its runtime another one. As no Job of the attempt is
   * recorded yet, nothing of it has counted. What a later leader has made is never touched, whoever still believes that he leads.
   */
  async #createOnce(resource: Resource, made: KubeObject, call: CallOptions, fits: (existing: KubeObject) => boolean): Promise<KubeObject> {
    const { client } = this.#deps;
    const epoch = this.#deps.epoch();
    const annotations = { ...made.metadata.annotations, [EPOCH_ANNOTATION]: String(epoch) };
    const wanted = { ...made, metadata: { ...made.metadata, annotations } };
    const { namespace, name = '', labels } = wanted.metadata;
    const create = (): Promise<KubeObject> =>
      client.create(resource, wanted, { fieldManager: FIELD_MANAGERS.objects, metadataOnly: true, ...call });
    try {
      return await create();
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const existing = await client.get<KubeObject>(resource, namespace, name, call);
      const owner = LABELS.evaluationUid;
      if (existing.metadata.labels?.[owner] !== labels?.[owner])
        throw new Error(`a ${resource.kind} of the name ${name} belongs to another evaluation`, { cause: error });
      if (Number(existing.metadata.annotations?.[EPOCH_ANNOTATION] ?? 0) > epoch)
        throw new WaitingError(FENCED_RETRY_SECONDS, 'Fenced', 'a later leader has begun it');
      if (fits(existing)) return existing;
      await client.delete(resource, namespace, name, { uid: uidOf(existing), propagationPolicy: 'Background', ...call });
      return await create();
    }
  }
}

function sameContent(existing: KubeObject, wanted: KubeObject): boolean {
  const content = ({ data, binaryData }: KubeObject & { data?: object; binaryData?: object }): object => ({ data, binaryData });
  return isDeepStrictEqual(content(existing), content(wanted));
}

function identityOf({ raw }: Snapshot, attempt: number): AttemptIdentity {
  const { namespace = '', name = '', uid = '' } = raw.metadata;
  return { namespace, name, uid, attempt };
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
