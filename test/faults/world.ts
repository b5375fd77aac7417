import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '@crucible/storage';
import type { Database } from '@crucible/storage';
import { prepareDatabase } from '@crucible/storage/testing';
import { Client } from 'pg';
import { ApiServer } from '../integration/api-server.ts';
import { ApiProxy } from './api-proxy.ts';
import { Attendance } from './attendance.ts';
import { CommitProxy } from './commit-proxy.ts';
import { LiveReaders } from './live-reader.ts';
import { endState, quiet, sameEnd, standing } from './oracles.ts';
import type { Breach, Writes } from './oracles.ts';
import { RedisProxy } from './redis-proxy.ts';
import type { Account } from './rights.ts';
import { scriptOf } from './scenario.ts';
import type { Part } from './scenario.ts';
import type { Servers } from './servers.ts';
import { readState } from './state.ts';
import { streamBreaches } from './stream-oracle.ts';
import type { Json, WorldState } from './state.ts';
import { fakeTime } from './fake-time.ts';
import { SupervisedProgram } from './supervised.ts';

// One installation for one case: a namespace and a database of its own, the real operator and recorder as processes,
// and between them and their servers the proxies that do the harm.

const POLL_MS = 150;
/** "A minute later", and the lease and back-off of whoever was killed before that. */
const CONVERGE_MS = Number(process.env['CRUCIBLE_CONVERGE_SECONDS'] ?? 90) * 1000;
/** How long the last writes may trail behind the end. */
const TAIL_MS = 20_000;
const TAIL_PAUSE_MS = 1000;
/** How long a reader may trail behind, after an outage too. */
const READER_MS = 20_000;
/** For the stream: what is committed last may be published by a recorder that has yet to start again, on a busy machine. */
const STREAM_MS = 60_000;
/** In a flood so many are submitted at once. */
const SUBMITTERS = 16;
const MAIN = resolve(import.meta.dirname, '../../operator/src/main.ts');
const RECORDER = resolve(import.meta.dirname, '../../operator/src/recorder/main.ts');

export interface WorldOptions {
  readonly servers: Servers;
  readonly parts: readonly Part[];
  /** For the operator, beside what every world has. */
  readonly operatorEnvironment?: Readonly<Record<string, string>>;
  /** A second replica of the operator. */
  readonly standby?: boolean;
  /** A second evaluation namespace. */
  readonly neighbour?: boolean;
  /** The programs' clocks can be set. */
  readonly clock?: boolean;
}

export class World {
  readonly id = randomBytes(4).toString('hex');
  readonly namespace = `faults-${this.id}`;
  /** The other evaluation namespace, in worlds that have one. */
  readonly neighbour = `${this.namespace}-neighbour`;
  readonly parts: readonly Part[];
  readonly servers: Servers;
  readonly api: ApiServer;
  readonly operatorApi: ApiProxy;
  readonly recorderApi: ApiProxy;
  readonly operatorCommits: CommitProxy;
  readonly recorderCommits: CommitProxy;
  /** Between the recorder and Redis; undefined when the machine has none. */
  readonly redis: RedisProxy | undefined;
  readonly #files: string;
  readonly #uncast: () => void;
  #record: Database | undefined;
  #readers: LiveReaders | undefined;
  #operator: SupervisedProgram | undefined;
  #recorder: SupervisedProgram | undefined;
  #standby: SupervisedProgram | undefined;
  #attendance: Attendance | undefined;
  readonly #options: WorldOptions;
  #failuresBefore: number;

  static async create(options: WorldOptions): Promise<World> {
    const world = new World(options);
    await world.#prepare();
    return world;
  }

