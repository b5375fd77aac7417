import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { authError, bearer, readToken } from './credentials.ts';
import type { ClusterAccess, Credentials } from './types.ts';

export interface AccessOptions {
  /** Path of a kubeconfig; without it the pod's own service account is used. */
  kubeconfig?: string | undefined;
  context?: string | undefined;
  /** Tests put a service account's files somewhere else. */
  serviceAccountRoot?: string | undefined;
  environment?: { host: string; port: string } | undefined;
}

const SERVICE_ACCOUNT_ROOT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** In a cluster without options, else from the kubeconfig: what reads those is large, and loaded by nobody in a cluster. */
export async function loadAccess(options: AccessOptions = {}): Promise<ClusterAccess> {
  if (options.kubeconfig === undefined) return await inCluster(options);
  const { fromKubeconfig } = await import('./kubeconfig.ts');
  return await fromKubeconfig(options.kubeconfig, options.context);
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
