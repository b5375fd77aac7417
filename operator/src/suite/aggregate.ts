import { VERDICT_CLASSES } from '@crucible/crds';
import type { Cell, PassRate, SuiteCellStatus, SuiteSummary, VerdictClass } from '@crucible/crds';
import type { RunOutcome, RunResult } from '@crucible/storage';
import type { Run } from './snapshot.ts';
import { formatPassRate, passRate } from './wilson.ts';

export interface Judged {
  readonly verdict: { readonly class: string; readonly attributableTo?: string | undefined };
  /** null: not compared with expect, or there is none. */
  readonly passed: boolean | null;
}

/**
 * How a finished run counts. What expect says decides where there is one. A run that was cancelled before it could be
 * compared says nothing about the code, so it counts as cancelled even when the code came to its end.
 */
export function outcomeOf({ verdict, passed }: Judged, expects: boolean): RunOutcome {
  if (verdict.class === 'Cancelled') return 'Cancelled';
  if (passed ?? (!expects && verdict.class === 'Succeeded')) return 'Passed';
  if (passed === null && verdict.class === 'Succeeded') return 'Cancelled';
  return verdict.attributableTo === 'Infrastructure' ? 'InfrastructureFailed' : 'Failed';
}

const finishedOf = (runs: readonly Run[]): RunResult[] =>
  runs.flatMap(({ state }) => (state.kind === 'finished' ? [state.result] : []));
const count = <T>(items: readonly T[], holds: (item: T) => boolean): number => items.filter(holds).length;
const of = (results: readonly RunResult[], outcome: RunOutcome): number =>
  count(results, (result) => result.outcome === outcome);

type Counts = Pick<SuiteSummary, 'passed' | 'failed' | 'infrastructureFailed' | 'cancelled'>;

function countsOf(results: readonly RunResult[]): Counts {
  return {
    passed: of(results, 'Passed'),
    failed: of(results, 'Failed'),
    infrastructureFailed: of(results, 'InfrastructureFailed'),
    cancelled: of(results, 'Cancelled'),
  };
}

/** Cancelled runs are in no rate: nobody knows what they would have been. */
function rateOf(results: readonly RunResult[]): PassRate {
  const ended = results.filter(({ outcome }) => outcome !== 'Cancelled');
  return passRate(of(ended, 'Passed'), ended.length);
}

/** All runs together. total = notStarted + running + finished, finished = passed + failed + … + cancelled. Pure. */
export function summarize(runs: readonly Run[]): SuiteSummary {
  const results = finishedOf(runs);
  const first = results.filter(({ attempts }) => attempts <= 1);
  const sound = (some: readonly RunResult[]): RunResult[] =>
    some.filter(({ outcome }) => outcome !== 'InfrastructureFailed');
  const all = rateOf(results);
  const shown = formatPassRate(all);
  return {
    total: runs.length,
    notStarted: count(runs, ({ state }) => state.kind === 'absent'),
    running: count(runs, ({ state }) => state.kind === 'unfinished'),
    ...countsOf(results),
    finished: results.length,
    retried: results.length - first.length,
    ...(shown !== undefined && { passRate: shown }),
    verdicts: VERDICT_CLASSES.map((kind) => ({ class: kind, count: count(results, (r) => r.verdictClass === kind) })).filter(
      (verdict): verdict is { class: VerdictClass; count: number } => verdict.count > 0,
    ),
    passRates: {
      all,
      withoutRetried: rateOf(first),
      withoutInfrastructure: rateOf(sound(results)),
      withoutRetriedAndInfrastructure: rateOf(sound(first)),
    },
  };
}

/** Of every cell that has a finished run. Pure. */
export function summarizeCells(cells: readonly Cell[], runs: readonly Run[]): SuiteCellStatus[] {
  const byCell = new Map<number, Run[]>();
  for (const run of runs) byCell.set(run.cell, [...(byCell.get(run.cell) ?? []), run]);
  return cells.flatMap((parameters, index) => {
    const results = finishedOf(byCell.get(index + 1) ?? []);
    if (results.length === 0) return [];
    const named = parameters.length > 0 && { parameters: Object.fromEntries(parameters) };
    return [{ cell: index + 1, ...named, ...countsOf(results), passRate: rateOf(results) }];
  });
}

/** Even if all the others passed, too few would have. */
export function isOutOfReach({ total, failed, infrastructureFailed, cancelled }: SuiteSummary, minPercent: number): boolean {
  return (total - failed - infrastructureFailed - cancelled) * 100 < minPercent * total;
}
