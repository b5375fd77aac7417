import { randomBytes } from 'node:crypto';
import type { EvaluationStatus } from '@crucible/crds';
import { ArtifactRepository, AttemptRepository, CaptureRepository, EvaluationRepository, connect, migrate } from '@crucible/storage';
import type { Database } from '@crucible/storage';
import { pino } from 'pino';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { containerStatus as container, kubeTime as iso } from '../../../../test/faults/pod-status.ts';
import { TcpProxy } from '../../../../test/faults/tcp-proxy.ts';
import { ApiServer } from '../../../../test/integration/api-server.ts';
import { createDatabase } from '../../../../test/integration/database.ts';
import type { TestDatabase } from '../../../../test/integration/database.ts';
import { testServer } from '../../../../test/integration/environment.ts';
import { EventRecorder, KubeClient, KubeMetrics, loadAccess } from '../../kube/index.ts';
import type { Operator } from '../../term.ts';
import { openGate } from '../../drill/gate.ts';
import type { GateKeeper } from '../../drill/gate.ts';
import { ClusterCaches } from '../caches.ts';
import { DomainMetrics } from '../metrics.ts';
import { EvaluationOperator } from '../operator.ts';
import type { Settings } from '../settings.ts';
import { measured, settings } from './builders.ts';

// A real API server and Postgres around a real operator. What does not exist here is played: the Job controller, the
// scheduler and the kubelet write what they would write, and the recorder stores what it would store.

/** Generous because builds may run beside the tests; a passing test never waits for it. */
const PATIENCE_MS = 20_000;
const POLL_MS = 25;

type Json = Record<string, any>;

export interface Parts {
  readonly client: KubeClient;
  readonly caches: ClusterCaches;
  readonly database: Database;
  readonly events: EventRecorder;
  readonly settings: Settings;
  readonly captures: CaptureRepository;
  readonly artifacts: ArtifactRepository;
  readonly logger: Logger;
}

export class TestCluster {
  readonly api = new ApiServer(testServer('CRUCIBLE_TEST_KUBECONFIG'));
  readonly namespace = `evals-${randomBytes(4).toString('hex')}`;
  readonly runtime = `python-${randomBytes(4).toString('hex')}`;
  readonly settings: Settings;
  /** Open, unless a test plays the drill. */
  gate: GateKeeper = openGate();
  #testDatabase: TestDatabase | undefined;
  #proxy: TcpProxy | undefined;
  #direct: Database | undefined;
  #database: Database | undefined;
  #client: KubeClient | undefined;
  #caches: ClusterCaches | undefined;
  #operator: EvaluationOperator | undefined;
  #events: EventRecorder | undefined;
  readonly #kubeMetrics = new KubeMetrics(new Registry());
  #parts: Parts | undefined;
  epoch = 0;
  readonly #makeNeighbours: readonly ((parts: Parts) => Operator)[];
  #neighbours: readonly Operator[] = [];

  constructor(changes: Partial<Settings> = {}, neighbours: readonly ((parts: Parts) => Operator)[] = []) {
    this.#makeNeighbours = neighbours;
    this.settings = settings({ kueue: false, ...changes, evaluationNamespaces: [this.namespace] });
  }

