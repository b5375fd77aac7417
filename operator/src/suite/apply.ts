import { FIELD_MANAGERS, LABELS, LIMITS, SUITE_FINALIZER, clip } from '@crucible/crds';
import type { SuiteRepository } from '@crucible/storage';
import { WaitingError } from '../controller/index.ts';
import type { Namespace } from '../evaluation/objects.ts';
import { unlessOutOfReach } from '../evaluation/reach.ts';
import type { ReachDependencies } from '../evaluation/reach.ts';
import { listIdentities } from '../evaluation/slim.ts';
import type { RawEvaluation } from '../evaluation/snapshot.ts';
import {
  EVALUATIONS,
  EVALUATION_SUITES,
  isAlreadyExists,
  isConflict,
  isForbidden,
  isInvalid,
  isNotFound,
  isQuotaExceeded,
} from '../kube/index.ts';
import type { CallOptions, KubeClient, ObjectCache } from '../kube/index.ts';
import type { SuiteAction } from './actions.ts';
import { buildRun } from './run.ts';
import type { Obstacle, RawSuite, Run, SuiteSnapshot } from './snapshot.ts';

/** For the watch to bring what the API server said. */
const LOOK_AGAIN_SECONDS = 1;

export interface SuiteApplyDependencies extends ReachDependencies {
  readonly client: KubeClient;
  readonly caches: { readonly namespaces: ObjectCache<Namespace> };
  readonly suites: SuiteRepository;
  /** The leader's epoch, the fence of every write to the record. */
  readonly epoch: () => number;
}

/** The API server would take none of the runs as they are: nothing changes that but another suite. */
export class TemplateRefusedError extends Error {
  override readonly name = 'TemplateRefusedError';
}

/** The API server does not take this run now, and may later. */
export class CreationRefusedError extends Error {
  override readonly name = 'CreationRefusedError';
  readonly obstacle: Obstacle;

  constructor(obstacle: Obstacle, options?: ErrorOptions) {
    super(obstacle.message, options);
    this.obstacle = obstacle;
  }
}

/** Carries out a plan, action by action; the first failure ends it. Every action may be repeated. */
export class SuiteApplier {
  readonly #deps: SuiteApplyDependencies;

  constructor(deps: SuiteApplyDependencies) {
    this.#deps = deps;
  }

  /** The suite as the actions left it: the version is what a status may be written on. */
  async apply(snapshot: SuiteSnapshot, actions: readonly SuiteAction[], signal: AbortSignal): Promise<SuiteSnapshot> {
    let version = snapshot.raw.metadata.resourceVersion;
    for (const action of actions) {
      signal.throwIfAborted();
      if (action.type === 'addFinalizer') version = await this.#addFinalizer(snapshot.raw, { signal });
      else await this.#perform(snapshot, action, { signal });
    }
    const metadata = { ...snapshot.raw.metadata, ...(version !== undefined && { resourceVersion: version }) };
    return { ...snapshot, raw: { ...snapshot.raw, metadata } };
  }

