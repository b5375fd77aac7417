import { Counter, Gauge, Histogram } from 'prom-client';
import type { Registry } from 'prom-client';
import type { Outcome } from './attack.ts';

const SECONDS = [5, 10, 20, 40, 60, 120, 300];

export interface GateNumbers {
  readonly closedClasses: number;
  readonly closedNamespaces: number;
}

export class DrillMetrics {
  readonly #drills: Counter<'outcome'>;
  readonly #rules: Gauge<'outcome'>;
  readonly #seconds: Histogram;
  readonly #last: Gauge;
  #numbers: () => GateNumbers = () => ({ closedClasses: 0, closedNamespaces: 0 });

  constructor(registry: Registry) {
    const registers = [registry];
    this.#drills = new Counter({
      name: 'crucible_drills_total',
      help: 'Drills of one RuntimeClass by outcome.',
      labelNames: ['outcome'],
      registers,
    });
    this.#rules = new Gauge({
      name: 'crucible_drill_rules',
      help: 'Rules by outcome in the newest drill.',
      labelNames: ['outcome'],
      registers,
    });
    for (const outcome of ['held', 'broken', 'open']) {
      this.#drills.inc({ outcome }, 0);
      this.#rules.set({ outcome }, 0);
    }
    this.#seconds = new Histogram({
      name: 'crucible_drill_seconds',
      help: 'Duration of drills.',
      buckets: SECONDS,
      registers,
    });
    this.#last = new Gauge({
      name: 'crucible_drill_last_held_timestamp_seconds',
      help: 'When a drill last showed all that admission needs.',
      registers,
    });
    const numbers = (): GateNumbers => this.#numbers();
    new Gauge({
      name: 'crucible_drill_closed_runtime_classes',
      help: 'RuntimeClasses in use for which nothing is admitted, because their drill is pending or has failed.',
      registers,
      collect() {
        this.set(numbers().closedClasses);
      },
    });
    new Gauge({
      name: 'crucible_drill_closed_namespaces',
      help: 'Evaluation namespaces in which nothing is admitted, because of their NetworkPolicies.',
      registers,
      collect() {
        this.set(numbers().closedNamespaces);
      },
    });
  }

  observe(numbers: () => GateNumbers): void {
    this.#numbers = numbers;
  }

  /** `opens`: everything that admission needs was shown. */
  finished(counts: Readonly<Record<Outcome, number>>, seconds: number, opens: boolean): void {
    const outcome: Outcome = counts.broken > 0 ? 'broken' : counts.open > 0 ? 'open' : 'held';
    this.#drills.inc({ outcome });
    this.#seconds.observe(seconds);
    for (const kind of ['held', 'broken', 'open'] as const) this.#rules.set({ outcome: kind }, counts[kind]);
    if (opens) this.#last.setToCurrentTime();
  }
}
