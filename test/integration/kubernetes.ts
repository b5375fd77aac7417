import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { installCrds } from './api-server.ts';
import { SetupError, freePort, isExecutable } from './processes.ts';
import type { Sandbox, Server } from './processes.ts';

const ETCD_SECONDS = 20;
/** Three to five seconds on two idle cores; other builds may be running. */
const API_SERVER_SECONDS = 60;

/** The multi-call binary with etcd, kube-apiserver and kubectl that the local cluster is made of. */
export function kubeBinary(): string {
  const cache =
    process.env['CRUCIBLE_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'crucible');
  const path = process.env['CRUCIBLE_KUBE_BIN'] ?? join(cache, 'bin/kube');
  if (!isExecutable(path)) {
    throw new SetupError(
      `no Kubernetes binary at ${path}: \`make test-integration\` builds it, or name one with CRUCIBLE_KUBE_BIN`,
    );
  }
  return path;
}

/** etcd and kube-apiserver with RBAC, our CRDs and no controllers; returns the path of an administrator's kubeconfig. */
export async function startKubernetes(sandbox: Sandbox): Promise<string> {
  return (await createKubernetes(sandbox)).kubeconfig;
}

/** A server on one port and one data directory, to be killed, paused and started again. */
export interface RestartableServer {
  /** Resolves when it answers. */
  start(): Promise<void>;
  /** Resolves when the process has ended. */
  kill(): Promise<void>;
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
}

export interface RestartableKubernetes {
  /** Of an administrator. */
  readonly kubeconfig: string;
  readonly apiServer: RestartableServer;
  readonly etcd: RestartableServer;
}

/** Both run already. */
export async function createKubernetes(sandbox: Sandbox): Promise<RestartableKubernetes> {
  const binary = kubeBinary();
  const folder = sandbox.folder('kubernetes');
  const { url, etcd } = await createEtcd(sandbox, binary);
  await etcd.start();
  const token = randomBytes(24).toString('hex');
  const tokens = join(folder, 'tokens.csv');
  writeFileSync(tokens, `${token},admin,admin,"system:masters"\n`, { mode: 0o600 });
  const key = serviceAccountKey(folder);
  const port = await freePort();
  const flags = [
    'kube-apiserver',
    `--etcd-servers=${url}`,
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    `--secure-port=${port}`,
    `--cert-dir=${folder}`,
    `--token-auth-file=${tokens}`,
    '--authorization-mode=RBAC',
    '--service-cluster-ip-range=10.255.0.0/24',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${key}`,
    `--service-account-signing-key-file=${key}`,
    // Nobody makes default service accounts here, and pods must be creatable all the same.
    '--disable-admission-plugins=ServiceAccount',
    '--allow-privileged=true',
    '--profiling=false',
  ];
  const certificate = join(folder, 'apiserver.crt');
  const apiServer = restartable(
    () => sandbox.start('kube-apiserver', binary, flags),
    (server) => server.ready(() => isReady(port, certificate, token), API_SERVER_SECONDS),
  );
  await apiServer.start();
  const kubeconfig = join(folder, 'kubeconfig');
  writeFileSync(kubeconfig, kubeconfigFor(port, readFileSync(certificate), token), { mode: 0o600 });
  await installCrds(kubeconfig);
  return { kubeconfig, apiServer, etcd };
}

async function createEtcd(sandbox: Sandbox, binary: string): Promise<{ url: string; etcd: RestartableServer }> {
  const client = `http://127.0.0.1:${await freePort()}`;
  const peer = `http://127.0.0.1:${await freePort()}`;
  const data = sandbox.folder('etcd');
  const flags = [
    'etcd',
    `--data-dir=${data}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    '--unsafe-no-fsync',
    '--log-level=warn',
  ];
  const etcd = restartable(
    () => sandbox.start('etcd', binary, flags),
    (server) => server.ready(async () => (await fetch(`${client}/health`)).ok, ETCD_SECONDS),
  );
  return { url: client, etcd };
}

function restartable(start: () => Server, ready: (server: Server) => Promise<void>): RestartableServer {
  let server: Server | undefined;
  return {
    start: async () => {
      server = start();
      await ready(server);
    },
    kill: async () => {
      server?.signal('SIGKILL');
      await server?.ended();
    },
    signal: (signal) => server?.signal(signal),
  };
}

function serviceAccountKey(folder: string): string {
  const path = join(folder, 'service-account.key');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(path, privateKey.export({ type: 'sec1', format: 'pem' }), { mode: 0o600 });
  return path;
}

function isReady(port: number, certificate: string, token: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    // The server makes its certificate while it starts: until then reading it throws, which means not ready.
    const options = {
      host: '127.0.0.1',
      port,
      path: '/readyz',
      ca: readFileSync(certificate),
      headers: { authorization: `Bearer ${token}` },
      agent: false,
    };
    const call = request(options, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    call.once('error', reject);
    call.setTimeout(2_000, () => call.destroy());
    call.end();
  });
}

function kubeconfigFor(port: number, certificate: Buffer, token: string): string {
  return JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin' } }],
      clusters: [
        {
          name: 'test',
          cluster: {
            server: `https://127.0.0.1:${port}`,
            'certificate-authority-data': certificate.toString('base64'),
          },
        },
      ],
      users: [{ name: 'admin', user: { token } }],
    },
    null,
    2,
  );
}
