import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildJob } from '../../operator/src/evaluation/job.ts';
import type { ApiResponse, ApiServer } from './api-server.ts';
import { ChartCluster, RELEASE, RELEASE_NAMESPACE, eventually, lintChart, renderChart } from './chart.ts';
import type { Manifest } from './chart.ts';

const MI = 1024 * 1024;
const DRY_RUN = '?dryRun=All&fieldValidation=Strict';
const PODS = '/api/v1/namespaces/evals/pods';
const JOBS = '/apis/batch/v1/namespaces/evals/jobs';
const STRATEGIC = 'application/strategic-merge-patch+json';
const RESTRICTED = { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } };
const evaluationsIn = (namespace: string): string => `/apis/crucible.dev/v1alpha1/namespaces/${namespace}/evaluations`;
const HELLO = { apiVersion: 'crucible.dev/v1alpha1', kind: 'Evaluation', metadata: { name: 'hello' }, spec: { runtime: 'python', code: 'print(1)' } };

let cluster: ChartCluster;
let admin: ApiServer;
let operator: ApiServer;
let researcher: ApiServer;
/** Kubernetes' own, the only one who may make pods. */
let jobController: ApiServer;
/** May do everything that RBAC can give, so that what stops it is admission. */
let almighty: ApiServer;
let manifests: Manifest[];

beforeAll(async () => {
  cluster = await ChartCluster.start();
  admin = cluster.admin;
  cluster.install('--set', 'evaluationNamespaceDefaults.researcher=true');
  manifests = cluster.manifests();
  operator = await cluster.as(RELEASE_NAMESPACE, 'crucible-operator');
  researcher = await cluster.as('evals', 'researcher');
  jobController = await cluster.as('kube-system', 'job-controller');
  almighty = await cluster.as('default', 'almighty');
  await admin.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: 'almighty' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', name: 'almighty', namespace: 'default' }],
  });
  await eventually('the policies are in force', async () => {
    const answers = [
      await almighty.create(`${evaluationsIn('default')}${DRY_RUN}`, HELLO),
      await almighty.create(`${JOBS}${DRY_RUN}`, sandboxJob('probe')),
      await almighty.create(`${PODS}${DRY_RUN}`, sandboxPod()),
    ];
    return answers.every(({ status }) => status === 403);
  });
}, 180_000);

afterAll(async () => {
  await cluster?.stop();
});

/** As the operator makes it, so that the policies and the operator cannot drift apart. */
function sandboxJob(name: string, launcherIncluded = true): Record<string, any> {
  return buildJob({
    run: {
      image: 'docker.io/crucible/runtime-python:1', command: ['python3', '/crucible/code/main.py'], launcherIncluded, env: {},
      files: [{ path: 'main.py', content: 'print(1)' }], stdin: '', cpuMilli: 1000, memoryBytes: 256 * MI, diskBytes: 64 * MI,
      timeoutSeconds: 60, streamBytes: MI, artifacts: undefined, runtimeClassName: undefined, queue: undefined,
    },
    identity: { namespace: 'evals', name, uid: '8c0bd4d2-6b3c-4f0e-9f8e-0c8de3e0a001', attempt: 1 },
    sandboxUid: 20_001,
    settings: {
      runtimeClassName: undefined, launcherImage: 'docker.io/crucible/launcher:1', serviceAccountName: 'crucible-sandbox',
      imagePullPolicy: 'IfNotPresent', imagePullSecrets: [], uids: { first: 20_000, last: 29_999 }, cpuRequestPercent: 25,
      memoryOverheadBytes: 32 * MI, tmpBytes: 16 * MI, shmBytes: 16 * MI, ephemeralStorageBytes: 32 * MI, processes: 128,
      openFiles: 1024, graceSeconds: 5, strictSupplementalGroups: true,
    },
    patience: { startUp: 120, imagePull: 60, unschedulable: 60, quota: 60, refused: 60, lostCapture: 60 },
  });
}

