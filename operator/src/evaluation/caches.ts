import { LABELS, PAUSE_CONFIG_MAP } from '@crucible/crds';
import type { NetworkPolicy } from '../drill/policies.ts';
import { slimNode } from '../drill/nodes.ts';
import type { Node } from '../drill/nodes.ts';
import type { RawDrill } from '../drill/security-drills.ts';
import {
  CONFIG_MAPS,
  EVALUATIONS,
  EVALUATION_RUNTIMES,
  EVALUATION_SUITES,
  Informer,
  InformerSet,
  JOBS,
  NAMESPACES,
  NETWORK_POLICIES,
  NODES,
  PODS,
  RUNTIME_CLASSES,
  SECURITY_DRILLS,
  WORKLOADS,
} from '../kube/index.ts';
import type { KubeClient, KubeMetrics, KubeObject, ObjectCache } from '../kube/index.ts';
import type { Logger } from 'pino';
import type { Caches } from './gather.ts';
import { WorkloadIndex } from './kueue.ts';
import type { Workload } from './kueue.ts';
import type { ContainerSpec, Job, Namespace, Pod } from './objects.ts';
import { PauseSwitches } from './pause.ts';
import type { PauseConfigMap } from './pause.ts';
import { PodIndex } from './pod-index.ts';
import type { RawSuite } from '../suite/snapshot.ts';
import { EVALUATIONS_PER_PAGE, slimEvaluation } from './slim.ts';
import type { RawEvaluation } from './snapshot.ts';

export interface CacheOptions {
  readonly client: KubeClient;
  /** Where the operator has rights to Jobs and pods. */
  readonly namespaces: readonly string[];
  /** Crucible's own, where the switch is that pauses everything. */
  readonly ownNamespace?: string | undefined;
  readonly kueue?: boolean;
  readonly logger: Logger;
  readonly metrics?: KubeMetrics;
}

/** Every watch of the operator. They run in every replica, so that one that takes over knows the cluster already. */
export class ClusterCaches implements Caches {
  readonly evaluations: ObjectCache<RawEvaluation>;
  readonly suites: ObjectCache<RawSuite>;
  readonly jobs: ObjectCache<Job>;
  readonly pods: PodIndex;
  readonly namespaces: ObjectCache<Namespace>;
  readonly runtimes: ObjectCache<KubeObject>;
  readonly runtimeClasses: ObjectCache<KubeObject>;
  readonly podCache: ObjectCache<Pod>;
  readonly pauseSwitches: ObjectCache<PauseConfigMap>;
  readonly pauses: PauseSwitches;
  readonly workloadCache: ObjectCache<Workload> | undefined;
  readonly workloads: WorkloadIndex | undefined;
  readonly policies: ObjectCache<NetworkPolicy>;
  readonly nodes: ObjectCache<Node>;
  readonly drills: ObjectCache<RawDrill>;
  readonly #all: readonly ObjectCache<KubeObject>[];

