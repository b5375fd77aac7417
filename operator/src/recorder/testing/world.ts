// A recorder's surroundings for integration tests: a real Postgres with the real grants (behind a proxy that can go
// away), a cluster that plays pods and their logs, and recorders, in this process or as processes of their own.
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AttemptRepository,
  CaptureRepository,
  connect,
  EvaluationRepository,
  migrate,
  type CaptureRecord,
  type Database,
  type DatabaseOptions,
} from '@crucible/storage';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { TcpProxy } from '../../../../test/faults/tcp-proxy.ts';
import { createDatabase, type TestDatabase } from '../../../../test/integration/database.ts';
import { InformerSet, KubeClient, loadAccess, PODS, systemClock } from '../../kube/index.ts';
import { PATIENCE, type RecorderContext } from '../context.ts';
import { DatabaseHealth } from '../database.ts';
import { DEFAULT_STORAGE } from '../storage-config.ts';
import { createContext } from '../main.ts';
import { RecorderMetrics } from '../metrics.ts';
import { slimPod, type SandboxPod } from '../pods.ts';
import { Recorder } from '../recorder.ts';
import { TestCluster, TestPod } from './cluster.ts';

const PASSWORD = 'recorder-password';
/** Everything that waits in production waits less here. */
export const FAST = {
  ...PATIENCE,
  unknownAttemptMs: 2_000,
  unknownRetryMs: 20,
  heldMs: 100,
  drainMs: 200,
  settleMs: 20,
  reconnectBaseMs: 5,
  reconnectMaxMs: 50,
};

export interface RunningRecorder {
  readonly recorder: Recorder;
  readonly context: RecorderContext;
  readonly pods: InformerSet<SandboxPod>;
  stop(): Promise<void>;
}

export class World {
  readonly cluster = new TestCluster();
  readonly #database: TestDatabase;
  readonly owner: Database;
  readonly captures: CaptureRepository;
  readonly proxy: TcpProxy;
  readonly dataDir: string;
  readonly #recorders = new Set<RunningRecorder>();
  readonly #children = new Set<ChildProcess>();

  static async create(): Promise<World> {
    const database = await createDatabase('recorder');
    await migrate({ connectionString: database.dsn, rolePasswords: { crucible_recorder: PASSWORD } });
    const world = new World(database, await mkdtemp(join(tmpdir(), 'crucible-recorder-')));
    await world.cluster.start();
    await world.proxy.up();
    return world;
  }

  private constructor(database: TestDatabase, dataDir: string) {
    this.#database = database;
    this.dataDir = dataDir;
    this.owner = connect(database.dsn);
    this.captures = new CaptureRepository(this.owner);
    const { hostname, port } = new URL(database.dsn);
    this.proxy = new TcpProxy({ host: hostname, port: Number(port) });
  }