function sandboxPod(change: (pod: any) => void = () => undefined, launcherIncluded = true): Record<string, any> {
  const template = structuredClone((sandboxJob('pod', launcherIncluded)['spec'] as any).template);
  const pod = { apiVersion: 'v1', kind: 'Pod', ...template, metadata: { name: 'pod', ...template.metadata } };
  change(pod);
  return pod;
}

function expectStatus(response: ApiResponse, status: number, message = ''): void {
  expect(response.status, response.body['message']).toBe(status);
  expect(response.body['message'] ?? '').toContain(message);
}

describe('rendering', () => {
  test('lints, with the defaults and with everything external', () => {
    lintChart();
    lintChart('--set', 'postgres.embedded.enabled=false,postgres.external.existingSecret=pg,redis.embedded.enabled=false');
  });

  test.each([
    ['an unknown value', 'nonsense=1', 'nonsense'],
    ['a wrong type', 'operator.replicas=many', 'replicas'],
    ['a namespace that cannot be one', 'evaluationNamespaces[0].name=Evals', 'Evals'],
    ['an external Postgres without its Secret', 'postgres.embedded.enabled=false', 'postgres.external.existingSecret'],
    ['a runtime without image', 'runtimes.perl.enabled=true,runtimes.perl.spec.command={perl},runtimes.perl.spec.entryFile=a.pl', 'runtimes.perl.image'],
  ])('refuses %s', (_, setting, message) => {
    expect(() => renderChart('--set', setting)).toThrow(message);
  });

  test('with an external Postgres and no Redis nothing of the embedded ones is left', () => {
    const external = renderChart('--set', 'postgres.embedded.enabled=false,postgres.external.existingSecret=pg,redis.embedded.enabled=false');
    expect(external.filter(({ kind }) => kind === 'StatefulSet' || kind === 'Secret')).toEqual([]);
    expect(JSON.stringify(external)).not.toContain('crucible-postgres');
    expect(JSON.stringify(external)).not.toContain('crucible-redis');
  });

  test("only Postgres and the migration get the owner's password", () => {
    const users = manifests.flatMap((manifest) => {
      const spec = manifest['spec']?.template?.spec;
      if (spec === undefined) return [];
      const containers = [...spec.containers, ...(spec.initContainers ?? [])];
      const owners = containers.filter((container) => JSON.stringify(container.env ?? []).includes('crucible_owner')).map(({ name }) => name);
      return JSON.stringify(spec.volumes).includes('crucible_owner') ? [...owners, manifest.metadata.name] : owners;
    });
    expect(users.sort()).toEqual(['crucible-postgres', 'migrate']);
  });
});

