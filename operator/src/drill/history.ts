import type { DrillRepository } from '@crucible/storage';
import type { Logger } from 'pino';
import type { Attack, Finding } from './attack.ts';
import { countOutcomes, scoreRules } from './attack.ts';
import { CATALOGUE } from './catalogue/index.ts';

export type Trigger = 'start' | 'need' | 'change' | 'retry' | 'schedule' | 'request';

/** What one drill found of one class. */
export interface ClassResult {
  readonly id: string;
  readonly runtimeClass: string | undefined;
  readonly findings: readonly Finding[];
  readonly startedAt: Date;
  readonly finishedAt: Date;
}

/** The drills in the record: what outlives an operator. */
export class DrillHistory {
  readonly #drills: DrillRepository;
  readonly #logger: Logger;

  constructor(drills: DrillRepository, logger: Logger) {
    this.#drills = drills;
    this.#logger = logger;
  }

  /** What was found broken of a class and has not been shown to hold since. */
  async broken(runtimeClass: string | undefined): Promise<Finding[]> {
    return await this.#drills.broken(runtimeClass ?? null);
  }

  async record(result: ClassResult, attacks: readonly Attack[], trigger: Trigger, epoch: number): Promise<void> {
    const counts = countOutcomes(scoreRules(result.findings));
    const outcome = counts.broken > 0 ? 'broken' : counts.open > 0 ? 'open' : 'held';
    const kind = attacks.length >= CATALOGUE.length ? 'full' : 'quick';
    const { id, runtimeClass, findings, startedAt, finishedAt } = result;
    try {
      await this.#drills.record({
        id,
        kind,
        runtimeClass: runtimeClass ?? null,
        trigger,
        outcome,
        ...counts,
        startedAt,
        finishedAt,
        epoch,
        findings,
      });
    } catch (error) {
      // The history has a gap; the gate does not wait for it.
      this.#logger.warn({ err: error, drill: id }, 'the drill could not be recorded');
    }
  }
}