  async start(): Promise<void> {
    await this.api.create('/api/v1/namespaces', {
      metadata: { name: this.namespace, labels: { 'crucible.dev/evaluations': 'enabled' } },
    });
    await this.createRuntime(this.runtime);
    this.#testDatabase = await createDatabase('evaluation');
    await migrate({ connectionString: this.#testDatabase.dsn });
    this.#direct = connect({ connectionString: this.#testDatabase.dsn });
    const { hostname, port } = new URL(this.#testDatabase.dsn);
    this.#proxy = new TcpProxy({ host: hostname, port: Number(port) });
    await this.#proxy.up();
    this.#database = connect({
      connectionString: this.#proxy.through(this.#testDatabase.dsn),
      connectTimeoutSeconds: 2,
      statementTimeoutSeconds: 5,
    });
    await this.startOperator();
  }

  async startOperator(): Promise<void> {
    const { client, caches, events, captures, logger } = await this.parts();
    const database = this.database(this.#database);
    const metrics = new DomainMetrics(
      new Registry(),
      () => undefined,
      () => [],
    );
    this.#operator = new EvaluationOperator({
      client,
      caches,
      database,
      gate: this.gate,
      events,
      metrics,
      settings: this.settings,
      workers: 4,
      logger,
      now: () => Date.now(),
      sweep: { everySeconds: 1, minAgeSeconds: 0 },
      evaluations: new EvaluationRepository(database),
      attempts: new AttemptRepository(database),
      captures,
    });
    const parts = await this.parts();
    this.#parts = undefined;
    this.#neighbours = this.#makeNeighbours.map((make) => make(parts));
    caches.start();
    this.epoch += 1;
    for (const one of [this.#operator, ...this.#neighbours]) await one.start(this.epoch, new AbortController().signal);
  }

  /** Of the operator that runs. */
  get current(): { readonly client: KubeClient; readonly caches: ClusterCaches } {
    if (this.#client === undefined || this.#caches === undefined) throw new Error('not started');
    return { client: this.#client, caches: this.#caches };
  }

  /** What the next operator is made of, for tests that give it more. */
  async parts(): Promise<Parts> {
    if (this.#parts !== undefined) return this.#parts;
    const logger = pino({ level: process.env['TEST_LOG_LEVEL'] ?? 'silent' });
    const access = await loadAccess({ kubeconfig: testServer('CRUCIBLE_TEST_KUBECONFIG') });
    this.#client = new KubeClient({ access, logger, metrics: this.#kubeMetrics });
    const { ownNamespace, kueue } = this.settings;
    const namespaces = [this.namespace];
    this.#caches = new ClusterCaches({ client: this.#client, namespaces, ownNamespace, kueue, logger });
    this.#events = new EventRecorder({ client: this.#client, component: 'crucible-operator', instance: 'test', logger });
    const database = this.database(this.#database);
    const [captures, artifacts] = [new CaptureRepository(database), new ArtifactRepository(database)];
    const { settings } = this;
    const events = this.#events;
    this.#parts = { client: this.#client, caches: this.#caches, database, events, settings, captures, artifacts, logger };
    return this.#parts;
  }

  /** Calls of the operator to the API server until now, watches aside: `POST jobs`, by verb and resource. */
  async calls(code?: number): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { labels, value } of (await this.#kubeMetrics.requests.get()).values) {
      if (labels.verb === 'watch' || (code !== undefined && Number(labels.code) !== code)) continue;
      const call = `${labels.verb} ${labels.resource}`;
      counts[call] = (counts[call] ?? 0) + value;
    }
    return counts;
  }

  async stopOperator(): Promise<void> {
    await Promise.all([this.#operator, ...this.#neighbours].map((one) => one?.stop(5)));
    await this.#events?.stop();
    await this.#caches?.stop();
    await this.#client?.close();
  }

  async stop(): Promise<void> {
    await this.stopOperator();
    await this.#database?.close();
    await this.#direct?.close();
    await this.#proxy?.down();
    await this.#testDatabase?.drop();
    await this.api.delete(`/apis/crucible.dev/v1alpha1/evaluationruntimes/${this.runtime}`);
    this.api.close();
  }

  /** Not through the proxy. */
  get record(): Database {
    return this.database(this.#direct);
  }

  async postgresAway(): Promise<void> {
    await this.#proxy?.down();
  }

  async postgresBack(): Promise<void> {
    await this.#proxy?.up();
  }

  // ---------------------------------------------------------------- people

  async createRuntime(name: string): Promise<void> {
    const spec = { image: 'crucible/python:test', command: ['python3'], entryFile: 'main.py', launcher: 'Included' };
    await this.must('POST', '/apis/crucible.dev/v1alpha1/evaluationruntimes', {
      apiVersion: 'crucible.dev/v1alpha1',
      kind: 'EvaluationRuntime',
      metadata: { name },
      spec,
    });
  }

  async submit(name: string, spec: Json = {}): Promise<string> {
    const object = {
      apiVersion: 'crucible.dev/v1alpha1',
      kind: 'Evaluation',
      metadata: { name, namespace: this.namespace },
      spec: { runtime: this.runtime, code: 'print("hello")', ...spec },
    };
    return (await this.must('POST', this.path('evaluations'), object))['metadata'].uid as string;
  }

  patch(name: string, body: Json): Promise<Json> {
    return this.must('PATCH', this.path('evaluations', name), body, 'application/merge-patch+json');
  }

  remove(name: string): Promise<Json> {
    return this.must('DELETE', this.path('evaluations', name));
  }

  async evaluation(name: string): Promise<Json | undefined> {
    const { status, body } = await this.api.get(this.path('evaluations', name));
    return status === 404 ? undefined : body;
  }

  async status(
    name: string,
  ): Promise<EvaluationStatus & { conditions: { type: string; status: string; reason: string; message: string }[] }> {
    return { conditions: [], ...(await this.evaluation(name))?.['status'] };
  }

  // ---------------------------------------------------------------- the Job controller and the kubelet

  /** Waits for the attempt's Job and makes its pod, as the Job controller does from the template. */
  async makePod(name: string, attempt = 1, { placed = true } = {}): Promise<string> {
    const job = await this.waitFor(`a Job of attempt ${attempt}`, async () =>
      (await this.jobs(name)).find(
        (candidate) => candidate['metadata'].labels['crucible.dev/attempt'] === String(attempt),
      ),
    );
    const { template } = job['spec'];
    const podName = `${job['metadata'].name}-${randomBytes(3).toString('hex')}`;
    const ownerReferences = [
      { apiVersion: 'batch/v1', kind: 'Job', name: job['metadata'].name, uid: job['metadata'].uid, controller: true },
    ];
    const metadata = { ...template.metadata, name: podName, namespace: this.namespace, ownerReferences };
    await this.must('POST', this.core('pods'), { apiVersion: 'v1', kind: 'Pod', metadata, spec: template.spec });
    if (placed) await this.place(podName);
    return podName;
  }

  /** As the scheduler does. */
  async place(podName: string): Promise<void> {
    await this.must('POST', `${this.core('pods', podName)}/binding`, {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: podName },
      target: { kind: 'Node', name: 'node-1' },
    });
  }

  /** Waits until the operator has had the kubelet end it. */
  async toldToEnd(podName: string): Promise<void> {
    await this.waitFor(
      'a deadline of 1 s',
      async () => ((await this.pod(podName))?.['spec'].activeDeadlineSeconds === 1 ? true : undefined),
      () => this.pod(podName),
    );
  }

  /** As a kubelet (1.34) ends a pod by its deadline before it has made the container. */
  endedBeforeStart(podName: string): Promise<Json> {
    const state = {
      terminated: { exitCode: 137, reason: 'ContainerStatusUnknown', startedAt: null, finishedAt: null },
    };
    const containerStatuses = [container(state)];
    return this.podStatus(podName, { phase: 'Failed', reason: 'DeadlineExceeded', containerStatuses });
  }

  /** A Job and its ended pod, as an Evaluation leaves them that is in neither the cluster nor the record. */
  async strayRun(name: string, uid: string): Promise<void> {
    const labels = {
      'crucible.dev/evaluation-uid': uid,
      'crucible.dev/evaluation': name,
      'crucible.dev/attempt': '1',
      'crucible.dev/sandbox': 'true',
    };
    const spec = { restartPolicy: 'Never', containers: [{ name: 'sandbox', image: 'x' }] };
    const template = { metadata: { labels, finalizers: ['crucible.dev/capture'] }, spec };
    const path = `/apis/batch/v1/namespaces/${this.namespace}/jobs`;
    await this.must('POST', path, {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name, labels },
      spec: { backoffLimit: 0, template },
    });
    const metadata = { ...template.metadata, name: `${name}-pod`, namespace: this.namespace };
    await this.must('POST', this.core('pods'), { apiVersion: 'v1', kind: 'Pod', metadata, spec });
    await this.podStatus(`${name}-pod`, { phase: 'Failed' });
  }

  /** By force, finalizers and all. */
  async destroyPod(podName: string): Promise<void> {
    await this.must(
      'PATCH',
      this.core('pods', podName),
      { metadata: { finalizers: null } },
      'application/merge-patch+json',
    );
    await this.must('DELETE', `${this.core('pods', podName)}?gracePeriodSeconds=0`);
  }

  podStatus(podName: string, status: Json): Promise<Json> {
    return this.must('PATCH', `${this.core('pods', podName)}/status`, { status }, 'application/merge-patch+json');
  }

  waiting(podName: string, reason: string, startTime = new Date()): Promise<Json> {
    return this.podStatus(podName, {
      phase: 'Pending',
      startTime: iso(startTime),
      containerStatuses: [container({ waiting: { reason, message: 'not found' } })],
    });
  }

  running(podName: string, startedAt = new Date()): Promise<Json> {
    return this.podStatus(podName, {
      phase: 'Running',
      startTime: iso(startedAt),
      containerStatuses: [container({ running: { startedAt: iso(startedAt) } })],
    });
  }

  ended(
    podName: string,
    exitCode: number,
    { seconds = 1, reason = exitCode === 0 ? 'Completed' : 'Error', podReason = '' } = {},
  ): Promise<Json> {
    const now = Date.now();
    const terminated = {
      exitCode,
      reason,
      startedAt: iso(new Date(now - seconds * 1000)),
      finishedAt: iso(new Date(now)),
      containerID: 'containerd://1',
    };
    return this.podStatus(podName, {
      phase: exitCode === 0 && podReason === '' ? 'Succeeded' : 'Failed',
      reason: podReason,
      containerStatuses: [container({ terminated })],
    });
  }

  // ---------------------------------------------------------------- the recorder

  async capture(uid: string, podName: string, stdout = 'hello\n', attempt = 1): Promise<void> {
    const captures = new CaptureRepository(this.record);
    const { metadata, spec, status } = await this.must('GET', this.core('pods', podName));
    const podUid = metadata.uid as string;
    const key = { evaluationUid: uid, attempt, podUid, recorder: 'test' };
    const { running, terminated } = status.containerStatuses?.[0]?.state ?? {};
    const started = Date.parse(running?.startedAt ?? terminated?.startedAt ?? new Date().toISOString());
    await captures.begin(key);
    const data = Buffer.from(stdout);
    await captures.append({
      ...key,
      afterSeq: 0,
      lastSeq: 2,
      chunks: data.length === 0 ? [] : [{ stream: 'stdout', firstSeq: 1, lastSeq: 1, data, lines: 1 }],
    });
    const stream = { bytes: 0, lines: 0, gaps: [], truncated: false, complete: true };
    const streams = { stdout: { ...stream, bytes: data.length, lines: data.length === 0 ? 0 : 1 }, stderr: stream };
    await captures.finish({
      ...key,
      lastSeq: 2,
      streams,
      artifacts: [],
      artifactsComplete: true,
      summary: {},
      receipt: measured(spec.securityContext.runAsUser as number, started),
      complete: true,
      reason: null,
    });
  }

  /** Of a container that never ran. */
  async captureNothing(uid: string, podName: string): Promise<void> {
    const captures = new CaptureRepository(this.record);
    const podUid = (await this.must('GET', this.core('pods', podName)))['metadata'].uid as string;
    const key = { evaluationUid: uid, attempt: 1, podUid, recorder: 'test' };
    const stream = { bytes: 0, lines: 0, gaps: [], truncated: false, complete: true };
    await captures.begin(key);
    await captures.finish({
      ...key,
      lastSeq: 0,
      streams: { stdout: stream, stderr: stream },
      artifacts: [],
      artifactsComplete: true,
      summary: null,
      receipt: null,
      complete: true,
      reason: null,
    });
  }

  // ---------------------------------------------------------------- looking

  async jobs(name: string): Promise<Json[]> {
    const uid = (await this.evaluation(name))?.['metadata'].uid as string | undefined;
    return await this.owned(`/apis/batch/v1/namespaces/${this.namespace}/jobs`, uid);
  }

  async owned(path: string, uid: string | undefined): Promise<Json[]> {
    const selector = encodeURIComponent(`crucible.dev/evaluation-uid=${uid}`);
    return (await this.must('GET', `${path}?labelSelector=${selector}`))['items'] as Json[];
  }

  async pod(podName: string): Promise<Json | undefined> {
    const { status, body } = await this.api.get(this.core('pods', podName));
    return status === 404 ? undefined : body;
  }

  /** Nothing that belongs to it holds anything back: no Job, no code, no finalizer of ours. */
  async leftovers(uid: string): Promise<string[]> {
    const jobs = await this.owned(`/apis/batch/v1/namespaces/${this.namespace}/jobs`, uid);
    const configMaps = await this.owned(this.core('configmaps'), uid);
    const pods = await this.owned(this.core('pods'), uid);
    return [
      ...jobs
        .filter((job) => !job['metadata'].deletionTimestamp && !job['metadata'].ownerReferences?.length)
        .map((job) => `job ${job['metadata'].name}`),
      ...configMaps.map((configMap) => `configmap ${configMap['metadata'].name}`),
      ...pods
        .filter((pod) => pod['metadata'].finalizers?.includes('crucible.dev/capture'))
        .map((pod) => `finalizer of pod ${pod['metadata'].name}`),
    ];
  }

  async condition(name: string, type: string, reason: string): Promise<Json> {
    return await this.waitFor(
      `${type} with reason ${reason}`,
      async () =>
        (await this.status(name)).conditions.find(
          (condition) => condition.type === type && condition.reason === reason,
        ),
      () => this.status(name),
    );
  }

  async phase(name: string, phase: string): Promise<EvaluationStatus> {
    return await this.waitFor(
      `phase ${phase}`,
      async () => {
        const status = await this.status(name);
        return status.phase === phase ? status : undefined;
      },
      () => this.status(name),
    );
  }

  async gone(name: string): Promise<void> {
    await this.waitFor(
      `${name} to be gone`,
      async () => ((await this.evaluation(name)) === undefined ? true : undefined),
      () => this.evaluation(name),
    );
  }

  async waitFor<T>(what: string, look: () => Promise<T | undefined>, last?: () => Promise<unknown>): Promise<T> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      if (Date.now() > deadline) throw new Error(`waited for ${what}; last seen: ${JSON.stringify(await last?.())}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  core(plural: string, name?: string): string {
    return `/api/v1/namespaces/${this.namespace}/${plural}${name === undefined ? '' : `/${name}`}`;
  }

  path(plural: string, name?: string): string {
    return `/apis/crucible.dev/v1alpha1/namespaces/${this.namespace}/${plural}${name === undefined ? '' : `/${name}`}`;
  }

  async must(method: string, path: string, body?: unknown, contentType?: string): Promise<Json> {
    const response = await this.api.send(method, path, body, contentType);
    if (response.status >= 300) throw new Error(`${method} ${path}: ${response.status} ${response.body['message']}`);
    return response.body;
  }

  private database(database: Database | undefined): Database {
    if (database === undefined) throw new Error('the cluster was not started');
    return database;
  }
}
