import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import path from 'node:path';
import { KubeConfig, loadYaml } from '@kubernetes/client-node';
import { authError, bearer, readToken } from './credentials.ts';
import type { ClusterAccess, Credentials, TlsMaterial } from './types.ts';

export async function fromKubeconfig(file: string, context: string | undefined): Promise<ClusterAccess> {
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