  private constructor(options: WorldOptions) {
    const { servers, parts } = options;
    this.#options = options;
    this.servers = servers;
    this.parts = parts;
    this.#failuresBefore = servers.node.failures.length;
    this.api = new ApiServer(servers.kubeconfig);
    const tls = {
      certificate: readFileSync(servers.certificate.certificate),
      key: readFileSync(servers.certificate.key),
    };
    const target = { url: servers.apiUrl, tls };
    this.operatorApi = new ApiProxy(target);
    this.recorderApi = new ApiProxy(target);
    const { hostname, port } = new URL(servers.postgres.dsn);
    this.operatorCommits = new CommitProxy({ host: hostname, port: Number(port) });
    this.recorderCommits = new CommitProxy({ host: hostname, port: Number(port) });
    const redis = servers.redis && new URL(servers.redis.url);
    this.redis = redis && new RedisProxy({ host: redis.hostname, port: Number(redis.port) });
    this.#files = join(servers.sandbox.directory, `data-${this.id}`);
    this.#uncast = servers.node.cast(({ namespace, evaluation, attempt }) =>
      this.#namespaces.includes(namespace) ? scriptOf(parts, evaluation, attempt) : undefined,
    );
  }

  get operator(): SupervisedProgram {
    return this.#operator!;
  }

  get standby(): SupervisedProgram {
    return this.#standby!;
  }

  get recorder(): SupervisedProgram {
    return this.#recorder!;
  }

  /** As the database's owner, not through a proxy. */
  get record(): Database {
    return this.#record!;
  }

  /** From here on there are readers and an owner, through every fault that comes. */
  start(): void {
    this.operator.start();
    this.#standby?.start();
    this.recorder.start();
    this.#attendance = new Attendance({
      api: this.api,
      parts: this.parts,
      record: this.record,
      readers: this.#readers!,
      pod: (part) => this.pod(part),
      evaluationPath: (part) => this.path('evaluations', part),
    });
  }

  /** What all processes take for the time, from here on. */
  setClock(offset: `${'+' | '-'}${number}`): void {
    writeFileSync(this.#clockFile, offset);
  }

  /** What the node could not do while its API server was away is no failure. */
  forgiveNode(): void {
    this.#failuresBefore = this.servers.node.failures.length;
  }

  /** Who leads, as the lease says. */
  async leader(): Promise<string> {
    const { body } = await this.api.get(this.#leasePath);
    return (body['spec']?.holderIdentity as string | undefined) ?? '';
  }

  /** By the clock of who leads. */
  async renewedAt(): Promise<number> {
    return Date.parse((await this.api.get(this.#leasePath)).body['spec']?.renewTime ?? '');
  }

  async evaluation(part: string): Promise<Json | undefined> {
    const { status, body } = await this.api.get(this.path('evaluations', part));
    return status === 200 ? body : undefined;
  }

  /** All parts at once, so that their calls mix. */
  async submit(): Promise<void> {
    const left = [...this.parts];
    const submit = async (): Promise<void> => {
      for (let part = left.shift(); part !== undefined; part = left.shift()) await this.create(part);
    };
    // A few one after another, so that calls come in much the same order in every run.
    await Promise.all(Array.from({ length: left.length > 100 ? SUBMITTERS : 1 }, submit));
  }

  async create({ name, spec, inNeighbour }: Part): Promise<void> {
    const namespace = inNeighbour === true ? this.neighbour : this.namespace;
    await this.must('POST', this.path('evaluations', undefined, namespace), {
      apiVersion: 'crucible.dev/v1alpha1',
      kind: 'Evaluation',
      metadata: { name, namespace },
      spec: { runtime: this.#runtime, code: 'print("played")', ...spec },
    });
  }

  async state(): Promise<WorldState> {
    const { api, record, servers } = this;
    const namespaces = this.#namespaces;
    const state = await readState({ api, namespaces, record, files: join(this.#files, 'files') });
    return { ...state, ran: (podUid) => servers.node.ran(podUid), started: namespaces.flatMap((namespace) => servers.node.started(namespace)) };
  }

  /** What holds everything up, in the end nothing; as long as it may take, or until `limitMs`. */
  async settle(limitMs = CONVERGE_MS): Promise<Breach[]> {
    const deadline = Date.now() + limitMs;
    for (;;) {
      const late = Date.now() > deadline;
      // The whole state is much to read: only when it may be the end, or is wanted for a report.
      const breaches =
        late || (await this.#mayBeOver())
          ? await this.state().then(
              (state) => standing(state, this.parts),
              (error: unknown) => [`the state cannot be read: ${String(error)}`],
            )
          : ['not over'];
      if (breaches.length === 0 || late) return breaches;
      await pause(POLL_MS);
    }
  }

  async #mayBeOver(): Promise<boolean> {
    const query = 'SELECT count(*)::int AS all, count(finished_at)::int AS finished FROM crucible.evaluations';
    const { rows } = await this.record.query<{ all: number; finished: number }>(query).catch(() => ({ rows: [] }));
    const [counts] = rows;
    return counts !== undefined && counts.all >= this.parts.length && counts.all === counts.finished;
  }

  /** Every oracle, after everything came to rest; `reference` gives the end that this one must equal. */
  async judge(
    reference: ((end: Record<string, unknown>) => Record<string, unknown>) | undefined,
    quietMs: number,
  ): Promise<Breach[]> {
    const breaches = await this.settle();
    if (breaches.length > 0) return breaches;
    const live = (await this.#readers?.breaches(READER_MS)) ?? [];
    const streamed = await this.#streamed();
    const writes = await this.watchWrites(quietMs);
    const state = await this.state();
    return [
      ...standing(state, this.parts),
      ...live,
      ...streamed,
      ...quiet(writes).map((breach) => `(d) ${breach}`),
      ...(reference === undefined ? [] : sameEnd(state, reference(endState(state))).map((breach) => `(f) ${breach}`)),
      ...[this.#operator, this.#standby, this.#recorder].flatMap((program) => program?.crashes ?? []).map((crash) => `a process ended by itself: ${crash}`),
      ...this.servers.node.failures.slice(this.#failuresBefore).map((failure) => `the played node failed: ${failure}`),
    ];
  }

  /** What is written in the first stretch of `forMs` in which nothing is; else in the last of those there was time for. */
  async watchWrites(forMs: number): Promise<Writes> {
    // What was decided before may still be on its way: Kubernetes events above all, which are tried again after errors.
    for (const deadline = Date.now() + TAIL_MS; ; ) {
      await pause(TAIL_PAUSE_MS);
      const apis = [this.operatorApi, this.recorderApi].map((proxy) => ({ proxy, from: proxy.mutations.length }));
      const sqls = [this.operatorCommits, this.recorderCommits].map((proxy) => ({ proxy, from: proxy.points.length }));
      const written = (): Writes => ({
        calls: apis.flatMap(({ proxy, from }) => proxy.mutations.slice(from).map(({ method, path }) => `${method} ${path}`)),
        commits: sqls.flatMap(({ proxy, from }) => proxy.points.slice(from).map(({ statements }) => statements.join('; '))),
      });
      for (const end = Date.now() + forMs; Date.now() < end && quiet(written()).length === 0; ) await pause(POLL_MS);
      if (quiet(written()).length === 0 || Date.now() > deadline) return written();
    }
  }

  /** The pod of a part, as it is in the cluster. */
  async pod(part: string, namespace = this.namespace): Promise<Json | undefined> {
    const selector = encodeURIComponent(`crucible.dev/sandbox=true,crucible.dev/evaluation=${part}`);
    const { body } = await this.api.get(`/api/v1/namespaces/${namespace}/pods?labelSelector=${selector}`);
    return (body['items'] as Json[] | undefined)?.[0];
  }

  /** Files of frames that wait for Postgres. */
  spooled(): string[] {
    return readdirSync(join(this.#files, 'spool')).filter((name) => name.endsWith('.frames'));
  }

  /** At once, finalizers and all, as an administrator would with force. */
  async vanish(pod: Json): Promise<void> {
    const path = `/api/v1/namespaces/${this.namespace}/pods/${pod['metadata'].name}`;
    await this.api.mergePatch(path, { metadata: { finalizers: null } });
    await this.api.send('DELETE', path, { gracePeriodSeconds: 0 });
  }

  async until<T>(what: string, look: () => Promise<T | undefined> | T | undefined, limitMs = 90_000): Promise<T> {
    const deadline = Date.now() + limitMs;
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      if (Date.now() > deadline) throw new Error(`waited for ${what}`);
      await pause(20);
    }
  }

  async close(): Promise<void> {
    await this.#attendance?.stop();
    await Promise.all([this.#operator, this.#standby, this.#recorder].map((program) => program?.stop()));
    this.servers.node.gate = () => true;
    this.#uncast();
    for (const proxy of [this.operatorApi, this.recorderApi]) await proxy.close();
    await this.#readers?.close();
    for (const proxy of [this.operatorCommits, this.recorderCommits]) await proxy.down();
    await this.redis?.down();
    await this.#record?.close();
    await this.#onServer(`drop database if exists "${this.#databaseName}" with (force)`).catch(() => undefined);
    for (const name of this.#namespaces) await removeEvaluations(this.api, name);
    for (const name of [...this.#namespaces, this.#ownNamespace]) await this.api.delete(`/api/v1/namespaces/${name}`);
    await this.api.delete(`/apis/crucible.dev/v1alpha1/evaluationruntimes/${this.#runtime}`);
    this.api.close();
    rmSync(this.#files, { recursive: true, force: true });
  }

  path(plural: string, name?: string, namespace = this.namespace): string {
    const path = `/apis/crucible.dev/v1alpha1/namespaces/${namespace}/${plural}`;
    return name === undefined ? path : `${path}/${name}`;
  }

  async must(method: string, path: string, body?: unknown, contentType?: string): Promise<Json> {
    const response = await this.api.send(method, path, body, contentType);
    if (response.status >= 300) throw new Error(`${method} ${path}: ${response.status} ${response.body['message']}`);
    return response.body;
  }

  /** Where evaluations may be. */
  get #namespaces(): string[] {
    return this.#options.neighbour === true ? [this.namespace, this.neighbour] : [this.namespace];
  }

  get #runtime(): string {
    return `python-${this.id}`;
  }

  /** Of the programs: an evaluation namespace may be deleted. */
  get #ownNamespace(): string {
    return `${this.namespace}-system`;
  }

  get #leasePath(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${this.#ownNamespace}/leases/crucible-operator`;
  }

  get #clockFile(): string {
    return join(this.#files, 'clock');
  }

  get #databaseName(): string {
    return `faults_${this.id}`;
  }

  async #prepare(): Promise<void> {
    await this.#onServer(`create database "${this.#databaseName}"`);
    const dsn = new URL(this.servers.postgres.dsn);
    dsn.pathname = `/${this.#databaseName}`;
    const dsns = await prepareDatabase(dsn.href);
    this.#record = connect({ connectionString: dsns.owner, poolSize: 4 });
    await Promise.all([this.operatorApi.open(), this.recorderApi.open(), this.operatorCommits.up(), this.recorderCommits.up(), this.redis?.up()]);
    this.#readers = new LiveReaders(this.record, this.#redisUrl);
    const labels = { 'crucible.dev/evaluations': 'enabled' };
    await this.must('POST', '/api/v1/namespaces', { metadata: { name: this.#ownNamespace } });
    for (const name of this.#namespaces) {
      await this.must('POST', '/api/v1/namespaces', { metadata: { name, labels } });
      await this.servers.rights.bind({ evaluations: name, own: this.#ownNamespace });
    }
    await this.must('POST', '/apis/crucible.dev/v1alpha1/evaluationruntimes', {
      apiVersion: 'crucible.dev/v1alpha1',
      kind: 'EvaluationRuntime',
      metadata: { name: this.#runtime },
      spec: { image: 'crucible/python:test', command: ['python3'], entryFile: 'main.py', launcher: 'Included' },
    });
    mkdirSync(this.#files, { mode: 0o700 });
    if (this.#options.clock === true) this.setClock('+0');
    this.#operator = this.#replica('operator-0', dsns.operator);
    if (this.#options.standby === true) this.#standby = this.#replica('operator-1', dsns.operator);
    this.#recorder = new SupervisedProgram(this.servers.sandbox, {
      name: `recorder-${this.id}`,
      program: [RECORDER],
      environment: {
        ...this.#environment('recorder', this.recorderApi, this.recorderCommits.through(dsns.recorder), 'recorder-0'),
        ...(this.#redisUrl !== undefined && { CRUCIBLE_REDIS_URL: this.#redisUrl }),
      },
    });
  }

  #replica(hostname: string, dsn: string): SupervisedProgram {
    const environment = this.#environment('operator', this.operatorApi, this.operatorCommits.through(dsn), hostname);
    return new SupervisedProgram(this.servers.sandbox, {
      name: `${hostname}-${this.id}`,
      program: [MAIN],
      environment: { ...environment, ...this.#options.operatorEnvironment },
      onEnd: () => this.#endLease(hostname),
    });
  }

  #environment(account: Account, proxy: ApiProxy, dsn: string, hostname: string): Record<string, string> {
    return {
      HOSTNAME: hostname,
      CRUCIBLE_KUBECONFIG: this.servers.kubeconfigAt(proxy.url, account, join(this.#files, `${hostname}.kubeconfig`)),
      CRUCIBLE_DATABASE_URL: dsn,
      CRUCIBLE_NAMESPACES: this.#namespaces.join(','),
      CRUCIBLE_LAUNCHER_IMAGE: 'crucible/launcher:test',
      CRUCIBLE_LEASE_NAMESPACE: this.#ownNamespace,
      CRUCIBLE_MAX_CONCURRENT: '50',
      CRUCIBLE_LOST_CAPTURE_SECONDS: '10',
      // The kubelet is played, and would play no canary.
      CRUCIBLE_DRILL: 'off',
      CRUCIBLE_DATA_DIR: this.#files,
      LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'info',
      PORT: '0',
      NODE_COMPILE_CACHE: join(this.servers.sandbox.directory, 'compile-cache'),
      ...(this.#options.clock === true && fakeTime(this.#clockFile)),
    };
  }

  get #redisUrl(): string | undefined {
    return this.servers.redis && this.redis?.through(this.servers.redis.url);
  }

  /** What is in the stream in the end, as soon as it is right or when there was time enough. */
  async #streamed(): Promise<Breach[]> {
    const { redis } = this.servers;
    if (redis === undefined) return [];
    for (const deadline = Date.now() + STREAM_MS; ; ) {
      const breaches = await streamBreaches(redis.url, this.record);
      if (breaches.length === 0 || Date.now() > deadline) return breaches;
      await pause(POLL_MS);
    }
  }

  /** Its holder is dead, and that is known here: the wait for its end, 15 s, teaches nothing in every single case. */
  async #endLease(hostname: string): Promise<void> {
    if ((await this.leader()).startsWith(`${hostname}_`)) await this.api.mergePatch(this.#leasePath, { spec: { holderIdentity: '' } });
  }

  async #onServer(statement: string): Promise<void> {
    const client = new Client({ connectionString: this.servers.postgres.dsn });
    await client.connect();
    try {
      await client.query(statement);
    } finally {
      await client.end();
    }
  }
}

/** With what belongs to them, whatever holds it. */
async function removeEvaluations(api: ApiServer, namespace: string): Promise<void> {
  const within = `namespaces/${namespace}`;
  const lists = [`/apis/crucible.dev/v1alpha1/${within}/evaluations`, `/apis/batch/v1/${within}/jobs`, `/api/v1/${within}/pods`];
  for (const path of lists) {
    const { body } = await api.get(path);
    for (const { metadata } of (body['items'] ?? []) as Json[]) {
      await api.mergePatch(`${path}/${metadata.name}`, { metadata: { finalizers: null } });
      await api.send('DELETE', `${path}/${metadata.name}`, { gracePeriodSeconds: 0, propagationPolicy: 'Background' });
    }
  }
}
