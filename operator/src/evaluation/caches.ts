import { LABELS } from '@crucible/crds';
import {
  EVALUATIONS,
  EVALUATION_RUNTIMES,
  Informer,
  InformerSet,
  JOBS,
  NAMESPACES,
  PODS,
  RUNTIME_CLASSES,
} from '../kube/index.ts';
import type { KubeClient, KubeMetrics, KubeObject, ObjectCache } from '../kube/index.ts';
import type { Logger } from 'pino';
import type { Caches } from './gather.ts';
import type { Job, Namespace, Pod } from './objects.ts';
import { PodIndex } from './pod-index.ts';
import type { RawEvaluation } from './snapshot.ts';

export interface CacheOptions {
  readonly client: KubeClient;
  /** Where the operator has rights to Jobs and pods. */
  readonly namespaces: readonly string[];
  readonly logger: Logger;
  readonly metrics?: KubeMetrics;
}

/** Every watch of the operator. They run in every replica, so that one that takes over knows the cluster already. */
export class ClusterCaches implements Caches {
  readonly evaluations: ObjectCache<RawEvaluation>;
  readonly jobs: ObjectCache<Job>;
  readonly pods: PodIndex;
  readonly namespaces: ObjectCache<Namespace>;
  readonly runtimes: ObjectCache<KubeObject>;
  readonly runtimeClasses: ObjectCache<KubeObject>;
  readonly podCache: ObjectCache<Pod>;
  readonly #all: readonly ObjectCache<KubeObject>[];

  constructor({ client, namespaces, logger, metrics }: CacheOptions) {
    const common = { client, logger, metrics };
    const owned = { ...common, namespaces, labelSelector: LABELS.evaluationUid };
    this.evaluations = new Informer<RawEvaluation>({ ...common, resource: EVALUATIONS });
    this.namespaces = new Informer<Namespace>({ ...common, resource: NAMESPACES });
    this.runtimes = new Informer<KubeObject>({ ...common, resource: EVALUATION_RUNTIMES });
    this.runtimeClasses = new Informer<KubeObject>({ ...common, resource: RUNTIME_CLASSES });
    this.jobs = new InformerSet<Job>({ ...owned, resource: JOBS, transform: slimJob });
    this.podCache = new InformerSet<Pod>({ ...owned, resource: PODS, transform: slimPod });
    this.pods = new PodIndex(this.podCache);
    this.#all = [
      this.evaluations,
      this.namespaces,
      this.runtimes,
      this.runtimeClasses,
      this.jobs,
      this.podCache,
    ] as ObjectCache<KubeObject>[];
  }

  start(): void {
    for (const cache of this.#all) cache.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((cache) => cache.stop()));
  }

  async waitForSync(signal?: AbortSignal): Promise<void> {
    await Promise.all(this.#all.map((cache) => cache.waitForSync(signal)));
  }

  get synced(): boolean {
    return this.#all.every((cache) => cache.synced);
  }

  lastSyncAgeSeconds(): number {
    return Math.max(...this.#all.map((cache) => cache.lastSyncAgeSeconds()));
  }
}

/** Of a Job its template is large and only the sandbox's uid is ever looked at. */
function slimJob(raw: KubeObject): Job {
  const { apiVersion, kind, metadata, spec, status } = raw as Job;
  const runAsUser = spec?.template?.spec?.securityContext?.runAsUser;
  return {
    apiVersion,
    kind,
    metadata: slimMeta(metadata),
    spec: {
      ...(spec?.ttlSecondsAfterFinished !== undefined && { ttlSecondsAfterFinished: spec.ttlSecondsAfterFinished }),
      ...(spec?.suspend !== undefined && { suspend: spec.suspend }),
      ...(runAsUser !== undefined && { template: { spec: { securityContext: { runAsUser } } } }),
    },
    ...(status && { status }),
  };
}

function slimPod(raw: KubeObject): Pod {
  const { apiVersion, kind, metadata, spec, status } = raw as Pod;
  const { nodeName, activeDeadlineSeconds, runtimeClassName } = spec ?? {};
  return {
    apiVersion,
    kind,
    metadata: slimMeta(metadata),
    spec: {
      ...(nodeName !== undefined && { nodeName }),
      ...(activeDeadlineSeconds !== undefined && { activeDeadlineSeconds }),
      ...(runtimeClassName !== undefined && { runtimeClassName }),
    },
    ...(status && { status }),
  };
}

function slimMeta(metadata: KubeObject['metadata']): KubeObject['metadata'] {
  const { managedFields: _, ...kept } = metadata;
  return kept;
}
