import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { prepareDatabase } from '@crucible/storage/testing';
import { ApiServer } from '../integration/api-server.ts';
import { kubeBinary, startKubernetes } from '../integration/kubernetes.ts';
import { startPostgres } from '../integration/postgres.ts';
import { Sandbox, freePort } from '../integration/processes.ts';
import type { Server } from '../integration/processes.ts';
import { startRedis } from '../integration/redis.ts';
import { frames, runtimeLog, startKwok } from './kwok.ts';

// What benchmarks of the operator run on: everything is real except the nodes, which kwok plays: their pods end at once,
// and their logs come from one file. Limits that hold the controllers back are raised, for raw Jobs and ours alike.

const CONTROLLERS = ['job-controller', 'garbage-collector-controller', 'ttl-after-finished-controller', 'namespace-controller'];
const READY_SECONDS = 30;
/** What Node.js sets by itself in a container of 512 MiB; a machine with plenty has V8 wait longer before it collects. */
const V8 = ['--max-old-space-size=256', '--max-semi-space-size=4'];
/** Of Linux, whatever the kernel's own clock. */
const TICKS_PER_SECOND = 100;
const ROOT = resolve(import.meta.dirname, '../..');
export const NAMESPACE = 'bench';
export const RUNTIME = 'bench';

export interface Rig {
  readonly api: ApiServer;
  readonly kubeconfig: string;
  /** The last answer of a process's metrics, by series. */
  metrics(process: 'operator' | 'recorder'): Promise<Map<string, number>>;
  /** CPU seconds that each server has used so far, its children's with it. */
  cpuSeconds(): Map<string, number>;
  /** The most bytes that a process has held so far. */
  mostMemory(process: 'operator' | 'recorder'): number;
  /** Until it leads and has read everything. */
  restartOperator(): Promise<void>;
  /** No pod goes on from here. */
  stopNodes(): Promise<void>;
  stop(): Promise<void>;
}

export interface RigOptions {
  readonly maxConcurrent: number;
  /** Bytes of the log that every pod's container has printed. */
  readonly outputBytes: number;
  /** Of the Job controller and of the scheduler; Kubernetes' own defaults are 20 and 50. */
  readonly controllerRequestsPerSecond: number;
}

export async function startRig({ maxConcurrent, outputBytes, controllerRequestsPerSecond }: RigOptions): Promise<Rig> {
  const sandbox = new Sandbox();
  process.once('exit', () => sandbox.kill());
  const [kubeconfig, postgres, redis] = await Promise.all([startKubernetes(sandbox), startPostgres(sandbox), startRedis(sandbox)]);
  const limits = [`--kube-api-qps=${controllerRequestsPerSecond}`, `--kube-api-burst=${2 * controllerRequestsPerSecond}`];
  const leaderless = [`--kubeconfig=${kubeconfig}`, '--leader-elect=false', ...limits];
  sandbox.start('kube-controller-manager', kubeBinary(), [
    'kube-controller-manager',
    ...leaderless,
    '--secure-port=0',
    `--controllers=${CONTROLLERS.join(',')}`,
    '--concurrent-job-syncs=50',
  ]);
  sandbox.start('kube-scheduler', kubeBinary(), ['kube-scheduler', ...leaderless, '--secure-port=0']);
  const api = new ApiServer(kubeconfig);
  const nodes = await startNodes(sandbox, kubeconfig, api, outputBytes);
  await prepareCluster(api);
  const dsns = await prepareDatabase(postgres);
  const common = {
    CRUCIBLE_KUBECONFIG: kubeconfig,
    CRUCIBLE_NAMESPACES: NAMESPACE,
    LOG_LEVEL: 'warn',
    NODE_ENV: 'production',
  };
  const ports = { operator: await freePort(), recorder: await freePort() };
  const start = (name: 'operator' | 'recorder', program: string, environment: Record<string, string>): Server =>
    sandbox.start(name, process.execPath, [...V8, join(ROOT, program)], undefined, { ...common, PORT: String(ports[name]), HOSTNAME: `${name}-0`, ...environment });
  const startOperator = (): Server => start('operator', 'operator/src/main.ts', {
    CRUCIBLE_DATABASE_URL: dsns.operator,
    CRUCIBLE_LAUNCHER_IMAGE: 'crucible/launcher:bench',
    CRUCIBLE_LEASE_NAMESPACE: NAMESPACE,
    CRUCIBLE_MAX_CONCURRENT: String(maxConcurrent),
    // Nothing contains the pods of a played node.
    CRUCIBLE_DRILL: 'off',
  });
  const ready = (name: keyof typeof ports, server: Server): Promise<void> =>
    server.ready(async () => (await fetch(`http://127.0.0.1:${ports[name]}/readyz`)).ok, READY_SECONDS);
  let operator = startOperator();
  const recorder = start('recorder', 'operator/src/recorder/main.ts', {
    CRUCIBLE_DATABASE_URL: dsns.recorder,
    CRUCIBLE_DATA_DIR: sandbox.folder('data'),
    ...(redis !== undefined && { CRUCIBLE_REDIS_URL: redis }),
  });
  await Promise.all([ready('operator', operator), ready('recorder', recorder)]);
  return {
    api,
    kubeconfig,
    metrics: async (name) => parseMetrics(await (await fetch(`http://127.0.0.1:${ports[name]}/metrics`)).text()),
    cpuSeconds: () => cpuSeconds(join(sandbox.directory, 'pids')),
    mostMemory: (name) => mostMemory(name === 'operator' ? operator.pid : recorder.pid),
    restartOperator: async () => {
      operator.signal('SIGTERM');
      await operator.ended();
      operator = startOperator();
      await ready('operator', operator);
    },
    stopNodes: async () => {
      nodes.signal('SIGKILL');
      await nodes.ended();
    },
    stop: async () => {
      api.close();
      await sandbox.stop();
    },
  };
}