describe('the installed release', () => {
  test('every pod of it satisfies Pod Security restricted, and the API server knows every field', async () => {
    await admin.mergePatch(`/api/v1/namespaces/${RELEASE_NAMESPACE}`, { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } } });
    const workloads = manifests.filter(({ kind }) => kind === 'Deployment' || kind === 'StatefulSet');
    expect(workloads.map(({ metadata }) => metadata.name).sort()).toEqual(['crucible-operator', 'crucible-postgres', 'crucible-recorder', 'crucible-redis']);
    for (const { metadata, spec } of workloads) {
      const template = structuredClone(spec.template);
      // A StatefulSet's claim becomes a volume of the pod.
      for (const claim of spec.volumeClaimTemplates ?? []) template.spec.volumes.push({ name: claim.metadata.name, emptyDir: {} });
      const pod = { apiVersion: 'v1', kind: 'Pod', ...template, metadata: { ...template.metadata, name: metadata.name } };
      expectStatus(await admin.create(`/api/v1/namespaces/${RELEASE_NAMESPACE}/pods${DRY_RUN}`, pod), 201);
      for (const container of [...template.spec.containers, ...(template.spec.initContainers ?? [])]) {
        expect(container.securityContext.readOnlyRootFilesystem, container.name).toBe(true);
        expect(Object.keys(container.resources.limits), container.name).toEqual(expect.arrayContaining(['cpu', 'memory']));
      }
    }
  });

  test('has policies whose expressions pass type checking', async () => {
    const path = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies';
    const checked = async (): Promise<any[]> => (await admin.get(path)).body['items'];
    await eventually('type checking', async () => (await checked()).every(({ status }) => status?.observedGeneration !== undefined));
    const warnings = (await checked()).flatMap(({ metadata, status }) =>
      (status.typeChecking?.expressionWarnings ?? []).map(({ fieldRef, warning }: any) => `${metadata.name} ${fieldRef}: ${warning}`));
    expect(warnings).toEqual([]);
    expect(await checked()).toHaveLength(5);
  });

  test('enables the evaluation namespace and denies all traffic in it', async () => {
    const namespace = (await admin.get('/api/v1/namespaces/evals')).body;
    expect(namespace['metadata'].labels).toMatchObject({ 'crucible.dev/evaluations': 'enabled', 'pod-security.kubernetes.io/enforce': 'restricted' });
    const policy = (await admin.get('/apis/networking.k8s.io/v1/namespaces/evals/networkpolicies/crucible-default-deny')).body;
    expect(policy['spec']).toEqual({ podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
  });

  test.each(['python', 'node', 'bash'])('has the runtime %s, as its schema wants it', async (name) => {
    const { apiVersion, kind, metadata, spec } = (await admin.get(`/apis/crucible.dev/v1alpha1/evaluationruntimes/${name}`)).body;
    const copy = { apiVersion, kind, metadata: { name: `${metadata.name}-copy` }, spec };
    expectStatus(await admin.create(`/apis/crucible.dev/v1alpha1/evaluationruntimes${DRY_RUN}`, copy), 201);
    expect(spec.launcher).toBe('Included');
    const rendered = manifests.find((manifest) => manifest.kind === 'EvaluationRuntime' && manifest.metadata.name === name);
    expect(spec).toEqual(rendered?.['spec']);
  });
});

describe('rights', () => {
  const OPERATOR = 'crucible-system/crucible-operator';
  const RECORDER = 'crucible-system/crucible-recorder';
  const RESEARCHER = 'evals/researcher';
  test.each([
    [OPERATOR, 'create', 'batch', 'jobs', 'evals', true],
    [OPERATOR, 'create', 'batch', 'jobs', 'default', false],
    [OPERATOR, 'patch', '', 'pods', 'evals', true],
    [OPERATOR, 'delete', '', 'pods', 'evals', false],
    [OPERATOR, 'create', '', 'pods', 'evals', false],
    [OPERATOR, 'get', '', 'pods/log', 'evals', false],
    [OPERATOR, 'create', '', 'pods/exec', 'evals', false],
    [OPERATOR, 'get', '', 'secrets', 'evals', false],
    [OPERATOR, 'get', '', 'secrets', 'crucible-system', false],
    [OPERATOR, 'create', '', 'configmaps', 'evals', true],
    [OPERATOR, 'create', '', 'configmaps', 'crucible-system', false],
    [OPERATOR, 'patch', 'crucible.dev', 'evaluations/status', 'default', true],
    [OPERATOR, 'watch', 'node.k8s.io', 'runtimeclasses', '', true],
    [OPERATOR, 'create', 'coordination.k8s.io', 'leases', 'crucible-system', true],
    [OPERATOR, 'update', 'coordination.k8s.io', 'leases', 'crucible-system', false],
    [OPERATOR, 'update', 'coordination.k8s.io', 'leases', 'kube-system', false],
    [RECORDER, 'get', '', 'pods/log', 'evals', true],
    [RECORDER, 'get', '', 'pods/log', 'default', false],
    [RECORDER, 'watch', '', 'pods', 'evals', true],
    [RECORDER, 'patch', '', 'pods', 'evals', false],
    [RECORDER, 'get', 'crucible.dev', 'evaluations', 'evals', false],
    [RESEARCHER, 'create', 'crucible.dev', 'evaluations', 'evals', true],
    [RESEARCHER, 'create', 'crucible.dev', 'evaluations', 'default', false],
    [RESEARCHER, 'patch', 'crucible.dev', 'evaluations/status', 'evals', false],
    [RESEARCHER, 'list', 'crucible.dev', 'evaluationruntimes', '', true],
    [RESEARCHER, 'get', '', 'pods/log', 'evals', false],
  ])('%s: %s %s/%s in "%s": %s', async (account, verb, group, resource, namespace, allowed) => {
    const [plural, subresource] = resource.split('/');
    const [accountNamespace, name] = account.split('/');
    const { body } = await admin.create('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: {
        user: `system:serviceaccount:${accountNamespace}:${name}`,
        groups: ['system:serviceaccounts', 'system:authenticated'],
        resourceAttributes: { verb, group, resource: plural, ...(subresource && { subresource }), namespace },
      },
    });
    expect(body['status'].allowed).toBe(allowed);
  });
});

