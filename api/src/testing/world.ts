import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DirectoryFileStore, EventRelay, NamespaceRepository, connect, connectRedis, isPending, type Database } from '@crucible/storage';
import { prepareDatabase, type RoleDsns } from '@crucible/storage/testing';
import { createDatabase, type TestDatabase } from '../../../test/integration/database.ts';
import { testServer } from '../../../test/integration/environment.ts';
import { freePort } from '../../../test/integration/processes.ts';
import { TestCluster } from './cluster.ts';
import { ApiProcess, bundleApi, makeCertificate } from './process.ts';
import { Record } from './record.ts';

/** Limits that no test meets unless it wants to. */
const GENEROUS = {
  ...Object.fromEntries(['CLIENT', 'READ', 'WRITE', 'STREAM', 'DOWNLOAD', 'SESSION'].map((name) => [`CRUCIBLE_RATE_${name}`, '1000000'])),
  CRUCIBLE_MAX_STREAMS_PER_CALLER: '5000',
};

/** Real servers, the built API in front of them, and the record to put things into. */
export class World {
  readonly cluster = new TestCluster();
  readonly folder = mkdtempSync(join(tmpdir(), 'crucible-api-'));
  testDatabase!: TestDatabase;
  dsns!: RoleDsns;
  /** As the owner: for tests to write what operator and recorder would. */
  database!: Database;
  record!: Record;
  files!: DirectoryFileStore;
  bundle!: string;
  tls!: { cert: string; key: string };
  env!: { [name: string]: string };
  readonly #running: ApiProcess[] = [];

  static async start(env: { [name: string]: string } = {}): Promise<World> {
    const world = new World();
    await world.#prepare(env);
    return world;
  }

  async #prepare(env: { [name: string]: string }): Promise<void> {
    const { cluster, folder } = this;
    await Promise.all([
      cluster.prepare(),
      createDatabase('api').then(async (created) => {
        this.testDatabase = created;
        this.dsns = await prepareDatabase(created.dsn);
      }),
      bundleApi(folder).then((path) => (this.bundle = path)),
    ]);
    this.database = connect({ connectionString: this.dsns.owner, poolSize: 4 });
    const namespaces = new NamespaceRepository(this.database);
    for (const name of [cluster.evals, cluster.other]) await namespaces.observe({ name, uid: cluster.uids.get(name) as string });
    mkdirSync(join(folder, 'files'));
    this.files = new DirectoryFileStore({ directory: join(folder, 'files') });
    this.record = new Record(this.database, this.files, cluster);
    this.tls = makeCertificate(folder);
    execFileSync('openssl', ['genpkey', '-algorithm', 'ed25519', '-out', join(folder, 'signing-key.pem')], { stdio: 'ignore' });
    writeFileSync(join(folder, 'session'), randomBytes(32).toString('hex'), { mode: 0o600 });
    this.env = {
      ...(await cluster.serviceAccount(folder)),
      CRUCIBLE_DATABASE_URL: this.dsns.api,
      CRUCIBLE_REDIS_URL: redisUrl(),
      CRUCIBLE_FILE_STORE_URL: `file://${join(folder, 'files')}`,
      CRUCIBLE_NAMESPACES: `${cluster.evals},${cluster.other}`,
      CRUCIBLE_LEASE_NAMESPACE: cluster.system,
      CRUCIBLE_LAUNCHER_IMAGE: 'crucible/launcher:test',
      CRUCIBLE_TLS_CERT: this.tls.cert,
      CRUCIBLE_TLS_KEY: this.tls.key,
      CRUCIBLE_TLS_POLL_SECONDS: '0.2',
      CRUCIBLE_SESSION_KEY_FILE: join(folder, 'session'),
      CRUCIBLE_SIGNING_KEY_FILE: join(folder, 'signing-key.pem'),
      HOST: '127.0.0.1',
      METRICS_HOST: '127.0.0.1',
      METRICS_PORT: '0',
      CRUCIBLE_CHECK_ANSWERS: 'true',
      ...GENEROUS,
      ...env,
    };
  }

  /** Not waiting until it is ready. */
  async launch(env: { [name: string]: string } = {}): Promise<ApiProcess> {
    const api = new ApiProcess(this.bundle, { ...this.env, PORT: String(await freePort()), ...env }, this.tls.cert);
    this.#running.push(api);
    return api;
  }

  async api(env: { [name: string]: string } = {}): Promise<ApiProcess> {
    return await (await this.launch(env)).ready();
  }

  /** Has the relay tell a Redis about everything until now; resolves when it knows that this run is pending. */
  async relayTo(url: string, uid: string): Promise<void> {
    const redis = connectRedis({ url });
    const quiet = { active: () => undefined, published: () => undefined, lag: () => undefined, trouble: () => undefined, rewritten: () => undefined, deadLetters: () => undefined };
    const relay = new EventRelay(this.database, redis, quiet as never, { lockKey: 7_777 });
    relay.start();
    try {
      while ((await isPending(redis, uid)) !== true) await new Promise((done) => setTimeout(done, 50));
    } finally {
      await relay.stop();
      redis.disconnect();
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#running.map((api) => api.stop('SIGKILL')));
    await this.database?.close();
    await this.testDatabase?.drop();
    await this.cluster.remove();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Files share the server and not the database in it: a stream of events is of one installation. */
function redisUrl(): string {
  const url = new URL(testServer('CRUCIBLE_TEST_REDIS'));
  url.pathname = `/${1 + (Number(process.env['VITEST_POOL_ID'] ?? 0) % 15)}`;
  return url.href;
}

export const newUid = (): string => randomUUID();
