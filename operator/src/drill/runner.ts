import { randomBytes } from 'node:crypto';
import { API_VERSION, LABELS } from '@crucible/crds';
import type { ArtifactRepository, CaptureRepository } from '@crucible/storage';
import type { Logger } from 'pino';
import type { PodIndex } from '../evaluation/pod-index.ts';
import type { RawEvaluation } from '../evaluation/snapshot.ts';
import { isFinished } from '../evaluation/snapshot.ts';
import { EVALUATIONS, isNotFound, makeKey } from '../kube/index.ts';
import type { KubeClient, ObjectCache } from '../kube/index.ts';
import type { AttackSpec, Check, RunEnd, Smuggled } from './attack.ts';
import { PEER_PROGRAM } from './canary.ts';
import { smuggle, sweepSmuggled } from './smuggling.ts';
import { unscheduledBecause, whyStuck } from './stuck.ts';

/** Of a drill's evaluation: its id. Only the operator may set it (admission). */
export const DRILL_LABEL = LABELS.drill;

const POLL_MS = 250;
const FIELD_MANAGER = 'crucible-operator';
const MAX_OUTPUT_BYTES = 1024 * 1024;

export interface RunnerDependencies {
  readonly client: KubeClient;
  readonly evaluations: ObjectCache<RawEvaluation>;
  readonly pods: PodIndex;
  readonly captures: CaptureRepository;
  readonly artifacts: ArtifactRepository;
  readonly namespace: string;
  readonly runtime: string;
  readonly logger: Logger;
  /** An evaluation that the gate lets through, by uid. */
  readonly exempt: (key: string, uid: string) => void;
  readonly now: () => number;
}

export interface Started {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export interface Address {
  readonly address?: string;
  /** Nothing that is started the same way will run either. */
  readonly stuck?: string;
}

/** Runs a drill's programs as evaluations, on the way that all of them go: admission, Job, kubelet, recorder, record. */
export class DrillRunner {
  readonly #deps: RunnerDependencies;

  constructor(deps: RunnerDependencies) {
    this.#deps = deps;
  }

  async start(
    drill: string,
    what: string,
    spec: AttackSpec,
    runtimeClass: string | undefined,
    files: readonly { path: string; content: string }[],
    signal: AbortSignal,
  ): Promise<Started> {
    const { client, namespace, runtime, exempt } = this.#deps;
    const name = `drill-${what}-${randomBytes(4).toString('hex')}`.slice(0, 63);
    const object = {
      apiVersion: API_VERSION,
      kind: 'Evaluation',
      metadata: { name, namespace, labels: { [DRILL_LABEL]: drill, 'app.kubernetes.io/managed-by': 'crucible' } },
      spec: {
        runtime,
        code: spec.code,
        ...(files.length > 0 && { files }),
        ...(runtimeClass !== undefined && { isolation: { runtimeClassName: runtimeClass } }),
        timeoutSeconds: spec.timeoutSeconds ?? 60,
        resources: { cpu: '500m', memory: spec.memory ?? '96Mi', disk: spec.disk ?? '4Mi' },
        ...(spec.artifacts && { artifacts: { paths: spec.artifacts, maxBytes: '64Ki' } }),
        // Ours are deleted when they are judged; this is for what an operator leaves that does not live so long.
        ttlSecondsAfterFinished: 300,
      },
    };
    const created = await client.create<RawEvaluation>(EVALUATIONS, object as RawEvaluation, {
      fieldManager: FIELD_MANAGER,
      signal,
    });
    const uid = created.metadata.uid ?? '';
    exempt(makeKey(namespace, name), uid);
    return { namespace, name, uid };
  }

  startPeer(drill: string, runtimeClass: string | undefined, signal: AbortSignal): Promise<Started> {
    return this.start(drill, 'peer', { code: PEER_PROGRAM, timeoutSeconds: 150 }, runtimeClass, [], signal);
  }

  /** Its address once it runs, or why it will not; neither when it does not run in time. */
  async address({ namespace, name, uid }: Started, deadline: number, signal: AbortSignal): Promise<Address> {
    let unscheduledSince: number | undefined;
    const seen = await this.#until(deadline, signal, () => {
      const raw = this.#deps.evaluations.get(makeKey(namespace, name));
      if (raw?.metadata.uid !== uid) return undefined;
      const pods = this.#deps.pods.ofEvaluation(uid);
      if (pods.every((pod) => unscheduledBecause(pod) === undefined)) unscheduledSince = undefined;
      else unscheduledSince ??= this.#deps.now();
      const stuck = whyStuck(raw, pods, this.#deps.now() - (unscheduledSince ?? Infinity));
      if (stuck !== undefined) return { stuck };
      if (isFinished(raw)) return null;
      const address = pods.find(({ status }) => status?.phase === 'Running')?.status?.podIP;
      return address === undefined ? undefined : { address };
    });
    return seen ?? {};
  }