describe('evaluations', () => {
  test('are admitted in an enabled namespace', async () => {
    expectStatus(await researcher.create(`${evaluationsIn('evals')}${DRY_RUN}`, HELLO), 201);
  });
  test('are refused elsewhere, saying how to enable it', async () => {
    const response = await almighty.create(`${evaluationsIn('default')}${DRY_RUN}`, HELLO);
    expectStatus(response, 403, 'namespace default is not enabled for evaluations');
    expectStatus(response, 403, 'evaluationNamespaces in the values of the Helm release crucible in crucible-system');
  });
});

describe('jobs in an evaluation namespace', () => {
  test("the operator's Job gets its pod from Kubernetes' own job controller", async () => {
    const job = sandboxJob('real');
    expectStatus(await operator.apply(`${JOBS}/${job['metadata'].name}`, job), 201);
    const selector = `${PODS}?labelSelector=batch.kubernetes.io/job-name=${job['metadata'].name}`;
    await eventually('the pod', async () => (await admin.get(selector)).body['items'].length === 1);
    const [pod] = (await admin.get(selector)).body['items'];
    expectStatus(await operator.mergePatch(`${PODS}/${pod.metadata.name}`, { spec: { activeDeadlineSeconds: 1 } }), 200);
    const without = { metadata: { finalizers: pod.metadata.finalizers.filter((name: string) => name !== 'crucible.dev/capture') } };
    expectStatus(await almighty.mergePatch(`${PODS}/${pod.metadata.name}`, without), 403, "the pod's output may be lost");
    expectStatus(await almighty.mergePatch(`${PODS}/${pod.metadata.name}`, { metadata: { labels: { 'crucible.dev/attempt': '2' } } }), 403, 'labels of a pod cannot be changed');
    const image = { spec: { containers: [{ name: 'sandbox', image: 'another' }] } };
    expectStatus(await almighty.send('PATCH', `${PODS}/${pod.metadata.name}`, image, STRATEGIC), 403, 'cancel the Evaluation');
    expectStatus(await almighty.mergePatch(`${JOBS}/${job['metadata'].name}`, { spec: { suspend: true } }), 403, 'cancel the Evaluation');
    expectStatus(await operator.mergePatch(`${JOBS}/${job['metadata'].name}`, { spec: { ttlSecondsAfterFinished: 5 } }), 200);
    expectStatus(await operator.mergePatch(`${PODS}/${pod.metadata.name}`, without), 200);
  });

  test.each(['almighty', 'admin'])('nobody else creates them: %s', async (who) => {
    const response = await (who === 'admin' ? admin : almighty).create(`${JOBS}${DRY_RUN}`, sandboxJob('forged'));
    expectStatus(response, 403, 'apply an Evaluation instead');
  });
});

