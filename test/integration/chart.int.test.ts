import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseSigningKey } from '@crucible/storage';
import { smuggling } from '../../operator/src/drill/catalogue/smuggling.ts';
import type { ApiResponse, ApiServer } from './api-server.ts';
import { ChartCluster, RELEASE, RELEASE_NAMESPACE, eventually, lintChart, renderChart } from './chart.ts';
import type { Manifest } from './chart.ts';
import { REFUSED, RUNTIME_CLASS, inputs, priorityClass, sandboxJob, sandboxPod } from './chart-pods.ts';
import { RIGHTS } from './chart-rights.ts';

const DRY_RUN = '?dryRun=All&fieldValidation=Strict';
const PODS = '/api/v1/namespaces/evals/pods';
const BARE_PODS = '/api/v1/namespaces/bare/pods';
const CONFIG_MAPS = '/api/v1/namespaces/evals/configmaps';
const NETWORK_POLICIES = '/apis/networking.k8s.io/v1/namespaces/evals/networkpolicies';
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
/** Has the role edit in the evaluation namespace. */
let editor: ApiServer;
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
  editor = await cluster.as('evals', 'editor');
  await admin.create('/apis/rbac.authorization.k8s.io/v1/namespaces/evals/rolebindings', {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: { name: 'editor' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'edit' },
    subjects: [{ kind: 'ServiceAccount', name: 'editor', namespace: 'evals' }],
  });
  // Nothing but the label: no Pod Security, no limits. Whatever is refused here is refused by our rules.
  await admin.create('/api/v1/namespaces', { metadata: { name: 'bare', labels: { 'crucible.dev/evaluations': 'enabled' } } });
  await admin.create('/apis/node.k8s.io/v1/runtimeclasses', RUNTIME_CLASS);
  await admin.create('/apis/scheduling.k8s.io/v1/priorityclasses', priorityClass('important'));
  await eventually('the policies are in force', async () => {
    const answers = [
      await jobController.create(`${BARE_PODS}${DRY_RUN}`, sandboxPod({}, (pod) => (pod.spec.priorityClassName = 'important'))),
      await jobController.create(`${BARE_PODS}${DRY_RUN}`, sandboxPod({ runtimeClassName: 'strong' }, (pod) => (pod.spec.nodeSelector = { other: 'a' }))),
      await editor.create(`${CONFIG_MAPS}${DRY_RUN}`, inputs()),
      await editor.delete(`${NETWORK_POLICIES}/crucible-default-deny?dryRun=All`),
      await almighty.create(`${evaluationsIn('default')}${DRY_RUN}`, HELLO),
      await almighty.create(`${JOBS}${DRY_RUN}`, sandboxJob('probe')),
      await almighty.create(`${PODS}${DRY_RUN}`, sandboxPod()),
    ];
    return answers.every(({ status, body }) => status === 403 && body['message'].includes('ValidatingAdmissionPolicy'));
  });
}, 180_000);

