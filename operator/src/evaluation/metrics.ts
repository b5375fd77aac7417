import { PHASES, VERDICT_CLASSES } from '@crucible/crds';
import type { EvaluationStatus } from '@crucible/crds';
import { Counter, Gauge, Histogram } from 'prom-client';
import type { Registry } from 'prom-client';
import { CLOSED_REASONS } from '../drill/gate.ts';
import { HELD_BACK } from './queue.ts';
import type { AdmissionQueue } from './queue.ts';
import type { RawEvaluation } from './snapshot.ts';

const PASSING = ['Queued', 'Starting', 'Running', 'Capturing'] as const;
const QUEUE_REASONS = [
  ...HELD_BACK,
  ...CLOSED_REASONS,
  'Paused',
  'RecordUnavailable',
  'RetryDelay',
  'QuotaExceeded',
  'SandboxRefused',
  'Kueue',
  'Other',
] as const;

/** Kueue's own words would be labels without end. */
function queueReason(reason: string): string {
  if ((QUEUE_REASONS as readonly string[]).includes(reason)) return reason;
  return reason.startsWith('Kueue') ? 'Kueue' : 'Other';
}

const PHASE_BUCKETS = [0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200];

/** Of the domain; those of queue, reconciler, informers and lease belong to their layers. Base units, fixed labels. */
export class DomainMetrics {
  readonly #verdicts: Counter<'class'>;
  readonly #start: Histogram;
  readonly #total: Histogram<'phase'>;
  readonly #capture: Histogram;
  readonly #phase: Histogram<'phase'>;
  /** By uid, the phase that was written last and when. */
  readonly #since = new Map<string, { phase: string; at: number }>();

  constructor(
    registry: Registry,
    turns: () => AdmissionQueue | undefined,
    evaluations: () => readonly RawEvaluation[],
  ) {
    const registers = [registry];
    this.#verdicts = new Counter({
      name: 'crucible_verdicts_total',
      help: 'Finished evaluations by verdict class.',
      labelNames: ['class'],
      registers,
    });
    for (const kind of VERDICT_CLASSES) this.#verdicts.inc({ class: kind }, 0);
    this.#start = new Histogram({
      name: 'crucible_evaluation_start_seconds',
      help: 'From creation of the resource to the start of its code.',
      buckets: PHASE_BUCKETS,
      registers,
    });
    this.#total = new Histogram({
      name: 'crucible_evaluation_seconds',
      help: 'From creation of the resource to its final status.',
      labelNames: ['phase'],
      buckets: PHASE_BUCKETS,
      registers,
    });
    this.#capture = new Histogram({
      name: 'crucible_capture_wait_seconds',
      help: 'From the end of the code to the final status.',
      buckets: PHASE_BUCKETS,
      registers,
    });
    for (const phase of ['Succeeded', 'Failed', 'Cancelled']) this.#total.zero({ phase });
    new Gauge({
      name: 'crucible_evaluations',
      help: 'Evaluations in the cluster by phase.',
      labelNames: ['phase'],
      registers,
      collect() {
        const counts = new Map<string, number>(PHASES.map((phase) => [phase, 0]));
        for (const { status } of evaluations())
          counts.set(status?.phase ?? 'Queued', (counts.get(status?.phase ?? 'Queued') ?? 0) + 1);
        for (const [phase, count] of counts) this.set({ phase }, count);
      },
    });
    new Gauge({
      name: 'crucible_queue_depth',
      help: 'Evaluations that wait to be started, by what their status says they wait for.',
      labelNames: ['reason'],
      registers,
      collect() {
        const counts = new Map<string, number>(QUEUE_REASONS.map((reason) => [reason, 0]));
        for (const { status } of evaluations()) {
          if (status?.queue === undefined) continue;
          const reason = queueReason(status.queue.reason);
          counts.set(reason, counts.get(reason)! + 1);
        }
        for (const [reason, count] of counts) this.set({ reason }, count);
      },
    });
    new Gauge({
      name: 'crucible_uncaptured_runs',
      help: 'Runs that have ended and whose output is not stored yet.',
      registers,
      collect() {
        this.set(turns()?.uncaptured ?? 0);
      },
    });
    this.#phase = new Histogram({
      name: 'crucible_phase_seconds',
      help: 'Time that an evaluation spent in a phase, from one to the next; a phase of a run under way that is over within two seconds may be missing in its status, not here.',
      labelNames: ['phase'],
      buckets: PHASE_BUCKETS,
      registers,
    });
    for (const phase of PASSING) this.#phase.zero({ phase });
    new Gauge({
      name: 'crucible_admission_running',
      help: 'Evaluations that hold a place among the running.',
      registers,
      collect() {
        this.set(turns()?.running ?? 0);
      },
    });
    new Gauge({
      name: 'crucible_admission_waiting',
      help: 'Evaluations that wait for a place.',
      registers,
      collect() {
        this.set(turns()?.waiting ?? 0);
      },
    });
  }

  statusWritten(before: RawEvaluation, status: EvaluationStatus, now: number): void {
    this.#phaseWritten(before, status, now);
    const created = Date.parse(before.metadata.creationTimestamp ?? '');
    const seconds = (from: number): number => Math.max(0, (now - from) / 1000);
    if (before.status?.startedAt === undefined && status.startedAt !== undefined) {
      this.#start.observe(Math.max(0, (Date.parse(status.startedAt) - created) / 1000));
    }
    if (status.verdict === undefined || before.status?.verdict !== undefined) return;
    this.#verdicts.inc({ class: status.verdict.class });
    this.#total.observe({ phase: status.phase ?? 'Failed' }, seconds(created));
    if (status.finishedAt !== undefined) this.#capture.observe(seconds(Date.parse(status.finishedAt)));
  }

  /** As statusWritten, for one that is not written because it may be over soon. */
  phaseSeen(before: RawEvaluation, status: EvaluationStatus, now: number): void {
    this.#phaseWritten(before, status, now);
  }

  /** The first phase counts from creation; one that another process wrote does not count. */
  #phaseWritten(before: RawEvaluation, { phase = 'Queued', verdict }: EvaluationStatus, now: number): void {
    const { uid = '', creationTimestamp = '' } = before.metadata;
    const known = this.#since.get(uid);
    const first = before.status?.phase === undefined ? { phase: 'Queued', at: Date.parse(creationTimestamp) } : undefined;
    const last = known ?? first;
    if (verdict !== undefined) this.#since.delete(uid);
    else if (last?.phase !== phase || known === undefined) this.#since.set(uid, { phase, at: last?.phase === phase ? last.at : now });
    if (last !== undefined && last.phase !== phase) this.#phase.observe({ phase: last.phase }, Math.max(0, (now - last.at) / 1000));
  }

  /** It is gone. */
  forget(uid: string): void {
    this.#since.delete(uid);
  }
}
