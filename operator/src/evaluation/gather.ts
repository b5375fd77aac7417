import { InvalidResourceError, LABELS, parseEvaluation } from '@crucible/crds';
import type { Evaluation } from '@crucible/crds';
import type {
  AttemptRecord,
  AttemptRepository,
  CaptureRecord,
  CaptureRepository,
} from '@crucible/storage';
import { CONFIG_MAPS, EVALUATIONS, EVENTS, JOBS, PODS, trim } from '../kube/index.ts';
import type { KubeClient, KubeObject, ObjectCache } from '../kube/index.ts';
import type { GateKeeper } from '../drill/gate.ts';
import { readRuntimes } from '../runtime/parsed.ts';
import { inputNames } from './inputs.ts';
import type { InputMap } from './inputs.ts';
import { hasTermsOf } from './job.ts';
import { isSuspended } from './kueue.ts';
import type { WorkloadIndex } from './kueue.ts';
import type { Job, KubeEvent, Namespace, Pod, RuntimeClass } from './objects.ts';
import type { PauseSwitches } from './pause.ts';
import { hasStarted, isHeld, waitingSince } from './pod.ts';
import { unlessOutOfReach } from './reach.ts';
import { RecordReader } from './record-reader.ts';
import type { Settings } from './settings.ts';
import { isFinished } from './snapshot.ts';
import type { RawEvaluation, Snapshot, StoredOutput } from './snapshot.ts';
import { ageSeconds } from './start.ts';
import { STDERR_TAIL_BYTES, TAIL_BYTES } from './tail.ts';
import type { PodIndex } from './pod-index.ts';

/** Before this age a Job or pod is merely young; after it, Kubernetes may have said why it does not get on. */
const WARNINGS_AFTER_SECONDS = 4;
const MAX_WARNINGS = 20;

export interface Caches {
  readonly evaluations: ObjectCache<RawEvaluation>;
  readonly jobs: ObjectCache<Job>;
  readonly pods: PodIndex;
  readonly namespaces: ObjectCache<Namespace>;
  readonly runtimes: ObjectCache<KubeObject>;
  readonly runtimeClasses: ObjectCache<KubeObject>;
  /** Undefined without Kueue. */
  readonly workloads: WorkloadIndex | undefined;
}

export interface GatherDependencies {
  readonly client: KubeClient;
  readonly caches: Caches;
  readonly attempts: AttemptRepository;
  readonly captures: CaptureRepository;
  readonly pauses: Pick<PauseSwitches, 'of'>;
  readonly gate: GateKeeper;
  readonly settings: Pick<Settings, 'evaluationNamespaces'>;
  readonly now: () => number;
}

/** Reads everything a decision needs, from caches where they are enough and live where a mistake would be final. */
export class Gatherer {
  readonly #deps: GatherDependencies;
  readonly #record: RecordReader;

  constructor(deps: GatherDependencies) {
    this.#deps = deps;
    this.#record = new RecordReader(deps.attempts, deps.now);
  }

