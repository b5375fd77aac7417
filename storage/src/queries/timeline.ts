import type { EventRecord } from '../types.ts';
import type { AttemptDetail, EvaluationDetail } from './evaluation-detail.ts';
import type { KubernetesEvent, KubernetesEvents } from './kubernetes-events.ts';

export interface TimelineEntry {
  at: Date;
  /**
   * An event's type, or what a time in the record stands for (`evaluation.created`, `attempt.codeStarted`, …);
   * `kubernetes.event` for what Kubernetes told.
   */
  type: string;
  /** Whose clock: the API server's, the kubelet's, or the record's. */
  source: 'cluster' | 'kubelet' | 'record';
  attempt: number | null;
  /** A sentence for people. */
  message: string;
  /** Of the event it is, null when it is none. */
  seq: number | null;
  /** What Kubernetes told, in its own, untrusted words; null for what is ours. */
  kubernetesEvent: Omit<KubernetesEvent, 'uid' | 'attempt'> | null;
  /** Since the entry before it. */
  afterSeconds: number;
}

type Entry = Omit<TimelineEntry, 'afterSeconds'>;

/**
 * What happened, in the order of time: the run's events, the times that the cluster and the kubelet gave, and what
 * Kubernetes told. Their clocks differ, so an effect may stand a moment before its cause. Pure.
 */
export function buildTimeline(evaluation: EvaluationDetail, events: readonly EventRecord[], told: KubernetesEvents): TimelineEntry[] {
  const created: Entry = {
    at: evaluation.createdAt, type: 'evaluation.created', source: 'cluster', attempt: null, seq: null, kubernetesEvent: null,
    message: `Evaluation ${evaluation.namespace}/${evaluation.name} was created${evaluation.submittedBy === null ? '' : ` by ${evaluation.submittedBy}`}.`,
  };
  const entries = [created, ...evaluation.attempts.flatMap(ofAttempt), ...events.map(ofEvent), ...told.events.map(ofKubernetes), ...leftOut(told)];
  // Stable: of two that have the same time the cluster's comes first, and events stay in the order of their numbers.
  entries.sort((a, b) => a.at.getTime() - b.at.getTime());
  return entries.map((entry, index) => ({
    ...entry,
    afterSeconds: Math.round((entry.at.getTime() - (entries[index - 1] ?? entry).at.getTime()) / 1000),
  }));
}

function ofAttempt({ number, startedAt, finishedAt, node, exitCode, signal, capture }: AttemptDetail): Entry[] {
  const entry = (at: Date | null | undefined, type: string, source: Entry['source'], message: string): Entry[] =>
    at == null ? [] : [{ at, type, source, attempt: number, message, seq: null, kubernetesEvent: null }];
  const how = signal === null ? (exitCode === null ? '' : ` with exit code ${exitCode}`) : ` by signal ${signal}`;
  return [
    ...entry(startedAt, 'attempt.codeStarted', 'kubelet', `The code of attempt ${number} started${node === null ? '' : ` on node ${node}`}.`),
    ...entry(finishedAt, 'attempt.codeEnded', 'kubelet', `The code of attempt ${number} ended${how}.`),
    ...entry(capture?.startedAt, 'capture.started', 'record', `The output of attempt ${number} is being recorded.`),
  ];
}

const MESSAGES: Record<string, (data: Record<string, unknown>) => string> = {
  'evaluation.accepted': () => 'It was admitted and recorded.',
  'evaluation.phase': ({ from, to }) => `Its phase went from ${text(from)} to ${text(to)}.`,
  'evaluation.finished': ({ phase, verdict }) => `It finished: ${text(phase)}, verdict ${classOf(verdict)}.`,
  'attempt.created': ({ attempt, jobName }) => `Attempt ${text(attempt)} was created as Job ${text(jobName)}.`,
  'attempt.started': ({ attempt, podName }) => `Attempt ${text(attempt)} runs in pod ${text(podName)}.`,
  'attempt.finalized': ({ attempt, verdict }) => `Attempt ${text(attempt)} was judged: ${classOf(verdict)}.`,
  'attempt.accepted': ({ attempt }) => `Attempt ${text(attempt)} is the result.`,
  'capture.finished': ({ attempt, complete, reason, stdoutBytes, stderrBytes }) =>
    `The output of attempt ${text(attempt)} is stored: ${text(stdoutBytes)} bytes of stdout, ${text(stderrBytes)} of stderr, ` +
    `${complete === true ? 'complete' : `incomplete (${text(reason)})`}.`,
  'retention.outputDeleted': () => 'The bytes of its output were deleted by retention; the ledger stays.',
  'retention.artifactsDeleted': () => 'The content of its artifacts was let go by retention; their names and hashes stay.',
};

function ofEvent({ at, type, data, seq }: EventRecord): Entry {
  const attempt = typeof data['attempt'] === 'number' ? data['attempt'] : null;
  return { at, type, source: 'record', attempt, seq, kubernetesEvent: null, message: MESSAGES[type]?.(data) ?? `${type}.` };
}

function ofKubernetes({ uid: _, attempt, ...event }: KubernetesEvent): Entry {
  const { objectKind, component, reason, message, count, firstSeenAt, lastSeenAt } = event;
  const again = count === 1 ? '' : ` (${count} times, last at ${lastSeenAt.toISOString()})`;
  return {
    at: firstSeenAt, type: 'kubernetes.event', source: 'cluster', attempt, seq: null, kubernetesEvent: event,
    message: `${component || 'Somebody'} told of its ${objectKind.toLowerCase()}: ${reason}: ${message}${again}`,
  };
}

function leftOut({ leftOut: more }: KubernetesEvents): Entry[] {
  if (more === null) return [];
  return [{
    at: more.firstSeenAt, type: 'kubernetes.eventsLeftOut', source: 'record', attempt: null, seq: null, kubernetesEvent: null,
    message: `About ${more.count} more events of Kubernetes were not kept, the last of ${more.lastSeenAt.toISOString()}.`,
  }];
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : 'unknown';
}

function classOf(verdict: unknown): string {
  return text((verdict as { class?: unknown } | null | undefined)?.class);
}
