/** Where a kind lives in the API. */
export type Resource = {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
};

function resource(group: string, version: string, plural: string, kind: string, namespaced = true): Resource {
  return { group, version, plural, kind, namespaced };
}

export const EVALUATIONS = resource('crucible.dev', 'v1alpha1', 'evaluations', 'Evaluation');
export const EVALUATION_RUNTIMES = resource(
  'crucible.dev',
  'v1alpha1',
  'evaluationruntimes',
  'EvaluationRuntime',
  false,
);
export const EVALUATION_SUITES = resource('crucible.dev', 'v1alpha1', 'evaluationsuites', 'EvaluationSuite');
export const SECURITY_DRILLS = resource('crucible.dev', 'v1alpha1', 'securitydrills', 'SecurityDrill', false);
export const JOBS = resource('batch', 'v1', 'jobs', 'Job');
export const PODS = resource('', 'v1', 'pods', 'Pod');
export const CONFIG_MAPS = resource('', 'v1', 'configmaps', 'ConfigMap');
export const EVENTS = resource('', 'v1', 'events', 'Event');
export const NAMESPACES = resource('', 'v1', 'namespaces', 'Namespace', false);
export const NODES = resource('', 'v1', 'nodes', 'Node', false);
export const RUNTIME_CLASSES = resource('node.k8s.io', 'v1', 'runtimeclasses', 'RuntimeClass', false);
export const NETWORK_POLICIES = resource('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy');
export const LEASES = resource('coordination.k8s.io', 'v1', 'leases', 'Lease');

/** Kueue's; v1beta2 is the same in what we read, and every version with it still serves this one. */
export const WORKLOADS = resource('kueue.x-k8s.io', 'v1beta1', 'workloads', 'Workload');

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

/** Raw JSON as the API server sends it: times are RFC 3339 strings, never Dates. */
export interface ObjectMeta {
  name?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
  managedFields?: unknown[];
}

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

export interface KubeList<T extends KubeObject> {
  /** Of the list as a whole: a watch may start here. */
  resourceVersion: string;
  items: T[];
}

export function apiVersionOf(res: Resource): string {
  return res.group === '' ? res.version : `${res.group}/${res.version}`;
}

/** The key of an object everywhere in this code base: `namespace/name`, or `name` of a cluster-scoped object. */
export function keyOf(object: { metadata: ObjectMeta }): string {
  return makeKey(object.metadata.namespace, object.metadata.name ?? '');
}

export function makeKey(namespace: string | undefined, name: string): string {
  return namespace ? `${namespace}/${name}` : name;
}

export function splitKey(key: string): { namespace: string | undefined; name: string } {
  const slash = key.indexOf('/');
  return slash < 0
    ? { namespace: undefined, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** The path of a collection, an object or its subresource, every part escaped. */
export function resourcePath(res: Resource, namespace?: string, name?: string, subresource?: string): string {
  const parts = res.group === '' ? ['api', res.version] : ['apis', res.group, res.version];
  if (namespace !== undefined && namespace !== '' && res.namespaced) parts.push('namespaces', namespace);
  parts.push(res.plural);
  if (name !== undefined) {
    // An empty name would turn "delete one" into "delete the collection".
    if (name === '') throw new TypeError(`empty name for ${res.plural}`);
    parts.push(name);
  }
  if (subresource !== undefined) parts.push(subresource);
  return '/' + parts.map(encodeURIComponent).join('/');
}