afterAll(async () => {
  await cluster?.stop();
});

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
    ['controls among evaluations', 'drill.controlNamespace=evals,evaluationNamespaces[0].name=evals', 'drill.controlNamespace: evals is an evaluation namespace'],
    ['the drill where no evaluation runs', 'drill.namespace=nowhere', 'drill.namespace: nowhere is none of evaluationNamespaces (evals)'],
    ['its own namespace as one of evaluations', `evaluationNamespaces[0].name=${RELEASE_NAMESPACE}`, 'is the namespace of this release'],
    ['a namespace that is there twice', 'evaluationNamespaces[0].name=a,evaluationNamespaces[1].name=a', 'a is there twice'],
    ['uids from last to first', 'sandbox.uids.first=200000,sandbox.uids.last=100000', 'sandbox.uids: first (200000) is greater than last (100000)'],
    ['recorders that cannot share a volume', 'recorder.replicas=2', 'recorder.replicas: 2 recorders cannot share a volume of one node'],
    ['recorders without a common file store', 'recorder.replicas=2,recorder.persistence.enabled=false', 'recorder.replicas: 2 recorders cannot'],
    ['a runtime without image', 'runtimes.perl.enabled=true,runtimes.perl.spec.command={perl},runtimes.perl.spec.entryFile=a.pl', 'runtimes.perl.image'],
  ])('refuses %s', (_, setting, message) => {
    expect(() => renderChart('--set', setting)).toThrow(message);
  });

  test('with an external Postgres and no Redis nothing of the embedded ones is left', () => {
    const external = renderChart(
      '--set', 'postgres.embedded.enabled=false,postgres.external.existingSecret=pg,redis.embedded.enabled=false,signingKey.existingSecret=own,api.tls.existingSecret=own,api.sessionSecret=own',
    );
    expect(external.filter(({ kind }) => kind === 'StatefulSet' || kind === 'Secret')).toEqual([]);
    expect(JSON.stringify(external)).not.toContain('crucible-postgres');
    expect(JSON.stringify(external)).not.toContain('crucible-redis');
  });

  test('no pod but the API gets the signing key', () => {
    const users = manifests.filter((manifest) => JSON.stringify(manifest['spec']?.template ?? '').includes('signing-key'));
    expect(users.map(({ metadata }) => metadata.name).filter((name) => name !== 'crucible-api')).toEqual([]);
  });

  test("only Postgres and the migration get the owner's password", () => {
    const users = manifests.flatMap((manifest) => {
      const spec = manifest['spec']?.template?.spec;
      if (spec === undefined) return [];
      const containers = [...spec.containers, ...(spec.initContainers ?? [])];
      const owners = containers.filter((container) => JSON.stringify(container.env ?? []).includes('crucible_owner')).map(({ name }) => name);
      return JSON.stringify(spec.volumes ?? []).includes('crucible_owner') ? [...owners, manifest.metadata.name] : owners;
    });
    expect(users.sort()).toEqual(['crucible-postgres', 'migrate']);
  });
});

