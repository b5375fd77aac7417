import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { kubeBinary, startKubernetes } from '../integration/kubernetes.ts';
import { createPostgres } from '../integration/postgres.ts';
import type { RestartablePostgres } from '../integration/postgres.ts';
import { Sandbox } from '../integration/processes.ts';
import { createRedis } from '../integration/redis.ts';
import type { RestartableRedis } from '../integration/redis.ts';
import { PlayedNode } from './node.ts';

// Servers of this folder's own, because they are killed: etcd, API server, the real Job controller and garbage collector,
// Postgres and Redis, and one played node.

const CONTROLLERS = ['job-controller', 'garbage-collector-controller', 'ttl-after-finished-controller', 'namespace-controller'];

export class Servers {
  readonly sandbox: Sandbox;
  readonly kubeconfig: string;
  readonly postgres: RestartablePostgres;
  /** Undefined when the machine has neither Redis nor Valkey. */
  readonly redis: RestartableRedis | undefined;
  readonly node: PlayedNode;

  static async start(): Promise<Servers> {
    const sandbox = new Sandbox();
    try {
      const starting = createPostgres(sandbox).then(async (postgres) => ({ postgres, dsn: await postgres.start() }));
      const [kubeconfig, { postgres }, redis] = await Promise.all([startKubernetes(sandbox), starting, createRedis(sandbox)]);
      await redis?.start();
      sandbox.start('kube-controller-manager', kubeBinary(), [
        'kube-controller-manager',
        `--kubeconfig=${kubeconfig}`,
        `--controllers=${CONTROLLERS.join(',')}`,
        '--leader-elect=false',
        '--secure-port=0',
        '--kube-api-qps=200',
        '--kube-api-burst=400',
      ]);
      const servers = new Servers(sandbox, kubeconfig, postgres, redis);
      await servers.node.start();
      return servers;
    } catch (error) {
      sandbox.kill();
      throw error;
    }
  }

  private constructor(
    sandbox: Sandbox,
    kubeconfig: string,
    postgres: RestartablePostgres,
    redis: RestartableRedis | undefined,
  ) {
    this.sandbox = sandbox;
    this.kubeconfig = kubeconfig;
    this.postgres = postgres;
    this.redis = redis;
    this.node = new PlayedNode(kubeconfig, this.certificate);
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

  /** The same credentials at another address. */
  kubeconfigAt(url: string, path: string): string {
    const config = JSON.parse(readFileSync(this.kubeconfig, 'utf8'));
    config.clusters[0].cluster.server = url;
    writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
    return path;
  }

  async stop(): Promise<void> {
    await this.node.stop();
    await this.sandbox.stop();
  }
}
