import type { ApiServer } from '../integration/api-server.ts';
import type { Json } from './state.ts';

// Kueue as its documentation describes it from outside (kueue.x-k8s.io/v1beta1): a Workload for each suspended Job with
// the queue label, owned by that Job; conditions QuotaReserved, Admitted, Evicted, Preempted, Requeued; and the Job's
// spec.suspend. What it decides, the test decides.

const JOB_UID_LABEL = 'kueue.x-k8s.io/job-uid';
export const QUEUE_LABEL = 'kueue.x-k8s.io/queue-name';
const MERGE = 'application/merge-patch+json';
const POLL_MS = 50;
export const NO_QUOTA =
  "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default-flavor, 1 more needed";

const condition = {
  type: 'object',
  required: ['type', 'status', 'reason', 'message', 'lastTransitionTime'],
  properties: Object.fromEntries([
    ...['type', 'reason', 'message'].map((name) => [name, { type: 'string' }]),
    ['status', { type: 'string', enum: ['True', 'False', 'Unknown'] }],
    ['lastTransitionTime', { type: 'string', format: 'date-time' }],
    ['observedGeneration', { type: 'integer', format: 'int64' }],
  ]),
};

const SCHEMA = {
  type: 'object',
  properties: {
    spec: {
      type: 'object',
      properties: {
        active: { type: 'boolean', default: true },
        queueName: { type: 'string', maxLength: 253 },
        priority: { type: 'integer', format: 'int32' },
        podSets: {
          type: 'array',
          maxItems: 8,
          minItems: 1,
          items: {
            type: 'object',
            required: ['count', 'template'],
            properties: {
              name: { type: 'string', default: 'main', maxLength: 63 },
              count: { type: 'integer', format: 'int32', minimum: 0 },
              template: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
            },
          },
        },
      },
    },
    status: {
      type: 'object',
      properties: {
        conditions: { type: 'array', items: condition, 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] },
        admission: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        requeueState: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        admissionChecks: {
          type: 'array',
          items: {
            type: 'object',
            properties: { name: { type: 'string' }, state: { type: 'string' }, message: { type: 'string' }, lastTransitionTime: { type: 'string', format: 'date-time' } },
          },
        },
      },
    },
  },
};

export async function installWorkloads(api: ApiServer): Promise<void> {
  const names = { kind: 'Workload', listKind: 'WorkloadList', plural: 'workloads', singular: 'workload' };
  const { status, body } = await api.send('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: 'workloads.kueue.x-k8s.io',
      // The API server guards names under *.k8s.io; upstream has its pull request here.
      annotations: { 'api-approved.kubernetes.io': 'unapproved, for tests' },
    },
    spec: {
      group: 'kueue.x-k8s.io',
      names,
      scope: 'Namespaced',
      versions: [{ name: 'v1beta1', served: true, storage: true, subresources: { status: {} }, schema: { openAPIV3Schema: SCHEMA } }],
    },
  });
  if (status >= 300 && status !== 409) throw new Error(`the Workload CRD: ${status} ${body['message']}`);
}

export class PlayedKueue {
  readonly #api: ApiServer;
  readonly #namespace: string;
  /** What went wrong in playing; a test that ends with some proves nothing. */
  readonly failures: string[] = [];
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();

