import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ApiServer } from '../integration/api-server.ts';
import { createKubernetes, kubeBinary } from '../integration/kubernetes.ts';
import type { RestartableKubernetes } from '../integration/kubernetes.ts';
import { createPostgres } from '../integration/postgres.ts';
import type { RestartablePostgres } from '../integration/postgres.ts';
import { Sandbox } from '../integration/processes.ts';
import { createRedis } from '../integration/redis.ts';
import type { RestartableRedis } from '../integration/redis.ts';
import { PlayedNode } from './node.ts';
import { ACCOUNTS, Rights, SYSTEM } from './rights.ts';
import type { Account } from './rights.ts';

// Servers of this folder's own, because they are killed: etcd, API server, the real Job controller and garbage collector,
// Postgres and Redis, and one played node. Our programs have the identities and rights
// that they have in an installation, which can be taken away.

const CONTROLLERS = ['job-controller', 'garbage-collector-controller', 'ttl-after-finished-controller', 'namespace-controller'];

export class Servers {
  readonly sandbox: Sandbox;
  readonly kubernetes: RestartableKubernetes;
  readonly postgres: RestartablePostgres;
  /** Undefined when the machine has neither Redis nor Valkey. */
  readonly redis: RestartableRedis | undefined;
  readonly node: PlayedNode;
  readonly rights: Rights;
  readonly #api: ApiServer;
  readonly #tokens = new Map<Account, string>();

  static async start(): Promise<Servers> {
    const sandbox = new Sandbox();
    try {
      const starting = createPostgres(sandbox).then(async (postgres) => ({ postgres, dsn: await postgres.start() }));
      const [kubernetes, { postgres }, redis] = await Promise.all([createKubernetes(sandbox), starting, createRedis(sandbox)]);
      await redis?.start();
      sandbox.start('kube-controller-manager', kubeBinary(), [
        'kube-controller-manager',
        `--kubeconfig=${kubernetes.kubeconfig}`,
        `--controllers=${CONTROLLERS.join(',')}`,
        '--leader-elect=false',
        '--secure-port=0',
        '--kube-api-qps=200',
        '--kube-api-burst=400',
      ]);
      const servers = new Servers(sandbox, kubernetes, postgres, redis);
      await servers.#identities();
      await servers.rights.grant();
      await servers.node.start();
      return servers;
    } catch (error) {
      sandbox.kill();
      throw error;
    }
  }

  private constructor(
    sandbox: Sandbox,
    kubernetes: RestartableKubernetes,
    postgres: RestartablePostgres,
    redis: RestartableRedis | undefined,
  ) {
    this.sandbox = sandbox;
    this.kubernetes = kubernetes;
    this.postgres = postgres;
    this.redis = redis;
    this.#api = new ApiServer(kubernetes.kubeconfig);
    this.rights = new Rights(this.#api);
    this.node = new PlayedNode(kubernetes.kubeconfig, this.certificate);
  }

  get kubeconfig(): string {
    return this.kubernetes.kubeconfig;
  }

  async #identities(): Promise<void> {
    const accounts = `/api/v1/namespaces/${SYSTEM}/serviceaccounts`;
    await this.#api.create('/api/v1/namespaces', { metadata: { name: SYSTEM } });
    for (const name of ACCOUNTS) {
      await this.#api.create(accounts, { metadata: { name } });
      const { status, body } = await this.#api.create(`${accounts}/${name}/token`, { spec: { expirationSeconds: 86_400 } });
      if (status >= 300) throw new Error(`no token: ${body['message']}`);
      this.#tokens.set(name, body['status'].token as string);
    }
  }

  /** The API server's own, made by itself; good for 127.0.0.1, whoever serves there. */
  get certificate(): { certificate: string; key: string } {
    const folder = dirname(this.kubeconfig);
    return { certificate: join(folder, 'apiserver.crt'), key: join(folder, 'apiserver.key') };
  }

  get apiUrl(): string {
    return (JSON.parse(readFileSync(this.kubeconfig, 'utf8')) as { clusters: [{ cluster: { server: string } }] }).clusters[0]
      .cluster.server;
  }

  /** For our programs, at the address of a proxy. */
  kubeconfigAt(url: string, account: Account, path: string): string {
    const config = JSON.parse(readFileSync(this.kubeconfig, 'utf8'));
    config.clusters[0].cluster.server = url;
    config.users[0].user = { token: this.#tokens.get(account) };
    writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
    return path;
  }

  async stop(): Promise<void> {
    await this.node.stop();
    this.#api.close();
    await this.sandbox.stop();
  }
}
