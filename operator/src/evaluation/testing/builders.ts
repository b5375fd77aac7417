import { LABELS, SANDBOX_CONTAINER, CAPTURE_FINALIZER, parseEvaluation } from '@crucible/crds';
import type { Evaluation, EvaluationRuntime, EvaluationSpec } from '@crucible/crds';
import type { AttemptRecord, CaptureRecord, EvaluationRecord } from '@crucible/storage';
import { openGate } from '../../drill/gate.ts';
import type { ContainerState, Job, Pod } from '../objects.ts';
import type { Settings } from '../settings.ts';
import type { RawEvaluation, Snapshot, StoredOutput } from '../snapshot.ts';

// Objects for tests, as the API server, the kubelet and storage would give them.

export const UID = '0b5f7a4e-5d0c-4a5e-9a43-0c3b2f1e8a11';
export const POD_UID = '11111111-2222-4333-8444-555555555555';
export const JOB_UID = '99999999-8888-4777-8666-555555555555';
export const NOW = Date.parse('2026-01-01T12:00:00Z');
const MI = 1024 * 1024;

/** Seconds before (negative) or after NOW, as Kubernetes writes times. */
export const at = (seconds: number): string => new Date(NOW + seconds * 1000).toISOString().replace('.000Z', 'Z');

export function settings(changes: Partial<Settings> = {}): Settings {
  return {
    evaluationNamespaces: ['evals'],
    maxConcurrent: 10,
    namespaceLimits: {},
    maxUncaptured: 10,
    ownNamespace: undefined,
    kueue: true,
    jobTtlSeconds: 300,
    sandbox: {
      runtimeClassName: undefined,
      launcherImage: 'crucible/launcher:test',
      serviceAccountName: 'crucible-sandbox',
      imagePullPolicy: 'IfNotPresent',
      imagePullSecrets: [],
      uids: { first: 100_000, last: 165_535 },
      cpuRequestPercent: 10,
      memoryOverheadBytes: 32 * MI,
      tmpBytes: 16 * MI,
      shmBytes: 16 * MI,
      ephemeralStorageBytes: 64 * MI,
      processes: 128,
      openFiles: 1024,
      graceSeconds: 5,
      strictSupplementalGroups: true,
    },
    patience: { startUp: 300, imagePull: 60, unschedulable: 300, quota: 300, refused: 15, lostCapture: 60 },
    ...changes,
  };
}

export function rawEvaluation(
  spec: Partial<EvaluationSpec> = {},
  changes: Partial<RawEvaluation> & { metadata?: object } = {},
): RawEvaluation {
  const metadata = {
    name: 'hello',
    namespace: 'evals',
    uid: UID,
    generation: 1,
    resourceVersion: '1',
    creationTimestamp: at(-60),
    ...changes.metadata,
  };
  return {
    apiVersion: 'crucible.dev/v1alpha1',
    kind: 'Evaluation',
    spec: { runtime: 'python', code: 'print("hello")', ...spec },
    ...changes,
    metadata,
  };
}

export function evaluation(spec: Partial<EvaluationSpec> = {}): Evaluation {
  return parseEvaluation(rawEvaluation(spec));
}

export function runtime(name: string, spec: Partial<EvaluationRuntime['spec']> = {}): EvaluationRuntime {
  return {
    apiVersion: 'crucible.dev/v1alpha1',
    kind: 'EvaluationRuntime',
    metadata: { name },
    spec: { image: `crucible/${name}:test`, command: ['python3'], entryFile: 'main.py', launcher: 'Included', ...spec },
  };
}

export function job(changes: { status?: Job['status']; metadata?: object } = {}): Job {
  const labels = { [LABELS.evaluationUid]: UID, [LABELS.attempt]: '1' };
  const metadata = {
    name: 'hello-job-1',
    namespace: 'evals',
    uid: JOB_UID,
    creationTimestamp: at(-50),
    labels,
    ...changes.metadata,
  };
  return { apiVersion: 'batch/v1', kind: 'Job', metadata, status: changes.status ?? { active: 1 } };
}