  get recorderDsn(): string {
    const dsn = new URL(this.#database.dsn);
    dsn.username = 'crucible_recorder';
    dsn.password = PASSWORD;
    dsn.hostname = '127.0.0.1';
    dsn.port = String(this.proxy.port);
    return dsn.href;
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await Promise.all([...this.#recorders].map((recorder) => recorder.stop()));
    await this.cluster.stop();
    await this.proxy.down();
    await this.owner.close();
    await this.#database.drop();
    await rm(this.dataDir, { recursive: true, force: true });
  }

  /** Rows as the operator writes them, then the pod. */
  async addPod(name: string, options: { known?: boolean } = {}): Promise<TestPod> {
    const pod = new TestPod(name);
    if (options.known ?? true) await this.know(pod);
    this.cluster.add(pod);
    return pod;
  }

  async know(pod: TestPod): Promise<void> {
    const uid = pod.evaluationUid;
    const common = { generation: 1, spec: {}, createdAt: new Date(), phase: 'Running', epoch: 1 };
    await new EvaluationRepository(this.owner).upsertAccepted({
      uid,
      namespace: 'evals',
      namespaceUid: randomUUID(),
      name: pod.name,
      ...common,
    });
    const attempts = new AttemptRepository(this.owner);
    await attempts.create({
      evaluationUid: uid,
      number: 1,
      jobName: `${pod.name}-1`,
      image: 'x',
      runtimeClass: null,
      epoch: 1,
    });
    await attempts.setJob({ evaluationUid: uid, number: 1, jobUid: pod.jobUid, epoch: 1 });
  }

  /** As the operator, when it has waited for the capture for long enough. What the record says of it then. */
  async finish(pod: TestPod): Promise<() => Promise<unknown>> {
    const [at, verdict] = [{ evaluationUid: pod.evaluationUid, number: 1, epoch: 1 }, { class: 'Cancelled', message: 'Deleted.' }];
    const end = { podUid: pod.uid, startedAt: null, finishedAt: null, exitCode: null, signal: null, verdict };
    await new AttemptRepository(this.owner).finalize({ ...at, ...end });
    const evaluations = new EvaluationRepository(this.owner);
    await evaluations.finish({ uid: pod.evaluationUid, epoch: 1, phase: 'Cancelled', verdict, passed: null, finishedAt: new Date() });
    const text = `SELECT to_jsonb(e) - 'event_seq' AS run, to_jsonb(a) AS attempt FROM crucible.evaluations e
                  JOIN crucible.attempts a ON a.evaluation_uid = e.uid WHERE e.uid = $1`;
    return async () => (await this.owner.query(text, [pod.evaluationUid])).rows;
  }

  /** `callMs`: how long it waits for an answer of the API server. `folder`: a disk of its own, not the one that all share. */
  async recorder(
    id: string,
    change: Partial<RecorderContext> = {},
    { callMs, pool, folder = '.' }: { callMs?: number; pool?: Partial<DatabaseOptions>; folder?: string } = {},
  ): Promise<RunningRecorder> {
    const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
    const database = connect({ connectionString: this.recorderDsn, applicationName: id, patient: true, ...pool });
    const own = connect({ connectionString: this.recorderDsn, applicationName: `${id} own`, poolSize: 2 });
    const health = new DatabaseHealth(own, systemClock);
    const access = await loadAccess({ kubeconfig: await this.kubeconfig() });
    const client = new KubeClient({ access, logger, timeoutMs: callMs });
    const namespaces = [this.cluster.namespace];
    const pods = new InformerSet<SandboxPod>({ client, resource: PODS, namespaces, transform: slimPod, logger });
    const config = {
      databaseUrl: '',
      redisUrl: undefined,
      namespaces,
      dataDir: join(this.dataDir, folder),
      storage: DEFAULT_STORAGE,
      maxFollows: 200,
      maxFinalReads: 4,
      maxSpoolBytes: 2 ** 30,
      shutdownSeconds: 5,
      kubeconfig: undefined,
      id,
      logLevel: 'silent',
      port: 0,
    };
    const made = await createContext({
      config,
      logger,
      metrics: new RecorderMetrics(new Registry()),
      database,
      own,
      health,
      logs: client,
    });
    const context = { ...made, patience: FAST, ...change };
    const recorder = new Recorder({ context, pods, unfinished: made.captures });
    const running: RunningRecorder = {
      recorder,
      context,
      pods,
      stop: async () => {
        if (!this.#recorders.delete(running)) return;
        await recorder.stop();
        health.stop();
        await Promise.allSettled([client.close(), database.close(), own.close()]);
      },
    };
    this.#recorders.add(running);
    recorder.start();
    return running;
  }

  /** The real thing, to be killed for real. */
  async process(id: string): Promise<ChildProcess> {
    const env = {
      PATH: process.env['PATH'],
      CRUCIBLE_DATABASE_URL: this.recorderDsn,
      CRUCIBLE_NAMESPACES: this.cluster.namespace,
      CRUCIBLE_DATA_DIR: this.dataDir,
      CRUCIBLE_KUBECONFIG: await this.kubeconfig(),
      HOSTNAME: id,
      PORT: '0',
      LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'error',
    };
    const child = spawn(process.execPath, [join(import.meta.dirname, '..', 'main.ts')], {
      env,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    this.#children.add(child);
    return child;
  }

  /** A recorder of that name has a connection to Postgres. */
  async connected(id: string): Promise<boolean> {
    const text = 'SELECT 1 FROM pg_stat_activity WHERE application_name = $1';
    return (await this.owner.query(text, [`crucible-recorder ${id}`])).rowCount > 0;
  }

  async captured(pod: TestPod): Promise<CaptureRecord> {
    return await this.until(async () => {
      const capture = await this.captures.get(pod.evaluationUid, 1);
      return capture?.state === 'captured' ? capture : undefined;
    });
  }

  async until<T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> {
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async stored(pod: TestPod, stream: 'stdout' | 'stderr'): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for (let offset = 0; ;) {
      const { data } = await this.captures.readOutput(pod.evaluationUid, 1, stream, { offset });
      if (data.length === 0) return Buffer.concat(pieces);
      pieces.push(data);
      offset += data.length;
    }
  }

  /** What waits on disk, of all captures. */
  async spooled(folder = '.'): Promise<string> {
    const directory = join(this.dataDir, folder, 'spool');
    const names = await readdir(directory);
    return (await Promise.all(names.map((name) => readFile(join(directory, name), 'latin1').catch(() => '')))).join('');
  }

  async kubeconfig(): Promise<string> {
    const path = join(this.dataDir, 'kubeconfig');
    const named = {
      clusters: [{ name: 'c', cluster: { server: this.cluster.url } }],
      users: [{ name: 'u', user: {} }],
    };
    const contexts = [{ name: 'x', context: { cluster: 'c', user: 'u' } }];
    await writeFile(
      path,
      JSON.stringify({ apiVersion: 'v1', kind: 'Config', ...named, contexts, 'current-context': 'x' }),
    );
    return path;
  }
}

export const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
