import { randomUUID } from 'node:crypto';
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { LABELS, SANDBOX_CONTAINER } from '@crucible/crds';
import { AttemptRepository, CAPTURED_CHANNEL, connect, EvaluationRepository, type Database } from '@crucible/storage';
import { prepareDatabase } from '@crucible/storage/testing';
import { ApiServer } from '../integration/api-server.ts';
import { startKubernetes } from '../integration/kubernetes.ts';
import { startPostgres } from '../integration/postgres.ts';
import { Sandbox, freePort } from '../integration/processes.ts';
import type { Server } from '../integration/processes.ts';
import { startRedis } from '../integration/redis.ts';
import { startFileNode } from './file-node.ts';
import { NODE, runtimeLog, startKwok } from './kwok.ts';
import { parseMetrics } from './rig.ts';

// What benchmarks of the recorder run on: a real API server, Postgres, Redis and recorder. There is no operator: the rows
// that it would write, the pods, and what a kubelet says of them are written here, so that nothing else is measured. kwok
// plays the node: it serves logs from files, with the kubelet's own code.

const READY_SECONDS = 30;
const ROOT = resolve(import.meta.dirname, '../..');
const CREATORS = 16;
export const NAMESPACE = 'bench';
const PODS = `/api/v1/namespaces/${NAMESPACE}/pods`;

export class BenchPod {
  readonly evaluationUid = randomUUID();
  readonly jobUid = randomUUID();
  readonly name: string;
  readonly group: string;
  readonly logFile: string;
  /** When the record said that it is captured. */
  capturedAt: number | undefined;

  constructor(name: string, group: string, logFile: string) {
    this.name = name;
    this.group = group;
    this.logFile = logFile;
  }
}

type State = 'running' | 'ended' | 'replaced';

export interface RecorderRig {
  readonly kubeconfig: string;
  readonly recorderPid: number;
  readonly pods: readonly BenchPod[];
  metrics(): Promise<Map<string, number>>;
  /** Rows and pods; their containers do not run yet. */
  create(pods: readonly BenchPod[]): Promise<void>;
  write(pod: BenchPod, frames: readonly Buffer[]): void;
  /** What the kubelet would say of the container. */
  /** `replaced`: ended as another container than the one that ran, whose log is therefore read again. */
  say(pod: BenchPod, state: State): Promise<void>;
  storedBytes(pods: readonly BenchPod[]): Promise<number>;
  captured(pods: readonly BenchPod[]): Promise<void>;
  stop(): Promise<void>;
}