  async gather(
    key: string,
    raw: RawEvaluation,
    own: Pick<Snapshot, 'turn' | 'launchRefusal' | 'scored' | 'configMaps' | 'doubted' | 'heldBack' | 'backlogged'>,
    signal: AbortSignal,
  ): Promise<Snapshot> {
    const { caches } = this.#deps;
    const { evaluation, invalid } = readEvaluation(raw);
    const cluster = {
      namespace: caches.namespaces.get(raw.metadata.namespace ?? ''),
      ...readRuntimes(caches.runtimes.list()),
      runtimeClasses: caches.runtimeClasses.list().map(({ metadata }) => metadata.name ?? ''),
      runtimeHandlers: new Map(
        (caches.runtimeClasses.list() as RuntimeClass[]).map(({ metadata, handler = '' }) => [metadata.name ?? '', handler]),
      ),
    };
    const base = {
      key,
      raw,
      evaluation,
      invalid,
      cluster,
      gate: this.#deps.gate.gate(raw),
      ...own,
      paused: this.#deps.pauses.of(raw.metadata.namespace ?? ''),
      workload: undefined,
      warnings: [],
      failingSince: undefined,
      capture: undefined,
      output: undefined,
      unavailableSince: undefined,
      inputs: new Map<string, InputMap | undefined>(),
    };
    const { namespace = '', uid = '' } = raw.metadata;
    const others = (chosen: Pod | undefined): Pod[] =>
      caches.pods.ofEvaluation(uid).filter(({ metadata }) => metadata.uid !== chosen?.metadata.uid);
    const lastJob = raw.status?.attempts?.at(-1);
    // While a pod of it runs and is held, the status cannot be ours: then the record is asked.
    if (isFinished(raw) && !own.doubted && !caches.pods.ofEvaluation(uid).some(isHeld)) {
      const job =
        lastJob?.jobName === undefined
          ? undefined
          : ofEvaluation(caches.jobs.get(`${namespace}/${lastJob.jobName}`), uid);
      const pod = caches.pods.of(uid, lastJob?.number ?? 1)[0];
      return { ...base, record: { evaluation: undefined, attempts: [] }, job, pod, others: others(pod) };
    }
    const recorded = this.#record.isNew(raw, cluster.namespace) ? NOT_ASKED : await this.#record.read(uid);
    if (recorded === 'unavailable') {
      // Without the record the newest Job is the current attempt.
      const job = caches.jobs
        .list()
        .filter((candidate) => ofEvaluation(candidate, uid))
        .sort((a, b) => attemptOf(b) - attemptOf(a))[0];
      const pod = job && choosePod(caches.pods.of(uid, attemptOf(job)), undefined, job.metadata.uid ?? null);
      return { ...base, record: recorded, job, pod, others: others(pod), unavailableSince: this.#record.unavailableSince };
    }
    const { capture, ...record } = recorded;
    const attempt = record.attempts.at(-1);
    if (attempt === undefined) {
      const inputs = await this.#inputs(raw, evaluation, signal);
      return { ...base, record, job: undefined, pod: undefined, others: others(undefined), inputs };
    }
    const known = await this.#job(raw, attempt, signal);
    const pod = await this.#pod(raw, attempt, capture, known, signal);
    // Suspended and with a pod: it was stopped, or the cache has not seen yet that it was resumed. The first is for good.
    const doubtful = pod !== undefined && attempt.state !== 'finalized' && attempt.ending === null && isSuspended(known);
    const job = doubtful ? await this.#liveJob(raw, attempt, signal) : known;
    const launching = attempt.state === 'finalized' || (attempt.jobUid === null && (job === undefined || !hasTermsOf(job, attempt)));
    const [warnings, output, inputs] = await Promise.all([
      attempt.state === 'finalized' ? [] : this.#warnings(raw, job, pod, signal),
      this.#output(attempt, capture),
      launching ? this.#inputs(raw, evaluation, signal) : base.inputs,
    ]);
    const workload = caches.workloads?.ofJob(job?.metadata.uid ?? '');
    return { ...base, record, job, pod, others: others(pod), warnings, workload, capture, output, inputs };
  }

  /** With all of its content; undefined when it is gone, or another one has its name. */
  async whole(raw: RawEvaluation, signal: AbortSignal): Promise<RawEvaluation | undefined> {
    const { namespace, name = '', uid } = raw.metadata;
    const live = await this.#unlessGone(raw, this.#deps.client.get<KubeObject>(EVALUATIONS, namespace, name, { signal }));
    return live?.metadata.uid === uid ? trim(live!) : undefined;
  }

  /** Live: what is read here is what runs. */
  async #inputs(raw: RawEvaluation, evaluation: Evaluation | undefined, signal: AbortSignal): Promise<Snapshot['inputs']> {
    const { namespace } = raw.metadata;
    const read = async (name: string): Promise<[string, InputMap | undefined]> => [
      name,
      await this.#unlessGone(raw, this.#deps.client.get<InputMap>(CONFIG_MAPS, namespace, name, { signal })),
    ];
    return new Map(await Promise.all(inputNames(evaluation?.spec).map(read)));
  }

  /** A Job that the cache does not have is only missing when the API server says so: the cache may be behind. */
  async #job(raw: RawEvaluation, attempt: AttemptRecord, signal: AbortSignal): Promise<Job | undefined> {
    const { namespace, uid = '' } = raw.metadata;
    const cached = ofEvaluation(this.#deps.caches.jobs.get(`${namespace}/${attempt.jobName}`), uid);
    if (cached !== undefined || attempt.state === 'finalized') return cached;
    return await this.#liveJob(raw, attempt, signal);
  }

  async #liveJob(raw: RawEvaluation, { jobName }: AttemptRecord, signal: AbortSignal): Promise<Job | undefined> {
    const { namespace, uid = '' } = raw.metadata;
    return ofEvaluation(await this.#unlessGone(raw, this.#deps.client.get<Job>(JOBS, namespace, jobName, { signal })), uid);
  }

