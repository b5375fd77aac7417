import { readFileSync, readdirSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';

// A plain client for tests: what is under test must not be what the test looks with.

interface Kubeconfig {
  readonly clusters: readonly [
    { readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string } },
  ];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

export interface ApiResponse {
  readonly status: number;
  // Whatever the API server answers; tests look into it.
  readonly body: Record<string, any>;
}

const JSON_TYPE = 'application/json';
const CRD_FOLDER = resolve(import.meta.dirname, '../../charts/crucible/crds');
const CRD_PATH = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const ESTABLISHED_MILLISECONDS = 20_000;
const POLL_MILLISECONDS = 50;

export class ApiServer {
  private readonly server: URL;
  private readonly token: string;
  private readonly agent: Agent;

  constructor(kubeconfigPath: string) {
    const kubeconfig = JSON.parse(readFileSync(kubeconfigPath, 'utf8')) as Kubeconfig;
    const { cluster } = kubeconfig.clusters[0];
    this.server = new URL(cluster.server);
    this.token = kubeconfig.users[0].user.token;
    this.agent = new Agent({ keepAlive: true, ca: Buffer.from(cluster['certificate-authority-data'], 'base64') });
  }

  get = (path: string): Promise<ApiResponse> => this.send('GET', path);
  create = (path: string, body: unknown): Promise<ApiResponse> => this.send('POST', path, body);
  delete = (path: string): Promise<ApiResponse> => this.send('DELETE', path);

  mergePatch(path: string, body: unknown): Promise<ApiResponse> {
    return this.send('PATCH', path, body, 'application/merge-patch+json');
  }

  /** Server-side apply, with force. */
  apply(path: string, body: unknown): Promise<ApiResponse> {
    return this.send('PATCH', `${path}?fieldManager=test&force=true`, body, 'application/apply-patch+yaml');
  }

  send(
    method: string,
    path: string,
    body?: unknown,
    contentType = JSON_TYPE,
    accept = JSON_TYPE,
  ): Promise<ApiResponse> {
    return new Promise((resolvePromise, reject) => {
      const text = body === undefined ? '' : JSON.stringify(body);
      // Node.js says how long a body is only for methods that usually have one, and DELETE may have one too.
      const length = text === '' ? {} : { 'content-length': Buffer.byteLength(text) };
      const call = request(
        new URL(path, this.server),
        {
          method,
          agent: this.agent,
          headers: { authorization: `Bearer ${this.token}`, 'content-type': contentType, accept, ...length },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () =>
            resolvePromise({ status: response.statusCode ?? 0, body: toJson(Buffer.concat(chunks).toString('utf8')) }),
          );
        },
      );
      call.once('error', reject);
      call.end(text);
    });
  }

  close(): void {
    this.agent.destroy();
  }
}

function toJson(text: string): ApiResponse['body'] {
  try {
    return JSON.parse(text) as ApiResponse['body'];
  } catch {
    return { message: text };
  }
}

export function readCrds(): { readonly metadata: { readonly name: string } }[] {
  return readdirSync(CRD_FOLDER).map((file) => parse(readFileSync(join(CRD_FOLDER, file), 'utf8'), { version: '1.1' }));
}

/** Applies the chart's CRDs and waits until resources can be created; throws the API server's complaint. */
export async function installCrds(kubeconfigPath: string): Promise<void> {
  const api = new ApiServer(kubeconfigPath);
  try {
    await Promise.all(readCrds().map((crd) => installCrd(api, crd)));
  } finally {
    api.close();
  }
}

async function installCrd(api: ApiServer, crd: { readonly metadata: { readonly name: string } }): Promise<void> {
  const path = `${CRD_PATH}/${crd.metadata.name}`;
  const { status, body } = await api.apply(path, crd);
  if (status >= 300) throw new Error(`the API server refuses ${crd.metadata.name}: ${body['message']}`);
  const deadline = Date.now() + ESTABLISHED_MILLISECONDS;
  while (!isEstablished((await api.get(path)).body)) {
    if (Date.now() > deadline)
      throw new Error(`${crd.metadata.name} was not established within ${ESTABLISHED_MILLISECONDS / 1000} s`);
    await new Promise((resolvePromise) => setTimeout(resolvePromise, POLL_MILLISECONDS));
  }
}

const isEstablished = (crd: ApiResponse['body']): boolean =>
  (crd['status']?.conditions ?? []).some(
    (condition: { type: string; status: string }) => condition.type === 'Established' && condition.status === 'True',
  );