  constructor({ client, namespaces, ownNamespace, kueue = false, logger, metrics }: CacheOptions) {
    const common = { client, logger, metrics };
    const gone = (namespace: string): boolean => this.namespaces.synced && this.namespaces.get(namespace) === undefined;
    const within = { ...common, namespaces, gone };
    const owned = { ...within, labelSelector: LABELS.evaluationUid };
    this.evaluations = new Informer<RawEvaluation>({ ...common, resource: EVALUATIONS, transform: slimEvaluation, pageSize: EVALUATIONS_PER_PAGE });
    this.suites = new Informer<RawSuite>({ ...common, resource: EVALUATION_SUITES });
    this.namespaces = new Informer<Namespace>({ ...common, resource: NAMESPACES });
    this.runtimes = new Informer<KubeObject>({ ...common, resource: EVALUATION_RUNTIMES });
    this.runtimeClasses = new Informer<KubeObject>({ ...common, resource: RUNTIME_CLASSES });
    this.jobs = new InformerSet<Job>({ ...owned, resource: JOBS, transform: slimJob });
    this.podCache = new InformerSet<Pod>({ ...owned, resource: PODS, transform: slimPod });
    this.pods = new PodIndex(this.podCache);
    this.pauseSwitches = new InformerSet<PauseConfigMap>({
      ...within,
      namespaces: [...new Set([...(ownNamespace === undefined ? [] : [ownNamespace]), ...namespaces])],
      // What is paused must not start because the switch could not be seen.
      needed: ownNamespace,
      resource: CONFIG_MAPS,
      fieldSelector: `metadata.name=${PAUSE_CONFIG_MAP}`,
    });
    this.pauses = new PauseSwitches(this.pauseSwitches, ownNamespace);
    // Nobody waits for its first list: it never comes where Kueue is not installed after all.
    this.workloadCache = kueue
      ? new InformerSet<Workload>({ ...within, resource: WORKLOADS, transform: slimWorkload })
      : undefined;
    this.workloads = this.workloadCache && new WorkloadIndex(this.workloadCache);
    this.policies = new InformerSet<NetworkPolicy>({ ...within, resource: NETWORK_POLICIES });
    this.nodes = new Informer<Node>({ ...common, resource: NODES, transform: slimNode });
    this.drills = new Informer<RawDrill>({ ...common, resource: SECURITY_DRILLS });
    this.#all = [
      this.evaluations,
      this.suites,
      this.namespaces,
      this.runtimes,
      this.runtimeClasses,
      this.jobs,
      this.podCache,
      this.pauseSwitches,
      this.policies,
      this.nodes,
      this.drills,
    ] as ObjectCache<KubeObject>[];
  }

  start(): void {
    for (const cache of this.#all) cache.start();
    this.workloadCache?.start();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#all, this.workloadCache].map((cache) => cache?.stop()));
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
  // What a receipt says of the pod's own isolation; not its volumes, which are all alike.
  const { nodeName, activeDeadlineSeconds, runtimeClassName, serviceAccountName, automountServiceAccountToken } =
    spec ?? {};
  const { hostUsers, securityContext, containers } = spec ?? {};
  return {
    apiVersion,
    kind,
    metadata: slimMeta(metadata),
    spec: {
      ...(nodeName !== undefined && { nodeName }),
      ...(activeDeadlineSeconds !== undefined && { activeDeadlineSeconds }),
      ...(runtimeClassName !== undefined && { runtimeClassName }),
      ...(serviceAccountName !== undefined && { serviceAccountName }),
      ...(automountServiceAccountToken !== undefined && { automountServiceAccountToken }),
      ...(hostUsers !== undefined && { hostUsers }),
      ...(securityContext !== undefined && { securityContext }),
      ...(containers !== undefined && { containers: containers.map(slimContainer) }),
    },
    ...(status && { status }),
  };
}

function slimContainer({ name, image, securityContext, resources }: ContainerSpec): ContainerSpec {
  const limits = resources?.limits;
  return {
    name,
    ...(image !== undefined && { image }),
    ...(securityContext !== undefined && { securityContext }),
    ...(limits !== undefined && { resources: { limits } }),
  };
}

/** Its pod template is as large as the Job's. */
function slimWorkload(raw: KubeObject): Workload {
  const { apiVersion, kind, metadata, spec, status } = raw as Workload;
  const { active, queueName } = spec ?? {};
  const { conditions, admissionChecks } = status ?? {};
  return {
    apiVersion,
    kind,
    metadata: slimMeta(metadata),
    spec: { ...(active !== undefined && { active }), ...(queueName !== undefined && { queueName }) },
    status: { ...(conditions && { conditions }), ...(admissionChecks && { admissionChecks }) },
  };
}

function slimMeta(metadata: KubeObject['metadata']): KubeObject['metadata'] {
  const { managedFields: _, ...kept } = metadata;
  return kept;
}