  constructor(api: ApiServer, namespace: string) {
    this.#api = api;
    this.#namespace = namespace;
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  async workloadOf(jobUid: string): Promise<Json | undefined> {
    const { body } = await this.#api.get(`${this.#workloads()}?labelSelector=${encodeURIComponent(`${JOB_UID_LABEL}=${jobUid}`)}`);
    return (body['items'] as Json[] | undefined)?.[0];
  }

  /** There is quota: reserved, admitted, and the Job may run. */
  async admit(job: Json): Promise<void> {
    await this.#conditions(job, [
      ['QuotaReserved', 'True', 'QuotaReserved', 'Quota reserved in ClusterQueue cluster-queue'],
      ['Admitted', 'True', 'Admitted', 'The workload is admitted'],
      ['Evicted', 'False', 'QuotaReserved', 'Previously: evicted'],
    ]);
    await this.#must('PATCH', this.#jobs(job['metadata'].name), { spec: { suspend: false } }, MERGE);
  }

  /** Its quota goes to a workload of higher priority. */
  async preempt(job: Json): Promise<void> {
    const message = 'Preempted to accommodate a workload (UID: 5515f7da, JobUID: UNKNOWN) due to prioritization in the ClusterQueue';
    await this.#conditions(job, [
      ['Evicted', 'True', 'Preempted', message],
      ['Preempted', 'True', 'InClusterQueue', message],
    ]);
    const stopping = { metadata: { annotations: { 'kueue.x-k8s.io/stopping': 'true' } }, spec: { suspend: true } };
    await this.#must('PATCH', this.#jobs(job['metadata'].name), stopping, MERGE);
    await this.#send('PATCH', `${this.#jobs(job['metadata'].name)}/status`, { status: { startTime: null } }, MERGE);
    await this.#send('PATCH', this.#jobs(job['metadata'].name), { metadata: { annotations: { 'kueue.x-k8s.io/stopping': null } } }, MERGE);
    await this.#conditions(job, [
      ['QuotaReserved', 'False', 'Pending', message],
      ['Admitted', 'False', 'NoReservation', 'The workload has no reservation'],
      ['Requeued', 'True', 'Preempted', message],
    ]);
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const { body } = await this.#api.get(`${this.#jobs()}?labelSelector=${QUEUE_LABEL}`);
      for (const job of (body['items'] ?? []) as Json[]) {
        await this.#takeUp(job).catch(async (error: unknown) => {
          // Deleted at this moment, and its Workload with it.
          if (!(await this.#isGone(job))) this.failures.push(String(error));
        });
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async #isGone({ metadata }: Json): Promise<boolean> {
    const { status, body } = await this.#api.get(this.#jobs(metadata.name));
    return status === 404 || body['metadata'].uid !== metadata.uid || body['metadata'].deletionTimestamp !== undefined;
  }

  async #takeUp(job: Json): Promise<void> {
    const { name, uid, labels, deletionTimestamp } = job['metadata'];
    if (deletionTimestamp !== undefined || (await this.workloadOf(uid)) !== undefined) return;
    const created = await this.#send('POST', this.#workloads(), {
      apiVersion: 'kueue.x-k8s.io/v1beta1',
      kind: 'Workload',
      metadata: {
        name: `job-${name}-${uid.slice(0, 5)}`,
        labels: { [JOB_UID_LABEL]: uid },
        finalizers: ['kueue.x-k8s.io/resource-in-use'],
        ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name, uid, controller: true, blockOwnerDeletion: true }],
      },
      spec: { queueName: labels[QUEUE_LABEL], podSets: [{ name: 'main', count: 1, template: job['spec'].template }] },
    });
    if (created.status >= 300) throw new Error(`the Workload: ${created.status} ${created.body['message']}`);
    // Upstream takes it off when the Job is over or gone; nothing of ours may depend on when.
    await this.#must('PATCH', this.#workloads(created.body['metadata'].name), { metadata: { finalizers: null } }, MERGE);
    await this.#conditions(job, [['QuotaReserved', 'False', 'Pending', NO_QUOTA]]);
  }

  async #conditions(job: Json, changes: [string, string, string, string][]): Promise<void> {
    const workload = await this.workloadOf(job['metadata'].uid);
    if (workload === undefined) throw new Error(`no Workload of ${job['metadata'].name}`);
    const old = (workload['status']?.conditions ?? []) as Json[];
    const lastTransitionTime = new Date().toISOString().replace(/\.\d{3}Z$/, 'Z');
    const fresh = changes.map(([type, status, reason, message]) => ({ type, status, reason, message, lastTransitionTime }));
    const conditions = [...old.filter(({ type }) => !fresh.some((one) => one.type === type)), ...fresh];
    await this.#must('PATCH', `${this.#workloads(workload['metadata'].name)}/status`, { status: { conditions } }, MERGE);
  }

  #workloads(name?: string): string {
    return `/apis/kueue.x-k8s.io/v1beta1/namespaces/${this.#namespace}/workloads${name === undefined ? '' : `/${name}`}`;
  }

  #jobs(name?: string): string {
    return `/apis/batch/v1/namespaces/${this.#namespace}/jobs${name === undefined ? '' : `/${name}`}`;
  }

  async #send(method: string, path: string, body: unknown, contentType?: string): Promise<{ status: number; body: Json }> {
    return await this.#api.send(method, path, body, contentType);
  }

  async #must(method: string, path: string, body: unknown, contentType?: string): Promise<void> {
    const response = await this.#send(method, path, body, contentType);
    if (response.status >= 300) throw new Error(`${method} ${path}: ${response.status} ${response.body['message']}`);
  }
}