describe('pods in an evaluation namespace', () => {
  const create = (pod: object): Promise<ApiResponse> => jobController.create(`${PODS}${DRY_RUN}`, pod);
  const container = (pod: any): any => pod.spec.containers[0];

  test.each([true, false])("the operator's are admitted, with launcher included: %s", async (included) => {
    expectStatus(await create(sandboxPod(undefined, included)), 201);
  });
  test('only from the job controller', async () => {
    expectStatus(await almighty.create(`${PODS}${DRY_RUN}`, sandboxPod()), 403, 'is not the job controller');
  });

  const REFUSED: [string, (pod: any) => void, string][] = [
    ['no sandbox label', (pod) => delete pod.metadata.labels['crucible.dev/sandbox'], 'carries the labels'],
    ['no finalizer', (pod) => delete pod.metadata.finalizers, 'has the finalizer'],
    ['host network', (pod) => (pod.spec.hostNetwork = true), ''],
    ['host processes', (pod) => (pod.spec.hostPID = true), ''],
    ['shared processes', (pod) => (pod.spec.shareProcessNamespace = true), 'shares no namespace'],
    ['a token', (pod) => (pod.spec.automountServiceAccountToken = true), 'no service account token'],
    ['a token by default', (pod) => delete pod.spec.automountServiceAccountToken, 'no service account token'],
    ['another service account', (pod) => (pod.spec.serviceAccountName = 'researcher'), 'crucible-sandbox'],
    ['service links', (pod) => (pod.spec.enableServiceLinks = true), 'enableServiceLinks'],
    ['a node', (pod) => (pod.spec.nodeName = 'n'), 'placed by the scheduler'],
    ['host aliases', (pod) => (pod.spec.hostAliases = [{ ip: '1.2.3.4', hostnames: ['a'] }]), 'host aliases'],
    ['a restart', (pod) => (pod.spec.restartPolicy = 'OnFailure'), 'runs once'],
    ['no deadline', (pod) => delete pod.spec.activeDeadlineSeconds, 'has a deadline'],
    ['a second container', (pod) => pod.spec.containers.push({ ...container(pod), name: 'sidecar' }), 'one container named sandbox'],
    ['a sidecar', (pod) => (pod.spec.initContainers = [{ ...container(pod), name: 'launcher', restartPolicy: 'Always' }]), 'one container named sandbox'],
    ['a hostPath', (pod) => pod.spec.volumes.push({ name: 'h', hostPath: { path: '/' } }), ''],
    ['a projected token', (pod) => pod.spec.volumes.push({ name: 'p', projected: { sources: [{ serviceAccountToken: { path: 't' } }] } }), 'nothing projected'],
    ['a Secret', (pod) => pod.spec.volumes.push({ name: 's', secret: { secretName: 's' } }), 'no Secret'],
    ['a volume on disk', (pod) => pod.spec.volumes.push({ name: 'd', emptyDir: {} }), 'emptyDirs in memory'],
    ['a volume without limit', (pod) => pod.spec.volumes.push({ name: 'd', emptyDir: { medium: 'Memory' } }), 'size-limited'],
    ['a low uid', (pod) => (pod.spec.securityContext.runAsUser = 1000), 'uid and gid of at least 10000'],
    ['a low gid', (pod) => (pod.spec.securityContext.runAsGroup = 0), 'uid and gid of at least 10000'],
    ['a group', (pod) => (pod.spec.securityContext.supplementalGroups = [0]), 'no other group'],
    ['a sysctl', (pod) => (pod.spec.securityContext.sysctls = [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '0' }]), 'no sysctl'],
    ["a container's own uid", (pod) => (container(pod).securityContext.runAsUser = 20_002), "change nothing of the pod's identity"],
    ['privilege', (pod) => (container(pod).securityContext = { privileged: true }), ''],
    ['escalation', (pod) => delete container(pod).securityContext.allowPrivilegeEscalation, ''],
    ['a writable root', (pod) => delete container(pod).securityContext.readOnlyRootFilesystem, 'read-only root filesystem'],
    ['a capability', (pod) => (container(pod).securityContext.capabilities.add = ['NET_BIND_SERVICE']), 'drop every capability'],
    ['an environment', (pod) => (container(pod).env = [{ name: 'A', value: 'b' }]), 'no environment'],
    ['a Secret in the environment', (pod) => (container(pod).envFrom = [{ secretRef: { name: 's' } }]), 'no environment'],
    ['a hook', (pod) => (container(pod).lifecycle = { preStop: { exec: { command: ['a'] } } }), 'hooks'],
    ['a probe', (pod) => (container(pod).livenessProbe = { exec: { command: ['a'] } }), 'probes'],
    ['a device', (pod) => { container(pod).resources.limits['a.com/gpu'] = 1; container(pod).resources.requests['a.com/gpu'] = 1; }, 'no device'],
  ];
  test.each(REFUSED)('refused with %s', async (_, change, message) => {
    expectStatus(await create(sandboxPod(change)), 403, message);
  });

  test('nobody gets into one, and nothing is added to one', async () => {
    const pod = (await admin.get(PODS)).body['items'][0].metadata.name as string;
    for (const way of ['exec?command=id&container=sandbox&stdout=true', 'attach?container=sandbox&stdout=true', 'portforward?ports=80', 'proxy']) {
      expectStatus(await admin.create(`${PODS}/${pod}/${way}`, {}), 403, 'nothing gets into a sandbox');
    }
    const debug = { spec: { ephemeralContainers: [{ name: 'debug', image: 'busybox', securityContext: RESTRICTED }] } };
    expectStatus(await admin.mergePatch(`${PODS}/${pod}/ephemeralcontainers`, debug), 403, 'nothing gets into a sandbox');
    const resize = { spec: { containers: [{ name: 'sandbox', resources: { limits: { cpu: '2' } } }] } };
    expectStatus(await admin.send('PATCH', `${PODS}/${pod}/resize`, resize, STRATEGIC), 403, 'nothing gets into a sandbox');
  });
});

