import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import path from 'node:path';
import { KubeConfig, loadYaml } from '@kubernetes/client-node';
import { KubeError } from './errors.ts';
import type { ClusterAccess, Credentials, TlsMaterial } from './types.ts';

export interface AccessOptions {
  /** Path of a kubeconfig; without it the pod's own service account is used. */
  kubeconfig?: string | undefined;
  context?: string | undefined;
  /** Tests put a service account's files somewhere else. */
  serviceAccountRoot?: string | undefined;
  environment?: { host: string; port: string } | undefined;
}

const SERVICE_ACCOUNT_ROOT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** In a cluster without options, else from the kubeconfig. */
export async function loadAccess(options: AccessOptions = {}): Promise<ClusterAccess> {
  return options.kubeconfig === undefined ? inCluster(options) : fromKubeconfig(options.kubeconfig, options.context);
}

/**
 * The same API server with nothing that says who we are: neither headers nor a client certificate, which would win over a
 * bearer token. What a call is not given a token for, it does as nobody.
 */
export function withoutCredentials(access: ClusterAccess): ClusterAccess {
  return {
    server: access.server,
    namespace: undefined,
    async load(): Promise<Credentials> {
      const { ca, servername, rejectUnauthorized } = (await access.load()).tls;
      return { headers: {}, tls: { ca, servername, rejectUnauthorized } };
    },
  };
}

async function inCluster(options: AccessOptions): Promise<ClusterAccess> {
  const root = options.serviceAccountRoot ?? SERVICE_ACCOUNT_ROOT;
  const host = options.environment?.host ?? process.env.KUBERNETES_SERVICE_HOST;
  const port = options.environment?.port ?? process.env.KUBERNETES_SERVICE_PORT;
  if (!host || !port)
    throw authError('not in a cluster: KUBERNETES_SERVICE_HOST is not set, and no kubeconfig was given');
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    namespace: (await readFile(path.join(root, 'namespace'), 'utf8').catch(() => '')).trim() || undefined,
    // Both files are rotated in place by the kubelet: bound tokens live an hour, and a cluster's CA can change too.
    async load(): Promise<Credentials> {
      return {
        headers: bearer(await readToken(path.join(root, 'token'))),
        tls: { ca: await readFile(path.join(root, 'ca.crt'), 'utf8') },
      };
    },
  };
}

async function fromKubeconfig(file: string, context: string | undefined): Promise<ClusterAccess> {
  const config = new KubeConfig();
  config.loadFromFile(file);
  if (context !== undefined) config.setCurrentContext(context);
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw authError(`${file}: no cluster in context ${config.getCurrentContext()}`);
  const server = cluster.server.replace(/\/+$/, '');
  checkServer(server, file);
  if (cluster.proxyUrl) throw authError(`${file}: proxy-url is not supported`);
  const tokenFile = await tokenFileOf(file, config);
  return {
    server,
    namespace: config.getContextObject(config.getCurrentContext())?.namespace,
    load: () => loadFromConfig(config, server, tokenFile),
  };
}

function checkServer(server: string, file: string): void {
  const url = new URL(server);
  if (url.protocol === 'https:') return;
  // A token over plain HTTP is a token given away; `kubectl proxy` on this machine is the one use of it.
  const local = url.protocol === 'http:' && ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname);
  if (!local) throw authError(`${file}: server ${url.origin} must be https`);
}

/** client-node does not know the field `tokenFile` of a kubeconfig's user (it looks for `token-file`, once). */
async function tokenFileOf(file: string, config: KubeConfig): Promise<string | undefined> {
  const user = config.getCurrentUser();
  if (user === null) return undefined;
  const raw = loadYaml<{ users?: { name: string; user?: { tokenFile?: string } }[] }>(await readFile(file, 'utf8'));
  const tokenFile = raw.users?.find((entry) => entry.name === user.name)?.user?.tokenFile;
  return tokenFile === undefined ? undefined : path.resolve(path.dirname(file), tokenFile);
}

async function loadFromConfig(config: KubeConfig, server: string, tokenFile: string | undefined): Promise<Credentials> {
  const options: RequestOptions = {};
  try {
    // Reads certificate files anew each time, and runs exec plug-ins and OIDC refreshes when they are due.
    if (server.startsWith('https:')) await config.applyToHTTPSOptions(options);
  } catch (error) {
    // The message of a failed exec plug-in is its stderr: not for our logs.
    const file = (error as NodeJS.ErrnoException).path;
    throw authError(
      `credentials cannot be loaded${file === undefined ? '' : `: ${(error as NodeJS.ErrnoException).code} ${file}`}`,
    );
  }
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    // A token read from a file ends with a newline, which no header may contain.
    if (value !== undefined) headers[name.toLowerCase()] = String(value).trim();
  }
  if (options.auth) headers.authorization ??= `Basic ${Buffer.from(options.auth).toString('base64')}`;
  if (tokenFile !== undefined) Object.assign(headers, bearer(await readToken(tokenFile)));
  return { headers, tls: tlsOf(options) };
}

function tlsOf(options: RequestOptions & { servername?: string | undefined }): TlsMaterial {
  const text = (value: unknown): string | undefined =>
    value === undefined || value === null ? undefined : String(value);
  return {
    ca: text(options.ca),
    cert: text(options.cert),
    key: text(options.key),
    passphrase: options.passphrase,
    servername: options.servername,
    rejectUnauthorized: options.rejectUnauthorized,
  };
}

async function readToken(file: string): Promise<string> {
  const token = (await readFile(file, 'utf8')).trim();
  if (token === '') throw authError(`token file ${file} is empty`);
  return token;
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

function authError(message: string): KubeError {
  return new KubeError({ code: 0, reason: 'AuthenticationFailed', message });
}