  async #perform(snapshot: SuiteSnapshot, action: Exclude<SuiteAction, { type: 'addFinalizer' }>, call: CallOptions): Promise<void> {
    const { client, suites, epoch } = this.#deps;
    const { namespace = '', uid = '' } = snapshot.raw.metadata;
    switch (action.type) {
      case 'tryTemplate':
        return await this.#tryTemplate(snapshot, action.run, call);
      case 'removeFinalizer':
        return await this.#removeFinalizer(snapshot.raw, call);
      case 'recordSuite':
        return await this.#recordSuite(snapshot);
      case 'addRun': {
        const { run, name, uid: evaluationUid } = action;
        return await suites.addRun({ uid, epoch: epoch(), ...run, evaluationUid, evaluationName: name });
      }
      case 'confirmAbsent':
        return await this.#confirmAbsent(snapshot.raw, action.names, call);
      case 'createRun':
        return await this.#createRun(snapshot, action.run, call);
      case 'cancelRun': {
        const patch = { metadata: { uid: action.uid }, spec: { cancel: true } };
        const options = { fieldManager: FIELD_MANAGERS.objects, ...call };
        return await this.#unlessGone(snapshot.raw, client.mergePatch(EVALUATIONS, namespace, action.name, patch, options));
      }
      case 'deleteRun': {
        const options = { uid: action.uid, propagationPolicy: 'Background', ...call } as const;
        return await this.#unlessGone(snapshot.raw, client.delete(EVALUATIONS, namespace, action.name, options));
      }
    }
  }

  /** A conflict is another one of that name. */
  async #unlessGone(raw: RawSuite, call: Promise<unknown>): Promise<void> {
    await unlessOutOfReach(call, raw, this.#deps, isConflict);
  }

  async #tryTemplate(snapshot: SuiteSnapshot, run: Run, call: CallOptions): Promise<void> {
    const options = { fieldManager: FIELD_MANAGERS.objects, dryRun: true, ...call };
    try {
      await this.#deps.client.create(EVALUATIONS, evaluationOf(snapshot, run), options);
    } catch (error) {
      if (isAlreadyExists(error)) return;
      if (isInvalid(error))
        throw new TemplateRefusedError(`The API server would refuse the Evaluations: ${(error as Error).message}`, {
          cause: error,
        });
      throw refused(error);
    }
  }

  async #createRun(snapshot: SuiteSnapshot, run: Run, call: CallOptions): Promise<void> {
    const { client, suites, epoch } = this.#deps;
    const { namespace = '', uid = '' } = snapshot.raw.metadata;
    let created: RawEvaluation;
    try {
      const options = { fieldManager: FIELD_MANAGERS.objects, ...call };
      created = await client.create<RawEvaluation>(EVALUATIONS, evaluationOf(snapshot, run), options);
    } catch (error) {
      if (!isAlreadyExists(error)) throw refused(error);
      created = await client.get<RawEvaluation>(EVALUATIONS, namespace, run.name, call);
      if (created.metadata.labels?.[LABELS.suiteUid] !== uid) {
        const message = `There is an Evaluation ${run.name} that does not belong to the suite. Delete it.`;
        throw new CreationRefusedError({ reason: 'NameTaken', message });
      }
    }
    const { cell, sample, name } = run;
    await suites.addRun({ uid, epoch: epoch(), cell, sample, evaluationUid: created.metadata.uid ?? '', evaluationName: name });
  }

  async #confirmAbsent({ metadata }: RawSuite, names: readonly string[], call: CallOptions): Promise<void> {
    const { namespace = '', uid = '' } = metadata;
    const items = await listIdentities(this.#deps.client, { namespace, labelSelector: `${LABELS.suiteUid}=${uid}`, ...call });
    const absent = new Set(names);
    if (items.some(({ metadata: { name = '' } }) => absent.has(name)))
      throw new WaitingError(LOOK_AGAIN_SECONDS, 'RunUnseen', 'a run exists that the watch has not brought yet');
  }

  async #recordSuite({ raw, suite, cells }: SuiteSnapshot): Promise<void> {
    const { uid = '', namespace = '', name = '', generation = 1, labels, creationTimestamp } = raw.metadata;
    await this.#deps.suites.upsertAccepted({
      uid,
      namespace,
      namespaceUid: this.#deps.caches.namespaces.get(namespace)?.metadata.uid ?? '',
      name,
      generation,
      spec: raw.spec as object,
      ...(labels && { labels }),
      phase: 'Pending',
      cells: cells.map((cell) => Object.fromEntries(cell)),
      samples: suite?.spec.samples ?? 1,
      createdAt: new Date(creationTimestamp ?? 0),
      epoch: this.#deps.epoch(),
    });
  }

  async #addFinalizer({ metadata }: RawSuite, call: CallOptions): Promise<string | undefined> {
    const { namespace, name = '', uid, finalizers, resourceVersion } = metadata;
    // The resourceVersion makes it a compare-and-set: the list is replaced as a whole, and others keep theirs in it.
    const patch = { metadata: { uid, resourceVersion, finalizers: [...(finalizers ?? []), SUITE_FINALIZER] } };
    const options = { fieldManager: FIELD_MANAGERS.objects, ...call };
    const patched = await this.#deps.client.mergePatch<RawSuite>(EVALUATION_SUITES, namespace, name, patch, options);
    return patched.metadata.resourceVersion;
  }

  async #removeFinalizer({ metadata }: RawSuite, call: CallOptions): Promise<void> {
    const { namespace, name = '', uid, finalizers = [] } = metadata;
    const path = `/metadata/finalizers/${finalizers.indexOf(SUITE_FINALIZER)}`;
    const patch = [
      { op: 'test', path: '/metadata/uid', value: uid },
      { op: 'test', path, value: SUITE_FINALIZER },
      { op: 'remove', path },
    ] as const;
    const options = { fieldManager: FIELD_MANAGERS.objects, ...call };
    await this.#deps.client.jsonPatch(EVALUATION_SUITES, namespace, name, [...patch], options).catch((error: unknown) => {
      // Gone, or another suite of that name.
      if (!isNotFound(error)) throw error;
    });
  }
}

function evaluationOf(snapshot: SuiteSnapshot, run: Run): RawEvaluation {
  const cell = snapshot.cells[run.cell - 1];
  if (snapshot.suite === undefined || cell === undefined) throw new Error('a run of a suite that cannot be read');
  return buildRun(snapshot.suite, run, cell) as RawEvaluation;
}

/** What passes by itself becomes something the status says; the rest is an error to back off from. */
function refused(error: unknown): unknown {
  const said = (error as Error).message;
  // Its own words hold the present count, which would be another message each time.
  if (isQuotaExceeded(error)) {
    const quota = /exceeded quota: ([^,]+),/.exec(said)?.[1];
    const message = `The quota ${quota === undefined ? '' : `${quota} `}of the namespace lets no further Evaluation be created; it goes on when there is room.`;
    return new CreationRefusedError({ reason: 'QuotaExceeded', message }, { cause: error });
  }
  if (isForbidden(error) || isInvalid(error)) {
    const message = clip(`The API server does not let the next Evaluation be created: ${said}`, LIMITS.suiteMessageCharacters);
    return new CreationRefusedError({ reason: 'CreationRefused', message }, { cause: error });
  }
  return error;
}