  async #pod(
    raw: RawEvaluation,
    attempt: AttemptRecord,
    capture: CaptureRecord | undefined,
    job: Job | undefined,
    signal: AbortSignal,
  ): Promise<Pod | undefined> {
    const { namespace, uid = '' } = raw.metadata;
    const wanted = attempt.podUid ?? capture?.podUid;
    const cached = choosePod(this.#deps.caches.pods.of(uid, attempt.number), wanted, attempt.jobUid);
    if (cached !== undefined || attempt.state === 'finalized') return cached;
    const { active = 0, succeeded = 0, failed = 0 } = job?.status ?? {};
    if (job !== undefined && wanted === undefined && active + succeeded + failed === 0) return undefined;
    const labelSelector = `${LABELS.evaluationUid}=${uid},${LABELS.attempt}=${attempt.number}`;
    const live = await this.#unlessGone(raw, this.#deps.client.list<Pod>(PODS, { namespace, labelSelector, signal }));
    return choosePod(live?.items ?? [], wanted, attempt.jobUid);
  }

  async #warnings(
    raw: RawEvaluation,
    job: Job | undefined,
    pod: Pod | undefined,
    signal: AbortSignal,
  ): Promise<KubeEvent[]> {
    const now = this.#deps.now();
    const stuck = pod === undefined ? job : hasStarted(pod) ? undefined : pod;
    if (stuck === undefined || (pod === undefined && isSuspended(job))) return [];
    const since = pod === undefined ? job?.metadata.creationTimestamp : waitingSince(pod);
    if (ageSeconds(since, now) < WARNINGS_AFTER_SECONDS) return [];
    const fieldSelector = `involvedObject.uid=${stuck.metadata.uid},type=Warning`;
    const { namespace } = raw.metadata;
    const said = await this.#unlessGone(raw, this.#deps.client.list<KubeEvent>(EVENTS, { namespace, fieldSelector, signal }));
    // The newest: what was said first may be out of date, such as a quota that has been raised since.
    return (said?.items ?? []).sort((a, b) => eventTime(b).localeCompare(eventTime(a))).slice(0, MAX_WARNINGS);
  }

  #unlessGone<T>(raw: RawEvaluation, call: Promise<T>): Promise<T | undefined> {
    return unlessOutOfReach(call, raw, this.#deps);
  }

  async #output(attempt: AttemptRecord, capture: CaptureRecord | undefined): Promise<StoredOutput | undefined> {
    if (capture?.state !== 'captured') return undefined;
    const { evaluationUid, number } = attempt;
    const { stdout, stderr } = capture.streams;
    const read = async (stream: 'stdout' | 'stderr', bytes: number): Promise<Uint8Array> =>
      (await this.#deps.captures.readTail(evaluationUid, number, stream, bytes)).data;
    const tail = await read(stdout.bytes > 0 || stderr.bytes === 0 ? 'stdout' : 'stderr', TAIL_BYTES);
    if (stdout.bytes === 0 || stderr.bytes === 0) return { capture, tail };
    return { capture, tail, stderrTail: await read('stderr', STDERR_TAIL_BYTES) };
  }

  /** All of it, which is at most what the emission cap allows: a few slices. */
  async stdout(evaluationUid: string, attempt: number): Promise<Uint8Array> {
    const slices: Uint8Array[] = [];
    for (let offset = 0; ;) {
      const { data, totalBytes } = await this.#deps.captures.readOutput(evaluationUid, attempt, 'stdout', { offset });
      slices.push(data);
      offset += data.length;
      if (data.length === 0 || offset >= totalBytes) return Buffer.concat(slices);
    }
  }
}

const NOT_ASKED = { evaluation: undefined, attempts: [], capture: undefined, assumed: true } as const;

/** What it asks for. Its status is not: one that a newer operator wrote, or somebody by hand, leaves the spec as it is. */
export function readEvaluation(raw: RawEvaluation): { evaluation: Evaluation | undefined; invalid: string | undefined } {
  try {
    return { evaluation: parseEvaluation({ ...raw, status: undefined }), invalid: undefined };
  } catch (error) {
    if (!(error instanceof InvalidResourceError)) throw error;
    return {
      evaluation: undefined,
      invalid: `The spec cannot be read: ${error.problems.join('; ')}. Correct it and create the Evaluation again.`,
    };
  }
}

function attemptOf(job: Job): number {
  return Number(job.metadata.labels?.[LABELS.attempt]);
}

/** Names are used again; only the uid tells whose it is. */
function ofEvaluation(job: Job | undefined, uid: string): Job | undefined {
  return job?.metadata.labels?.[LABELS.evaluationUid] === uid ? job : undefined;
}

/**
 * Kubernetes may create a second pod for a Job. The one that is in the record, or being captured, is the attempt's; before
 * that the oldest. Pods of another Job carry our labels only if somebody forged them.
 */
export function choosePod(
  pods: readonly Pod[],
  wanted: string | undefined | null,
  jobUid: string | null,
): Pod | undefined {
  if (wanted != null) return pods.find(({ metadata }) => metadata.uid === wanted);
  const own = pods.filter(({ metadata }) => metadata.ownerReferences?.some((owner) => owner.uid === jobUid) ?? false);
  return own.sort((a, b) => (a.metadata.creationTimestamp ?? '').localeCompare(b.metadata.creationTimestamp ?? ''))[0];
}

function eventTime(event: KubeEvent): string {
  const { lastTimestamp, eventTime: at } = event as { lastTimestamp?: string | null; eventTime?: string | null };
  return lastTimestamp ?? at ?? event.metadata.creationTimestamp ?? '';
}