  /** How it ended; undefined when it does not in time. */
  async end({ namespace, name, uid }: Started, deadline: number, signal: AbortSignal): Promise<RunEnd | undefined> {
    const { evaluations, artifacts, captures } = this.#deps;
    const finished = await this.#until(deadline, signal, () => {
      const raw = evaluations.get(makeKey(namespace, name));
      if (raw?.metadata.uid !== uid) return undefined;
      if (isFinished(raw)) return raw;
      return whyStuck(raw, [], 0) === undefined ? undefined : null;
    });
    if (finished?.status === undefined) return undefined;
    const { status } = finished;
    const attempt = status.attempts?.at(-1)?.number ?? 1;
    const capture = status.output === undefined ? undefined : await captures.get(uid, attempt);
    return {
      stdout: capture === undefined ? '' : await this.#stdout(uid, attempt),
      storedBytes: capture?.streams.stdout.bytes ?? 0,
      exitCode: status.exitCode,
      verdict: status.verdict?.class ?? 'unknown',
      seconds: status.durationSeconds,
      truncated: status.output?.truncated ?? false,
      artifacts: status.artifacts === undefined ? [] : await artifacts.list(uid, attempt),
    };
  }

  /** What it has printed so far, for what does not end by itself. */
  async printed({ uid }: Started): Promise<string> {
    return await this.#stdout(uid, 1, 64 * 1024).catch(() => '');
  }

  /** Ended and deleted; the record stays. */
  async remove(started: readonly Started[]): Promise<void> {
    const { client, logger } = this.#deps;
    for (const { namespace, name, uid } of started) {
      try {
        await client.delete(EVALUATIONS, namespace, name, { uid, propagationPolicy: 'Background' });
      } catch (error) {
        if (!isNotFound(error))
          logger.warn({ err: error, evaluation: name }, 'an evaluation of the drill stays until its time is over');
      }
    }
  }

  /** What an operator before this one left behind, wherever it drilled: nobody judges it any more. */
  leftovers(): Started[] {
    return this.#deps.evaluations
      .list()
      .filter(({ metadata }) => metadata.labels?.[DRILL_LABEL] !== undefined)
      .map(({ metadata: { namespace = '', name = '', uid = '' } }) => ({ namespace, name, uid }));
  }

  /** The changed copies of a sandbox's Job that are tried on admission. */
  async smuggle(drill: string, of: Started, smuggled: readonly Smuggled[], signal: AbortSignal): Promise<Check[]> {
    const { client, now } = this.#deps;
    const { namespace } = of;
    try {
      return await smuggle({ client, namespace, label: DRILL_LABEL, drill, signal, now }, of.uid, smuggled);
    } finally {
      await this.sweepSmuggled(drill, namespace);
    }
  }

  /** Of one drill, or of any. */
  async sweepSmuggled(drill?: string, namespace = this.#deps.namespace): Promise<void> {
    const { client, logger } = this.#deps;
    await sweepSmuggled({ client, namespace, label: DRILL_LABEL, drill }).catch((error: unknown) =>
      logger.warn({ err: error }, 'Jobs of the drill are left until the janitor finds them'),
    );
  }

  /** The status of an evaluation that is expected not to be admitted. */
  async refusal(
    { namespace, name, uid }: Started,
    deadline: number,
    signal: AbortSignal,
  ): Promise<{ reason: string; attempts: number } | undefined> {
    const { evaluations } = this.#deps;
    const seen = await this.#until(deadline, signal, () => {
      const raw = evaluations.get(makeKey(namespace, name));
      const accepted = raw?.status?.conditions?.find(({ type }) => type === 'Accepted');
      if (raw?.metadata.uid !== uid || accepted === undefined || accepted.status === 'Unknown') return undefined;
      return { reason: accepted.reason, attempts: raw.status?.attempts?.length ?? 0 };
    });
    return seen ?? undefined;
  }

  /** Finished, or no longer there although it was. */
  isOver({ namespace, name, uid }: Started): boolean {
    const raw = this.#deps.evaluations.get(makeKey(namespace, name));
    return raw === undefined || raw.metadata.uid !== uid || isFinished(raw);
  }

  async #stdout(uid: string, attempt: number, maxBytes = MAX_OUTPUT_BYTES): Promise<string> {
    const slice = await this.#deps.captures.readTail(uid, attempt, 'stdout', maxBytes);
    return Buffer.from(slice.data).toString('utf8');
  }

  async #until<T>(deadline: number, signal: AbortSignal, look: () => T | null | undefined): Promise<T | undefined> {
    for (;;) {
      signal.throwIfAborted();
      const found = look();
      if (found !== undefined) return found ?? undefined;
      if (this.#deps.now() > deadline) return undefined;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}