async function startNodes(sandbox: Sandbox, kubeconfig: string, api: ApiServer, outputBytes: number): Promise<Server> {
  const log = join(sandbox.folder('logs'), 'container.log');
  writeFileSync(log, runtimeLog(frames(outputBytes)));
  const stages = readFileSync(join(import.meta.dirname, 'stages.yaml'), 'utf8');
  const logs = { apiVersion: 'kwok.x-k8s.io/v1alpha1', kind: 'ClusterLogs', metadata: { name: 'all' }, spec: { logs: [{ logsFile: log }] } };
  return await startKwok(sandbox, kubeconfig, api, [stages, JSON.stringify(logs)]);
}

async function prepareCluster(api: ApiServer): Promise<void> {
  const must = async (path: string, body: unknown): Promise<void> => {
    const answer = await api.create(path, body);
    if (answer.status >= 300) throw new Error(`${path}: ${answer.body['message']}`);
  };
  await must('/api/v1/namespaces', { metadata: { name: NAMESPACE, labels: { 'crucible.dev/evaluations': 'enabled' } } });
  await must('/apis/crucible.dev/v1alpha1/evaluationruntimes', {
    apiVersion: 'crucible.dev/v1alpha1',
    kind: 'EvaluationRuntime',
    metadata: { name: RUNTIME },
    spec: { image: 'crucible/python:bench', command: ['python3'], entryFile: 'main.py', launcher: 'Included' },
  });
}

function cpuSeconds(pidsFile: string): Map<string, number> {
  const ofProcess = new Map<number, { parent: number; ticks: number }>();
  for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      // The fields after the name, which is in parentheses: state, parent, …; 11 to 14 are ticks, of ended children too.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ').map(Number);
      ofProcess.set(Number(entry), { parent: fields[1]!, ticks: fields.slice(11, 15).reduce((sum, value) => sum + value, 0) });
    } catch {
      // It has ended since it was listed.
    }
  }
  const ofTree = (pid: number): number =>
    (ofProcess.get(pid)?.ticks ?? 0) +
    [...ofProcess].filter(([, { parent }]) => parent === pid).reduce((sum, [child]) => sum + ofTree(child), 0);
  const servers = readFileSync(pidsFile, 'utf8').trim().split('\n').map((line) => line.split(' '));
  return new Map(servers.map(([pid, name]) => [name!, ofTree(Number(pid)) / TICKS_PER_SECOND]));
}

function mostMemory(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
}

export function parseMetrics(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}
