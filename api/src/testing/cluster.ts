import { createPrivateKey, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SignJWT } from 'jose';
import { ApiServer } from '../../../test/integration/api-server.ts';
import { testServer } from '../../../test/integration/environment.ts';

// People and namespaces on the real API server, each test file with its own names.

const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const evaluations = (...verbs: string[]) => ({ apiGroups: ['crucible.dev'], resources: ['evaluations', 'evaluationsuites'], verbs });
const runtimes = { apiGroups: ['crucible.dev'], resources: ['evaluationruntimes'], verbs: ['get', 'list'] };
const drills = { apiGroups: ['crucible.dev'], resources: ['securitydrills'], verbs: ['get', 'list'] };
const pauser = { apiGroups: [''], resources: ['configmaps'], resourceNames: ['crucible-pause'], verbs: ['get', 'patch'] };
const namespaces = { apiGroups: [''], resources: ['namespaces'], verbs: ['get'] };

export class TestCluster {
  readonly admin = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
  readonly system = `api-${randomBytes(4).toString('hex')}`;
  readonly evals = `${this.system}-evals`;
  readonly other = `${this.system}-other`;
  readonly uids = new Map<string, string>();
  readonly #made: string[] = [];

  /** Namespaces, the API's own account with its two rights, and a runtime. */
  async prepare(): Promise<void> {
    for (const name of [this.system, this.evals, this.other]) await this.makeNamespace(name);
    await this.account('api');
    await this.role(`${this.system}-reviews`, [
      { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
      { apiGroups: ['authorization.k8s.io'], resources: ['subjectaccessreviews'], verbs: ['create'] },
    ]);
    await this.bindEverywhere(`${this.system}-reviews`, 'api');
    await this.role(`${this.system}-reader`, [evaluations('get', 'list'), namespaces]);
    // As a role that somebody wrote by hand.
    await this.role(`${this.system}-blind`, [evaluations('get', 'list', 'create')]);
    await this.role(`${this.system}-writer`, [evaluations('get', 'list', 'create', 'patch'), namespaces, pauser]);
    await this.role(`${this.system}-runtimes`, [runtimes]);
    await this.role(`${this.system}-drills`, [drills]);
    const runtime = { apiVersion: 'crucible.dev/v1alpha1', kind: 'EvaluationRuntime', metadata: { name: `python-${this.system}` }, spec: { image: 'crucible/python:1', command: ['python3'], entryFile: 'main.py', launcher: 'Included' } };
    await this.must('POST', '/apis/crucible.dev/v1alpha1/evaluationruntimes', runtime);
    this.#made.push(`/apis/crucible.dev/v1alpha1/evaluationruntimes/python-${this.system}`);
    for (const namespace of [this.system, this.evals, this.other])
      await this.must('POST', `/api/v1/namespaces/${namespace}/configmaps`, { metadata: { name: 'crucible-pause' } });
  }

  get runtime(): string {
    return `python-${this.system}`;
  }

  async makeNamespace(name: string): Promise<string> {
    const { metadata } = await this.must('POST', '/api/v1/namespaces', { metadata: { name, labels: { 'crucible.dev/evaluations': 'enabled' } } });
    this.uids.set(name, metadata.uid);
    return metadata.uid as string;
  }

  async account(name: string, namespace = this.system): Promise<void> {
    await this.must('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } });
  }

  /** An account in the system namespace that is bound to a role in the namespace, and a token of it. */
  async person(name: string, role: 'reader' | 'writer' | 'blind', namespace: string, { seesRuntimes = true } = {}): Promise<string> {
    await this.account(name);
    await this.must('POST', `${RBAC}/namespaces/${namespace}/rolebindings`, {
      metadata: { name }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: `${this.system}-${role}` }, subjects: [this.subject(name)],
    });
    if (seesRuntimes) await this.bindEverywhere(`${this.system}-runtimes`, name);
    return await this.token(name);
  }

  /** May see evaluations in the whole cluster, and its drills. */
  async auditor(name: string): Promise<string> {
    await this.account(name);
    await this.bindEverywhere(`${this.system}-reader`, name);
    await this.seesDrills(name);
    return await this.token(name);
  }

  async seesDrills(account: string): Promise<void> {
    await this.bindEverywhere(`${this.system}-drills`, account);
  }

  async token(account: string, request: { audiences?: string[]; expirationSeconds?: number } = {}, namespace = this.system): Promise<string> {
    const answer = await this.must('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, { spec: { expirationSeconds: 3600, ...request } });
    return answer.status.token as string;
  }

  /** Signed by the API server's own key, and over since an hour. */
  async expiredToken(account: string): Promise<string> {
    const key = createPrivateKey(readFileSync(join(dirname(testServer('CRUCIBLE_TEST_KUBECONFIG')), 'service-account.key')));
    const now = Math.floor(Date.now() / 1000);
    return await new SignJWT({ 'kubernetes.io': { namespace: this.system, serviceaccount: { name: account, uid: 'x' } } })
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer('https://kubernetes.default.svc').setAudience('https://kubernetes.default.svc')
      .setSubject(`system:serviceaccount:${this.system}:${account}`).setIssuedAt(now - 7200).setExpirationTime(now - 3600)
      .sign(key);
  }

  /** For the API's process, its own account as a pod has it: a folder with its token and the cluster's certificate authority. */
  async serviceAccount(folder: string): Promise<{ [name: string]: string }> {
    const { clusters } = JSON.parse(readFileSync(testServer('CRUCIBLE_TEST_KUBECONFIG'), 'utf8')) as { clusters: { cluster: { server: string; 'certificate-authority-data': string } }[] };
    const { server, 'certificate-authority-data': ca } = clusters[0]!.cluster;
    writeFileSync(join(folder, 'token'), await this.token('api'), { mode: 0o600 });
    writeFileSync(join(folder, 'ca.crt'), Buffer.from(ca, 'base64'));
    const { hostname, port } = new URL(server);
    return { CRUCIBLE_KUBECONFIG: '', CRUCIBLE_SERVICE_ACCOUNT_DIR: folder, KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port };
  }

  async remove(): Promise<void> {
    for (const path of this.#made) await this.admin.delete(path);
    this.admin.close();
  }

  async must(method: string, path: string, body?: unknown): Promise<Record<string, any>> {
    const answer = await this.admin.send(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.body['message']}`);
    return answer.body;
  }

  private subject = (name: string) => ({ kind: 'ServiceAccount', name, namespace: this.system });

  private async role(name: string, rules: object[]): Promise<void> {
    await this.must('POST', `${RBAC}/clusterroles`, { metadata: { name }, rules });
    this.#made.push(`${RBAC}/clusterroles/${name}`);
  }

  private async bindEverywhere(role: string, account: string): Promise<void> {
    const name = `${role}-${account}`;
    await this.must('POST', `${RBAC}/clusterrolebindings`, {
      metadata: { name }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role }, subjects: [this.subject(account)],
    });
    this.#made.push(`${RBAC}/clusterrolebindings/${name}`);
  }
}
