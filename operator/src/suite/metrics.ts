import { SUITE_PHASES } from '@crucible/crds';
import { RUN_OUTCOMES } from '@crucible/storage';
import type { RunResult } from '@crucible/storage';
import { Counter, Gauge } from 'prom-client';
import type { Registry } from 'prom-client';
import type { RawSuite } from './snapshot.ts';

/** Those of queue and reconciler come with the controller, under the name `evaluationsuite`. */
export class SuiteMetrics {
  readonly #runs: Counter<'outcome'>;

  constructor(registry: Registry, suites: () => readonly RawSuite[]) {
    const registers = [registry];
    this.#runs = new Counter({
      name: 'crucible_suite_runs_total',
      help: 'Finished runs of suites by how they count.',
      labelNames: ['outcome'],
      registers,
    });
    for (const outcome of RUN_OUTCOMES) this.#runs.inc({ outcome }, 0);
    new Gauge({
      name: 'crucible_suites',
      help: 'Evaluation suites in the cluster by phase.',
      labelNames: ['phase'],
      registers,
      collect() {
        const counts = new Map<string, number>(SUITE_PHASES.map((phase) => [phase, 0]));
        for (const { status } of suites()) {
          const phase = status?.phase ?? 'Pending';
          counts.set(phase, (counts.get(phase) ?? 0) + 1);
        }
        for (const [phase, count] of counts) this.set({ phase }, count);
      },
    });
  }

  ended(results: readonly RunResult[]): void {
    for (const { outcome } of results) this.#runs.inc({ outcome });
  }
}
