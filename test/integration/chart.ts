import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { ApiServer } from './api-server.ts';
import { kubeBinary, startKubernetes } from './kubernetes.ts';
import { Sandbox, SetupError, isExecutable } from './processes.ts';

// An API server of its own with the chart installed by Helm: its admission policies are cluster-wide and would refuse
// what other test files do. With the controllers that matter here, and no kubelet: pods are made and never run.

const CHART = resolve(import.meta.dirname, '../../charts/crucible');
const CONTROLLERS = [
  'job-controller', 'garbage-collector-controller', 'namespace-controller', 'serviceaccount-controller',
  'clusterrole-aggregation-controller', 'validatingadmissionpolicy-status-controller',
].join();
const CONTROLLERS_SECONDS = 60;
/** Policies and their bindings reach the admission plugin through a watch. */
const WATCH_SECONDS = 20;
const POLL_MILLISECONDS = 100;

export const RELEASE = 'crucible';
export const RELEASE_NAMESPACE = 'crucible-system';

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  // Whatever the kind has; tests look into it.
  readonly [field: string]: any;
}

export class ChartCluster {
  readonly admin: ApiServer;
  private readonly sandbox: Sandbox;
  private readonly kubeconfig: string;
  private readonly clients: ApiServer[] = [];

  private constructor(sandbox: Sandbox, kubeconfig: string) {
    this.sandbox = sandbox;
    this.kubeconfig = kubeconfig;
    this.admin = new ApiServer(kubeconfig);
    this.clients.push(this.admin);
  }

  static async start(): Promise<ChartCluster> {
    const sandbox = new Sandbox();
    process.once('exit', () => sandbox.kill());
    const kubeconfig = await startKubernetes(sandbox);
    const cluster = new ChartCluster(sandbox, kubeconfig);
    await cluster.startControllers();
    return cluster;
  }

  async stop(): Promise<void> {
    this.clients.forEach((client) => client.close());
    await this.sandbox.stop();
  }

  helm(...args: string[]): string {
    try {
      return execFileSync(helmBinary(), ['--kubeconfig', this.kubeconfig, ...args], { encoding: 'utf8', stdio: 'pipe' });
    } catch (error) {
      throw new Error(`helm ${args[0]}: ${(error as { stderr?: string }).stderr ?? String(error)}`, { cause: error });
    }
  }

  install(...settings: string[]): void {
    this.helm('upgrade', '--install', RELEASE, CHART, '--namespace', RELEASE_NAMESPACE, '--create-namespace', ...settings);
  }

  /** What Helm applied. */
  manifests(): Manifest[] {
    return documents(this.helm('get', 'manifest', RELEASE, '--namespace', RELEASE_NAMESPACE));
  }

  /** A client with the real token of a service account, which is made unless it exists. */
  async as(namespace: string, name: string): Promise<ApiServer> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts`;
    await this.admin.create(path, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } });
    const { body } = await this.admin.create(`${path}/${name}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {},
    });
    const config = JSON.parse(readFileSync(this.kubeconfig, 'utf8')) as { users: unknown };
    config.users = [{ name: 'admin', user: { token: body['status'].token } }];
    const file = join(this.sandbox.directory, `${namespace}-${name}.json`);
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    const client = new ApiServer(file);
    this.clients.push(client);
    return client;
  }

  private async startControllers(): Promise<void> {
    const server = this.sandbox.start('kube-controller-manager', kubeBinary(), [
      'kube-controller-manager',
      `--kubeconfig=${this.kubeconfig}`,
      `--controllers=${CONTROLLERS}`,
      '--use-service-account-credentials',
      '--leader-elect=false',
      '--secure-port=0',
    ]);
    await this.admin.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'ready' } });
    // The service account controller has looked at a namespace when it has its default account.
    await server.ready(
      async () => (await this.admin.get('/api/v1/namespaces/ready/serviceaccounts/default')).status === 200,
      CONTROLLERS_SECONDS,
    );
  }
}

export function helmBinary(): string {
  const cache = process.env['CRUCIBLE_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'crucible');
  const path = process.env['CRUCIBLE_HELM'] ?? join(cache, 'bin/helm');
  if (!isExecutable(path)) throw new SetupError(`no helm at ${path}: \`make test-integration\` builds it, or name one with CRUCIBLE_HELM`);
  return path;
}

/** helm lint --strict or helm template, without a cluster. Throws what helm complains about. */
export function renderChart(...settings: string[]): Manifest[] {
  const args = ['template', RELEASE, CHART, '--namespace', RELEASE_NAMESPACE, '--kube-version', '1.34.4', ...settings];
  return documents(execFileSync(helmBinary(), args, { encoding: 'utf8', stdio: 'pipe' }));
}

export function lintChart(...settings: string[]): void {
  execFileSync(helmBinary(), ['lint', '--strict', CHART, '--kube-version', '1.34.4', ...settings], { stdio: 'pipe' });
}

function documents(text: string): Manifest[] {
  return parseAllDocuments(text, { version: '1.1' })
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest) => manifest !== null);
}

/** Repeats until `probe` holds; watches inside the API server take a moment. */
export async function eventually(what: string, probe: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + WATCH_SECONDS * 1000;
  while (!(await probe())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${WATCH_SECONDS} s`);
    await new Promise((resolvePromise) => setTimeout(resolvePromise, POLL_MILLISECONDS));
  }
}