describe('the installed release', () => {
  test('every pod of it satisfies Pod Security restricted, and the API server knows every field', async () => {
    await admin.mergePatch(`/api/v1/namespaces/${RELEASE_NAMESPACE}`, { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } } });
    const workloads = manifests.filter(({ kind }) => kind === 'Deployment' || kind === 'StatefulSet');
    expect(workloads.map(({ metadata }) => metadata.name).sort()).toEqual([
      'crucible-api', 'crucible-drill-control', 'crucible-drill-listener', 'crucible-operator', 'crucible-postgres', 'crucible-recorder', 'crucible-redis',
    ]);
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
    expect(await checked()).toHaveLength(11);
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
  test.each(RIGHTS)('%s: %s %s/%s in "%s": %s', async (account, verb, group, resource, namespace, allowed) => {
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

/** The garbage collector deletes what has no other owner. */
const NOBODY = { apiVersion: 'v1', kind: 'ConfigMap', name: 'nobody', uid: '11111111-1111-4111-8111-111111111111' };

describe('the drill', () => {
  test('only the operator marks an evaluation as one of its own', async () => {
    const marked = (client: ApiServer) =>
      client.create(`${evaluationsIn('evals')}${DRY_RUN}`, { ...HELLO, metadata: { ...HELLO.metadata, labels: { 'crucible.dev/drill': 'x' } } });
    expectStatus(await marked(operator), 201);
    for (const client of [researcher, editor, almighty]) expectStatus(await marked(client), 403, 'only Crucible\'s operator sets the label crucible.dev/drill');
  });

  test('only the operator changes and deletes its runs, and marks runs of a suite', async () => {
    const path = `${evaluationsIn('evals')}/drill-of-the-test`;
    const labels = { 'crucible.dev/drill': 'x' };
    expectStatus(await operator.create(evaluationsIn('evals'), { ...HELLO, metadata: { name: 'drill-of-the-test', labels } }), 201);
    const refusal = "this is a run of Crucible's drill: only its operator changes and deletes it";
    for (const client of [researcher, editor, almighty]) {
      expectStatus(await client.mergePatch(path, { spec: { cancel: true } }), 403, refusal);
      expectStatus(await client.delete(path), 403, refusal);
      // Whoever gives it an owner that does not exist has it deleted; with a finalizer of one's own it never goes.
      expectStatus(await client.mergePatch(path, { metadata: { ownerReferences: [NOBODY] } }), 403, refusal);
      expectStatus(await client.mergePatch(path, { metadata: { finalizers: ['example.com/mine'] } }), 403, refusal);
      const counted = { ...HELLO, metadata: { ...HELLO.metadata, labels: { 'crucible.dev/suite-uid': 'x' } } };
      expectStatus(await client.create(`${evaluationsIn('evals')}${DRY_RUN}`, counted), 403, 'crucible.dev/suite-uid and its like');
    }
    expectStatus(await operator.mergePatch(path, { spec: { cancel: true } }), 200);
    expectStatus(await operator.delete(path), 200);
  });

  test('its controls live outside of the evaluation namespaces, without a token, and only the operator asks them', () => {
    const own = manifests.filter(({ metadata }) => metadata.namespace === 'crucible-drill');
    expect(own.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort()).toEqual([
      'Deployment crucible-drill-control', 'Deployment crucible-drill-listener', 'NetworkPolicy crucible-drill-control',
      'Service crucible-drill-control', 'Service crucible-drill-listener',
    ]);
    for (const { kind, spec } of own) if (kind === 'Deployment') expect(spec.template.spec.automountServiceAccountToken).toBe(false);
    const namespace = manifests.find(({ kind, metadata }) => kind === 'Namespace' && metadata.name === 'crucible-drill');
    expect(JSON.stringify(namespace?.metadata)).not.toContain('crucible.dev/evaluations');
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
    for (const path of [`${JOBS}/${job['metadata'].name}`, `${PODS}/${pod.metadata.name}`]) {
      const message = path.startsWith(PODS) ? 'is its Job' : 'is its Evaluation';
      for (const client of [editor, almighty]) expectStatus(await client.mergePatch(path, { metadata: { ownerReferences: [NOBODY] } }), 403, message);
      const annotate = (client: ApiServer, name: string, value: string | null): Promise<ApiResponse> =>
        client.mergePatch(path, { metadata: { annotations: { [name]: value } } });
      for (const client of [editor, almighty, admin]) {
        expectStatus(await annotate(client, 'crucible.dev/timeout-seconds', '86400'), 403, 'annotations under crucible.dev/');
        expectStatus(await annotate(client, 'crucible.dev/timeout-seconds', null), 403, 'annotations under crucible.dev/');
        expectStatus(await annotate(client, 'crucible.dev/more', '1'), 403, 'annotations under crucible.dev/');
        expectStatus(await annotate(client, 'dev.gvisor.flag.network', 'host'), 403, 'container runtimes read');
      }
      // Network plugins and people note what they want.
      expectStatus(await annotate(editor, 'cni.example.com/address', '10.0.0.1'), 200);
      expectStatus(await annotate(operator, 'crucible.dev/more', '1'), 200);
    }
    const relabel = { metadata: { labels: { 'crucible.dev/evaluation-uid': '0' } } };
    expectStatus(await editor.mergePatch(`${JOBS}/${job['metadata'].name}`, relabel), 403, 'labels of a Job');
    expectStatus(await operator.mergePatch(`${JOBS}/${job['metadata'].name}`, { spec: { ttlSecondsAfterFinished: 5 } }), 200);
    expectStatus(await operator.mergePatch(`${PODS}/${pod.metadata.name}`, without), 200);
  });

  test('neither it nor its pod is deleted or evicted but by those who do so in the life of a cluster', async () => {
    const job = sandboxJob('kept');
    expectStatus(await operator.apply(`${JOBS}/${job['metadata'].name}`, job), 201);
    const selector = `${PODS}?labelSelector=batch.kubernetes.io/job-name=${job['metadata'].name}`;
    await eventually('the pod', async () => (await admin.get(selector)).body['items'].length === 1);
    const name = (await admin.get(selector)).body['items'][0].metadata.name as string;
    const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: 'evals' } };
    await eventually('the policy is in force', async () => (await editor.delete(`${PODS}/${name}?dryRun=All`)).status === 403);
    expectStatus(await editor.delete(`${PODS}/${name}?dryRun=All`), 403, 'sandbox rule deletion: the pods of an evaluation namespace');
    expectStatus(await editor.delete(`${PODS}?dryRun=All`), 403, 'sandbox rule deletion');
    expectStatus(await editor.create(`${PODS}/${name}/eviction?dryRun=All`, eviction), 403, 'cancel the Evaluation');
    expectStatus(await editor.delete(`${JOBS}/${job['metadata'].name}?dryRun=All`), 403, 'sandbox rule deletion: the jobs');
    expectStatus(await editor.delete(`${JOBS}?dryRun=All`), 403, 'sandbox rule deletion');
    // Who may change nodes drains them; the others are Kubernetes' own.
    for (const client of [admin, almighty]) {
      expectStatus(await client.create(`${PODS}/${name}/eviction?dryRun=All`, eviction), 201);
      expectStatus(await client.delete(`${PODS}/${name}?dryRun=All`), 200);
    }
    // The pod goes with its Job, by the garbage collector, once its finalizer is off.
    expectStatus(await operator.delete(`${JOBS}/${job['metadata'].name}?propagationPolicy=Background`), 200);
    expectStatus(await operator.mergePatch(`${PODS}/${name}`, { metadata: { finalizers: null } }), 200);
    await eventually('collected', async () => (await admin.get(`${PODS}/${name}`)).status === 404);
  });

  test.each(['almighty', 'admin'])('nobody else creates them: %s', async (who) => {
    const response = await (who === 'admin' ? admin : almighty).create(`${JOBS}${DRY_RUN}`, sandboxJob('forged'));
    expectStatus(response, 403, 'apply an Evaluation instead');
  });
});

describe('pods in an evaluation namespace', () => {
  const create = (pod: object, pods = PODS): Promise<ApiResponse> => jobController.create(`${pods}${DRY_RUN}`, pod);
  const VARIANTS = [true, false].flatMap((launcherIncluded) => [{ launcherIncluded }, { launcherIncluded, runtimeClassName: 'strong' }]);

  test.each(VARIANTS)("the operator's are admitted with what Kubernetes adds: %o", async (variant) => {
    for (const pods of [PODS, BARE_PODS]) {
      const response = await create(sandboxPod(variant), pods);
      expectStatus(response, 201);
      const { spec } = response.body;
      expect(spec.tolerations.map(({ key }: any) => key)).toEqual(expect.arrayContaining(['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']));
      expect(spec.nodeSelector).toEqual(variant.runtimeClassName && RUNTIME_CLASS.scheduling.nodeSelector);
      expect(spec.overhead).toEqual(variant.runtimeClassName && RUNTIME_CLASS.overhead.podFixed);
      expect(spec.tolerations.some(({ key }: any) => key === 'strong')).toBe('runtimeClassName' in variant);
    }
  });
  test('what other admission plugins and versions of Kubernetes add is admitted', async () => {
    const added = (pod: any): void => {
      pod.spec.tolerations = [{ key: 'node.kubernetes.io/memory-pressure', operator: 'Exists', effect: 'NoSchedule' }];
      pod.spec.containers[0].resizePolicy = [{ resourceName: 'cpu', restartPolicy: 'NotRequired' }];
    };
    for (const variant of VARIANTS) expectStatus(await create(sandboxPod(variant, added)), 201);
  });
  test('with a RuntimeClass only what that class says is added', async () => {
    const pod = (change: (spec: any) => void): object => sandboxPod({ runtimeClassName: 'strong' }, ({ spec }) => change(spec));
    expectStatus(await create(pod((spec) => (spec.tolerations = [{ operator: 'Exists' }]))), 403, 'sandbox rule tolerations: ');
    expectStatus(await create(pod((spec) => (spec.tolerations = [{ key: 'strong', operator: 'Exists', effect: 'NoExecute' }]))), 403, 'sandbox rule tolerations: ');
    expectStatus(await create(pod((spec) => (spec.nodeSelector = { other: 'a' }))), 403, 'sandbox rule nodeSelector: ');
  });
  test("the cluster's default priority is admitted", async () => {
    await admin.create('/apis/scheduling.k8s.io/v1/priorityclasses', priorityClass('usual', true));
    await eventually('a default priority', async () => (await create(sandboxPod())).body['spec']?.priorityClassName === 'usual');
    expectStatus(await admin.delete('/apis/scheduling.k8s.io/v1/priorityclasses/usual'), 200);
    await eventually('no default priority', async () => (await create(sandboxPod())).body['spec']?.priorityClassName === undefined);
  });
  test('only from the job controller', async () => {
    expectStatus(await almighty.create(`${PODS}${DRY_RUN}`, sandboxPod()), 403, 'is not the job controller');
  });

  test.each(REFUSED)('refused with %s', async (_, change, rule) => {
    for (const launcherIncluded of [true, false]) {
      expectStatus(await create(sandboxPod({ launcherIncluded }, change), BARE_PODS), 403, `sandbox rule ${rule}: `);
    }
  });
  test('what the drill tries to smuggle is refused by the rule that is meant for it, also where nothing else would refuse it', async () => {
    if (smuggling.method.kind !== 'smuggle') throw new Error('the drill smuggles nothing');
    for (const { rule, change } of smuggling.method.smuggled)
      expectStatus(await create(sandboxPod({}, change), BARE_PODS), 403, `sandbox rule ${rule}: `);
  });
  test('the init container is held to the same', async () => {
    for (const [, change, rule] of REFUSED.filter(([, , name]) => /^containers[.](env|securityContext|capabilities|privilege)/.test(name))) {
      const pod = sandboxPod({ launcherIncluded: false }, ({ spec }) => change({ spec: { containers: spec.initContainers } }));
      expectStatus(await create(pod, BARE_PODS), 403, `sandbox rule ${rule}: `);
    }
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

describe('what a sandbox runs', () => {
  const RESERVED = 'hello-0123abcd-1';
  const plain = (name: string): object => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { a: 'b' } });

  test('is written by the operator alone', async () => {
    expectStatus(await operator.create(CONFIG_MAPS, inputs(RESERVED)), 201);
    for (const client of [editor, almighty]) {
      expectStatus(await client.create(`${CONFIG_MAPS}${DRY_RUN}`, inputs()), 403, 'hold what a sandbox runs');
      expectStatus(await client.delete(`${CONFIG_MAPS}/${RESERVED}`), 403, 'hold what a sandbox runs');
      expectStatus(await client.delete(CONFIG_MAPS), 403, 'hold what a sandbox runs');
      expectStatus(await client.mergePatch(`${CONFIG_MAPS}/${RESERVED}`, { data: { f0: 'exit()' } }), 403, 'hold what a sandbox runs');
      expectStatus(await client.mergePatch(`${CONFIG_MAPS}/${RESERVED}`, { metadata: { labels: { 'crucible.dev/evaluation-uid': null } } }), 403, 'hold what a sandbox runs');
    }
    expectStatus(await operator.delete(`${CONFIG_MAPS}/${RESERVED}`), 200);
    expectStatus(await editor.create(CONFIG_MAPS, plain(RESERVED)), 403, 'are reserved');
    expectStatus(await admin.create(CONFIG_MAPS, inputs()), 201);
    expectStatus(await admin.delete(`${CONFIG_MAPS}/inputs`), 200);
  });
  test('leaves other ConfigMaps alone, unless they pretend', async () => {
    expectStatus(await editor.create(CONFIG_MAPS, plain('mine')), 201);
    expectStatus(await editor.mergePatch(`${CONFIG_MAPS}/mine`, { metadata: { labels: { 'crucible.dev/evaluation-uid': '0' } } }), 403, 'hold what a sandbox runs');
    expectStatus(await editor.mergePatch(`${CONFIG_MAPS}/mine`, { data: { a: 'c' } }), 200);
    expectStatus(await editor.delete(`${CONFIG_MAPS}/mine`), 200);
  });
  test('goes with its Evaluation, by the garbage collector', async () => {
    const { uid } = (await researcher.create(evaluationsIn('evals'), HELLO)).body['metadata'];
    const owner = { apiVersion: HELLO.apiVersion, kind: HELLO.kind, name: 'hello', uid };
    expectStatus(await operator.create(CONFIG_MAPS, inputs(RESERVED, [owner])), 201);
    expectStatus(await researcher.delete(`${evaluationsIn('evals')}/hello`), 200);
    await eventually('collected', async () => (await admin.get(`${CONFIG_MAPS}/${RESERVED}`)).status === 404);
  });
});

describe('the NetworkPolicy that contains the sandboxes', () => {
  const POLICY = `${NETWORK_POLICIES}/crucible-default-deny`;
  const open = { spec: { egress: [{}] } };

  test('is changed and deleted by administrators alone', async () => {
    for (const client of [editor, almighty]) {
      expectStatus(await client.delete(POLICY), 403, 'only a cluster administrator deletes it');
      expectStatus(await client.delete(NETWORK_POLICIES), 403, 'only a cluster administrator deletes it');
      expectStatus(await client.mergePatch(POLICY, open), 403, 'denies everything to every pod');
      expectStatus(await client.mergePatch(POLICY, { spec: { policyTypes: ['Ingress'] } }), 403, 'denies everything to every pod');
      expectStatus(await client.mergePatch(POLICY, { spec: { podSelector: { matchLabels: { a: 'b' } } } }), 403, 'denies everything to every pod');
      const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'gone', uid: '8c0bd4d2-6b3c-4f0e-9f8e-0c8de3e0a002' };
      expectStatus(await client.mergePatch(POLICY, { metadata: { ownerReferences: [owner] } }), 403, 'owners and annotations');
      expectStatus(await client.mergePatch(POLICY, { metadata: { annotations: { 'helm.sh/resource-policy': null } } }), 403, 'owners and annotations');
      // As an upgrade of the release does.
      expectStatus(await client.mergePatch(POLICY, { metadata: { labels: { 'helm.sh/chart': 'crucible-next' } } }), 200);
    }
    const { metadata: { name, labels, annotations }, spec } = (await admin.get(POLICY)).body as Manifest & { metadata: any };
    expectStatus(await admin.delete(POLICY), 200);
    expectStatus(await editor.create(NETWORK_POLICIES, { metadata: { name }, spec: { podSelector: {}, ...open.spec } }), 403, 'denies everything to every pod');
    expectStatus(await admin.create(NETWORK_POLICIES, { metadata: { name, labels, annotations }, spec }), 201);
  });
  test('users whom the chart names are administrators of it', async () => {
    const named = renderChart('--set', 'admission.administrators={system:serviceaccount:default:almighty}');
    const policy = named.find(({ kind, metadata }) => kind === 'ValidatingAdmissionPolicy' && metadata.name === 'crucible-default-deny');
    const path = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/crucible-default-deny';
    const before = (await admin.get(path)).body['spec'];
    expectStatus(await admin.mergePatch(path, { spec: policy!['spec'] }), 200);
    await eventually('the named user may', async () => (await almighty.delete(`${POLICY}?dryRun=All`)).status === 200);
    expectStatus(await editor.delete(`${POLICY}?dryRun=All`), 403, 'only a cluster administrator deletes it');
    expectStatus(await admin.mergePatch(path, { spec: before }), 200);
    await eventually('and no longer', async () => (await almighty.delete(`${POLICY}?dryRun=All`)).status === 403);
  });
  test('goes with its namespace, as the ConfigMaps do', async () => {
    const { spec } = (await admin.get(POLICY)).body;
    const bare = (path: string): string => path.replace('/evals/', '/bare/');
    expectStatus(await admin.create(bare(NETWORK_POLICIES), { metadata: { name: 'crucible-default-deny' }, spec }), 201);
    expectStatus(await admin.create(bare(CONFIG_MAPS), inputs()), 201);
    expectStatus(await almighty.delete('/api/v1/namespaces/bare'), 200);
    await eventually('gone', async () => (await admin.get('/api/v1/namespaces/bare')).status === 404);
  });
});

describe('containers that say nothing', () => {
  test('get little by default, not all that is allowed', async () => {
    const [limits] = (await admin.get('/api/v1/namespaces/evals/limitranges/crucible')).body['spec'].limits;
    expect(limits.default).toEqual({ cpu: '100m', memory: '64Mi', 'ephemeral-storage': '16Mi' });
    expect(limits.defaultRequest).toEqual({ cpu: '10m', memory: '64Mi', 'ephemeral-storage': '16Mi' });
    const silent = sandboxPod({}, (pod) => delete pod.spec.containers[0].resources);
    const response = await jobController.create(`${PODS}${DRY_RUN}`, silent);
    expectStatus(response, 201);
    expect(response.body['spec'].containers[0].resources.limits).toEqual(limits.default);
  });
});

describe('its life', () => {
  const secret = async (name: string): Promise<Record<string, string>> =>
    (await admin.get(`/api/v1/namespaces/${RELEASE_NAMESPACE}/secrets/${name}`)).body['data'];

  test('an upgrade keeps passwords, certificates, sessions, signing key and what was paused by hand, and changes no pod without need', async () => {
    const pause = `/api/v1/namespaces/${RELEASE_NAMESPACE}/configmaps/crucible-pause`;
    expectStatus(await admin.mergePatch(pause, { data: { paused: 'true', reason: 'by hand' } }), 200);
    const secrets = () => Promise.all(['crucible-postgres', 'crucible-redis', 'crucible-signing-key', 'crucible-api-tls', 'crucible-api-session'].map(secret));
    const before = await secrets();
    cluster.install('--set', 'evaluationNamespaceDefaults.researcher=true');
    expect(await secrets()).toEqual(before);
    expect((await admin.get(pause)).body['data']).toEqual({ paused: 'true', reason: 'by hand' });
    expect(parseSigningKey(Buffer.from(before[2]!['signing-key.pem']!, 'base64').toString(), 'the Secret').keyId).toMatch(/^[0-9a-f]{64}$/);
    expect(new Set(Object.values(before[0]!)).size).toBe(7);
    const templates = (all: Manifest[]): unknown[] => all.map((manifest) => manifest['spec']?.template).filter(Boolean);
    expect(templates(cluster.manifests())).toEqual(templates(manifests));
  });

  test('uninstalling leaves the evaluation namespace, what contains it, and the key that signed bundles', async () => {
    const key = await secret('crucible-signing-key');
    cluster.helm('uninstall', RELEASE, '--namespace', RELEASE_NAMESPACE);
    const namespace = (await admin.get('/api/v1/namespaces/evals')).body;
    expect(namespace['status'].phase).toBe('Active');
    expectStatus(await admin.get('/apis/networking.k8s.io/v1/namespaces/evals/networkpolicies/crucible-default-deny'), 200);
    expectStatus(await admin.get(`/api/v1/namespaces/${RELEASE_NAMESPACE}/persistentvolumeclaims/crucible-recorder`), 200);
    expectStatus(await admin.get(`/apis/apps/v1/namespaces/${RELEASE_NAMESPACE}/deployments/crucible-operator`), 404);
    expect(await secret('crucible-signing-key')).toEqual(key);
  });
});