export interface RecorderRigOptions {
  /** `kwok` has the kubelet's own code; `files` serves any number of followers. */
  readonly node?: 'kwok' | 'files';
  readonly maxFollows?: number;
  /** How V8 is to treat memory. Default: as on a machine that has plenty. */
  readonly v8?: readonly string[];
  /** As the chart sets it. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** `groups`: how many pods there are of each; where logs are must be said before the node starts. */
export async function startRecorderRig(
  groups: Readonly<Record<string, number>>,
  { node = 'kwok', maxFollows = 500, v8 = [], environment = {} }: RecorderRigOptions = {},
): Promise<RecorderRig> {
  const sandbox = new Sandbox();
  process.once('exit', () => sandbox.kill());
  const [kubeconfig, postgres, redis] = await Promise.all([startKubernetes(sandbox), startPostgres(sandbox), startRedis(sandbox)]);
  const api = new ApiServer(kubeconfig);
  const pods = makePods(sandbox, groups);
  const stopNode = await startNode[node](sandbox, kubeconfig, api, pods);
  await must(api, '/api/v1/namespaces', { metadata: { name: NAMESPACE } });
  const dsns = await prepareDatabase(postgres);
  const [operator, owner] = [connect(dsns.operator), connect(dsns.owner)];
  const port = await freePort();
  const recorder = startRecorder(sandbox, { kubeconfig, port, database: dsns.recorder, redis, maxFollows, v8, environment });
  await recorder.ready(async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok, READY_SECONDS);
  const arrivals = new Arrivals(owner, pods);
  return {
    kubeconfig,
    recorderPid: recorder.pid,
    pods,
    metrics: async () => parseMetrics(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()),
    create: async (some) => await each(some, (pod) => create(api, operator, pod)),
    write: (pod, frames) => appendFileSync(pod.logFile, node === 'kwok' ? runtimeLog(frames) : Buffer.concat(frames)),
    say: async (pod, state) => await patch(api, `${PODS}/${pod.name}/status`, { status: statusOf(state) }),
    storedBytes: (some) => storedBytes(owner, some),
    captured: (some) => arrivals.of(some),
    stop: async () => {
      await arrivals.stop();
      stopNode();
      api.close();
      await Promise.all([operator.close(), owner.close()]);
      await sandbox.stop();
    },
  };
}

type StartNode = (sandbox: Sandbox, kubeconfig: string, api: ApiServer, pods: readonly BenchPod[]) => Promise<() => void>;

const startNode: Readonly<Record<'kwok' | 'files', StartNode>> = {
  async kwok(sandbox, kubeconfig, api, pods) {
    const stage = readFileSync(join(import.meta.dirname, 'stages.yaml'), 'utf8').split('\n---\n')[0]!;
    await startKwok(sandbox, kubeconfig, api, [stage, ...pods.map(logsOf)]);
    return () => undefined;
  },
  files: (_, kubeconfig, api, pods) => startFileNode(kubeconfig, api, new Map(pods.map(({ name, logFile }) => [name, logFile]))),
};

function makePods(sandbox: Sandbox, groups: Readonly<Record<string, number>>): BenchPod[] {
  const folder = sandbox.folder('logs');
  return Object.entries(groups).flatMap(([group, count]) =>
    Array.from({ length: count }, (_, index) => {
      // A folder each, as on a node: whoever follows a log watches its folder.
      const own = join(folder, `${group}-${index}`);
      mkdirSync(own);
      const logFile = join(own, '0.log');
      writeFileSync(logFile, '');
      return new BenchPod(`${group}-${index}`, group, logFile);
    }),
  );
}

function logsOf(pod: BenchPod): string {
  return JSON.stringify({
    apiVersion: 'kwok.x-k8s.io/v1alpha1',
    kind: 'Logs',
    metadata: { name: pod.name, namespace: NAMESPACE },
    spec: { logs: [{ containers: [SANDBOX_CONTAINER], logsFile: pod.logFile, follow: true }] },
  });
}

interface RecorderSettings {
  readonly kubeconfig: string;
  readonly port: number;
  readonly database: string;
  readonly redis: string | undefined;
  readonly maxFollows: number;
  readonly v8: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

function startRecorder(sandbox: Sandbox, { kubeconfig, port, database, redis, maxFollows, v8, environment }: RecorderSettings): Server {
  const profile = process.env['BENCH_PROFILE'];
  const flags = profile === undefined ? v8 : [...v8, '--cpu-prof', `--cpu-prof-dir=${profile}`];
  return sandbox.start('recorder', process.execPath, [...flags, join(ROOT, 'operator/src/recorder/main.ts')], undefined, {
    ...environment,
    CRUCIBLE_KUBECONFIG: kubeconfig,
    CRUCIBLE_NAMESPACES: NAMESPACE,
    CRUCIBLE_DATABASE_URL: database,
    CRUCIBLE_DATA_DIR: sandbox.folder('data'),
    CRUCIBLE_MAX_FOLLOWS: String(maxFollows),
    ...(redis !== undefined && { CRUCIBLE_REDIS_URL: redis }),
    HOSTNAME: 'recorder-0',
    LOG_LEVEL: 'warn',
    NODE_ENV: 'production',
    PORT: String(port),
  });
}

async function create(api: ApiServer, operator: Database, pod: BenchPod): Promise<void> {
  const { evaluationUid, jobUid, name, group } = pod;
  await new EvaluationRepository(operator).upsertAccepted({
    uid: evaluationUid, namespace: NAMESPACE, namespaceUid: NAMESPACE_UID, name, generation: 1, spec: {}, createdAt: new Date(), phase: 'Running', epoch: 1,
  });
  const attempts = new AttemptRepository(operator);
  await attempts.create({ evaluationUid, number: 1, jobName: `${name}-1`, image: 'x', runtimeClass: null, epoch: 1 });
  await attempts.setJob({ evaluationUid, number: 1, jobUid, epoch: 1 });
  await must(api, PODS, {
    metadata: {
      name,
      labels: { [LABELS.sandbox]: 'true', [LABELS.evaluationUid]: evaluationUid, [LABELS.attempt]: '1', group },
      ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name, uid: jobUid, controller: true }],
    },
    spec: { nodeName: NODE, automountServiceAccountToken: false, containers: [{ name: SANDBOX_CONTAINER, image: 'x' }] },
  });
}

const NAMESPACE_UID = '5f6f3f0c-9f0e-4f39-8f0c-0c5f4b8f1a11';

function statusOf(state: State): object {
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const container = { name: SANDBOX_CONTAINER, image: 'x', imageID: 'x', containerID: state === 'replaced' ? 'containerd://y' : 'containerd://x', ready: state === 'running', restartCount: 0 };
  const detail = state === 'running' ? { running: { startedAt: now } } : { terminated: { startedAt: now, finishedAt: now, exitCode: 0, reason: 'Completed' } };
  return { phase: state === 'running' ? 'Running' : 'Succeeded', containerStatuses: [{ ...container, state: detail }] };
}

async function storedBytes(owner: Database, pods: readonly BenchPod[]): Promise<number> {
  const { rows } = await owner.query<{ bytes: number }>(
    'SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM crucible.streams WHERE evaluation_uid = ANY ($1::uuid[])',
    [pods.map((pod) => pod.evaluationUid)],
  );
  return rows[0]!.bytes;
}

/** Who is captured, and since when. */
class Arrivals {
  readonly #byName: ReadonlyMap<string, BenchPod>;
  readonly #listener;
  #waiters: (() => void)[] = [];

  constructor(owner: Database, pods: readonly BenchPod[]) {
    this.#byName = new Map(pods.map((pod) => [`${NAMESPACE}/${pod.name}`, pod]));
    this.#listener = owner.listen(CAPTURED_CHANNEL, (signal) => {
      const pod = signal.type === 'notification' ? this.#byName.get(signal.payload) : undefined;
      if (pod === undefined) return;
      pod.capturedAt = performance.now();
      for (const wake of this.#waiters.splice(0)) wake();
    });
  }

  async of(pods: readonly BenchPod[]): Promise<void> {
    while (pods.some((pod) => pod.capturedAt === undefined)) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  stop(): Promise<void> {
    return this.#listener.close();
  }
}

export async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(Array.from({ length: CREATORS }, async () => {
    for (const item of left) await work(item);
  }));
}

async function must(api: ApiServer, path: string, body: unknown): Promise<void> {
  const answer = await api.create(path, body);
  if (answer.status >= 300) throw new Error(`${path}: ${answer.body['message']}`);
}

async function patch(api: ApiServer, path: string, body: unknown): Promise<void> {
  const answer = await api.mergePatch(path, body);
  if (answer.status >= 300) throw new Error(`${path}: ${answer.body['message']}`);
}