export class PodBuilder {
  #pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'hello-job-1-abcde',
      namespace: 'evals',
      uid: POD_UID,
      creationTimestamp: at(-50),
      labels: { [LABELS.evaluationUid]: UID, [LABELS.attempt]: '1', [LABELS.sandbox]: 'true' },
      finalizers: ['batch.kubernetes.io/job-tracking', CAPTURE_FINALIZER],
      ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name: 'hello-job-1', uid: JOB_UID, controller: true }],
    },
    spec: { activeDeadlineSeconds: 361 },
    status: { phase: 'Pending' },
  };

  meta(metadata: object): this {
    this.#pod = { ...this.#pod, metadata: { ...this.#pod.metadata, ...metadata } };
    return this;
  }

  scheduled(seconds = -45): this {
    const condition = { type: 'PodScheduled', status: 'True', lastTransitionTime: at(seconds) };
    this.#pod = { ...this.#pod, spec: { ...this.#pod.spec, nodeName: 'node-1' } };
    return this.status({ startTime: at(seconds), conditions: [condition] });
  }

  condition(type: string, status: string, reason: string, message = '', seconds = -10): this {
    const conditions = [
      ...(this.#pod.status?.conditions ?? []),
      { type, status, reason, message, lastTransitionTime: at(seconds) },
    ];
    return this.status({ conditions });
  }

  status(status: NonNullable<Pod['status']>): this {
    this.#pod = { ...this.#pod, status: { ...this.#pod.status, ...status } };
    return this;
  }

  container(state: ContainerState): this {
    return this.status({
      containerStatuses: [{ name: SANDBOX_CONTAINER, image: 'crucible/python:test', imageID: 'sha256:abc', state }],
    });
  }

  waiting(reason: string, message = ''): this {
    return this.scheduled().container({ waiting: { reason, message } });
  }

  running(seconds = -40): this {
    return this.scheduled()
      .status({ phase: 'Running' })
      .container({ running: { startedAt: at(seconds) } });
  }

  ended(exitCode: number, { from = -40, to = -10, reason = exitCode === 0 ? 'Completed' : 'Error' } = {}): this {
    this.scheduled().status({ phase: exitCode === 0 ? 'Succeeded' : 'Failed' });
    return this.container({
      terminated: { exitCode, reason, startedAt: at(from), finishedAt: at(to), containerID: 'containerd://1' },
    });
  }

  deadline(spec: number): this {
    this.#pod = { ...this.#pod, spec: { ...this.#pod.spec, activeDeadlineSeconds: spec } };
    return this;
  }

  build(): Pod {
    return this.#pod;
  }
}

export const pod = (): PodBuilder => new PodBuilder();

/** What a launcher measures in a sandbox that is as it should be. */
export function measured(uid: number, now: number): Record<string, unknown> {
  return {
    version: 2,
    measuredAt: new Date(now).toISOString(),
    uid,
    gid: uid,
    groups: [uid],
    caps: { effective: '0000000000000000', bounding: '0000000000000000' },
    seccomp: 2,
    noNewPrivs: true,
    rootReadOnly: true,
    tokenAbsent: true,
    launcherSealed: true,
    launcherShielded: true,
    userNamespace: false,
    kernel: { system: 'Linux', release: '6.18.0', version: '#1', machine: 'x86_64' },
    terminationMessageWritable: false,
    processLimitHolds: true,
    cgroup: { memoryBytes: 384 * 2 ** 20 },
    network: [
      { target: '127.0.0.1:9', result: 'ECONNREFUSED' },
      { target: '10.96.0.1:443', result: 'noAnswer' },
    ],
    denied: { mount: 'EPERM' },
  };
}