describe('its life', () => {
  const secret = async (name: string): Promise<Record<string, string>> =>
    (await admin.get(`/api/v1/namespaces/${RELEASE_NAMESPACE}/secrets/${name}`)).body['data'];

  test('an upgrade keeps passwords and certificate, and changes no pod without need', async () => {
    const before = [await secret('crucible-postgres'), await secret('crucible-redis')];
    cluster.install('--set', 'evaluationNamespaceDefaults.researcher=true');
    expect([await secret('crucible-postgres'), await secret('crucible-redis')]).toEqual(before);
    expect(new Set(Object.values(before[0]!)).size).toBe(7);
    const templates = (all: Manifest[]): unknown[] => all.map((manifest) => manifest['spec']?.template).filter(Boolean);
    expect(templates(cluster.manifests())).toEqual(templates(manifests));
  });

  test('uninstalling leaves the evaluation namespace, and what contains it', async () => {
    cluster.helm('uninstall', RELEASE, '--namespace', RELEASE_NAMESPACE);
    const namespace = (await admin.get('/api/v1/namespaces/evals')).body;
    expect(namespace['status'].phase).toBe('Active');
    expectStatus(await admin.get('/apis/networking.k8s.io/v1/namespaces/evals/networkpolicies/crucible-default-deny'), 200);
    expectStatus(await admin.get(`/api/v1/namespaces/${RELEASE_NAMESPACE}/persistentvolumeclaims/crucible-recorder`), 200);
    expectStatus(await admin.get(`/apis/apps/v1/namespaces/${RELEASE_NAMESPACE}/deployments/crucible-operator`), 404);
  });
});
