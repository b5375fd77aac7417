import type { ClassState } from './gate.ts';
import { pending } from './gate.ts';
import { Knowledge } from './knowledge.ts';

/** What the manager keeps of one RuntimeClass. */
export interface Entry {
  readonly key: string;
  knowledge: Knowledge;
  /** Counts the runtimes that the name has meant. */
  generation: number;
  state: ClassState;
  /** Since when its drills cannot be completed. */
  incompleteSince: number | undefined;
  /** When something answered a sandbox: only a drill that began later shows anything. */
  answeredAt: number;
  failed: boolean;
  /** Evaluations ask for it: it is kept drilled, not only when somebody wants a report. */
  wanted: boolean;
  /** A drill of it is to begin when the one that runs has ended. */
  waiting: boolean;
  /** Drills of a class run one after another. */
  turn: Promise<unknown>;
  watched: boolean;
  timer: NodeJS.Timeout | undefined;
  dueAt: number;
}

/** Of a class of which nothing is known. */
export function newEntry(key: string): Entry {
  return {
    key,
    knowledge: new Knowledge(),
    generation: 0,
    state: { state: 'closed', closed: pending(key) },
    incompleteSince: undefined,
    answeredAt: 0,
    failed: false,
    wanted: false,
    waiting: false,
    turn: Promise.resolve(),
    watched: false,
    timer: undefined,
    dueAt: 0,
  };
}