export function attempt(changes: Partial<AttemptRecord> = {}): AttemptRecord {
  return {
    evaluationUid: UID,
    number: 1,
    jobName: 'hello-job-1',
    jobUid: JOB_UID,
    podName: null,
    podUid: null,
    node: null,
    runtimeClass: null,
    image: 'crucible/python:test',
    imageDigest: null,
    timeoutSeconds: 60,
    ending: null,
    acceptedRisks: null,
    inputs: null,
    state: 'created',
    epoch: 1,
    createdAt: new Date(NOW - 50_000),
    startedAt: null,
    finishedAt: null,
    finalizedAt: null,
    exitCode: null,
    signal: null,
    verdict: null,
    receipt: null,
    ...changes,
  };
}

export function record(changes: Partial<EvaluationRecord> = {}): EvaluationRecord {
  return {
    uid: UID,
    namespace: 'evals',
    namespaceUid: 'n',
    name: 'hello',
    generation: 1,
    spec: {},
    labels: {},
    phase: 'Starting',
    verdict: null,
    passed: null,
    passedReason: null,
    passedMessage: null,
    createdAt: new Date(NOW - 60_000),
    acceptedAt: new Date(NOW - 55_000),
    finishedAt: null,
    acceptedAttempt: null,
    eventSeq: 1,
    epoch: 1,
    ...changes,
  };
}

export function output(stdout = 'hello\n', changes: Partial<CaptureRecord> = {}): StoredOutput {
  const data = Buffer.from(stdout);
  const stream = {
    bytes: data.length,
    lines: 1,
    gaps: [],
    truncated: false,
    complete: true,
    producedBytes: data.length,
    sha256: null,
  };
  const capture: CaptureRecord = {
    evaluationUid: UID,
    attempt: 1,
    podUid: POD_UID,
    recorder: 'r',
    state: 'captured',
    lastSeq: 2,
    missing: [],
    startedAt: new Date(NOW - 40_000),
    capturedAt: new Date(NOW),
    complete: true,
    reason: null,
    summary: null,
    receipt: null,
    streams: {
      stdout: { stream: 'stdout', ...stream },
      stderr: { stream: 'stderr', ...stream, bytes: 0, producedBytes: 0, lines: 0 },
    },
    artifacts: { count: 0, bytes: 0, refused: 0, complete: true },
    ...changes,
  };
  return { capture, tail: data };
}

/** Its namespace is being deleted, and of itself nothing says so. */
export function namespaceGoing(): Pick<Snapshot, 'cluster'> {
  const { cluster } = snapshot();
  const { metadata, ...namespace } = cluster.namespace!;
  return { cluster: { ...cluster, namespace: { ...namespace, metadata: { ...metadata, deletionTimestamp: at(-600) } } } };
}

/** By default: accepted, nothing of it in record or cluster yet, with a place among the running. */
export function snapshot(changes: Partial<Snapshot> & { spec?: Partial<EvaluationSpec> } = {}): Snapshot {
  const { spec, ...rest } = changes;
  const raw = rest.raw ?? rawEvaluation(spec);
  return {
    key: 'evals/hello',
    raw,
    evaluation: parseEvaluation({ ...raw, status: undefined }),
    invalid: undefined,
    cluster: {
      namespace: {
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: 'evals', uid: 'n', labels: { [LABELS.evaluations]: 'enabled' } },
      },
      runtimes: [runtime('python'), runtime('bash')],
      runtimeClasses: ['gvisor'],
    },
    record: { evaluation: undefined, attempts: [] },
    job: undefined,
    pod: undefined,
    others: [],
    unavailableSince: undefined,
    warnings: [],
    failingSince: undefined,
    capture: undefined,
    output: undefined,
    launchRefusal: undefined,
    inputs: new Map(),
    scored: undefined,
    gate: openGate().gate(raw),
    turn: true,
    heldBack: undefined,
    configMaps: undefined,
    doubted: false,
    backlogged: false,
    paused: undefined,
    workload: undefined,
    ...rest,
  };
}

/** With an attempt whose Job exists. */
export function launched(
  changes: Partial<Snapshot> & { spec?: Partial<EvaluationSpec>; attempt?: Partial<AttemptRecord> } = {},
): Snapshot {
  const { attempt: row, ...rest } = changes;
  return snapshot({ record: { evaluation: record(), attempts: [attempt(row)] }, job: job(), ...rest });
}
