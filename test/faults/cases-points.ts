import type { FaultCase } from './cases.ts';
import type { World } from './world.ts';

// Faults 1 and 2, at points of a run that are counted: calls, commits, publishes, numberings of events.

type Program = 'operator' | 'recorder';
export type Moment = 'before' | 'after';

export interface Point {
  readonly moment: Moment;
  readonly number: number;
}

const named = (points: readonly Point[]): string => points.map(({ moment, number }) => `${moment}-${number}`).join(',');

/** The points that were come to. Two may share a death: what was sent before it arrives at the proxy after it. */
class Reached {
  readonly #numbers = new Set<number>();
  readonly #points: readonly Point[];

  constructor(points: readonly Point[]) {
    this.#points = points;
  }

  at(number: number | undefined): Point | undefined {
    const point = this.#points.find((one) => one.number === number);
    if (point !== undefined) this.#numbers.add(point.number);
    return point;
  }

  get all(): boolean {
    return this.#numbers.size === this.#points.length;
  }
}

/** 1. The operator dies before mutating call N gets out, or after it was done and before the answer comes. */
export function killedAtCalls(...points: readonly Point[]): FaultCase {
  const reached = new Reached(points);
  return {
    id: `1/operator-killed-at-call-${named(points)}`,
    arm: (world) => {
      world.operatorApi.onCall = (call) => {
        const point = reached.at(call.number);
        return point && { kind: 'cut', reached: point.moment === 'after', act: () => world.operator.kill() };
      };
    },
    struck: (world) => reached.all && world.operator.starts > 1,
  };
}

/** 2. A process dies, or loses its connection, before commit N is sent, or after it was done without knowing. */
export function brokenAtCommits(program: Program, how: 'killed' | 'cut', ...points: readonly Point[]): FaultCase {
  const proxy = (world: World) => (program === 'operator' ? world.operatorCommits : world.recorderCommits);
  const reached = new Reached(points);
  return {
    id: `2/${program}-${how}-at-commit-${named(points)}`,
    arm: (world) => {
      const act = how === 'killed' ? () => world[program].kill() : undefined;
      proxy(world).rule = (commit) => {
        const point = reached.at(commit.number);
        return point && { when: point.moment, ...(act && { act }) };
      };
    },
    struck: (world) => reached.all && (how === 'cut' || world[program].starts > 1),
  };
}

/** 2. The recorder dies, or loses Postgres, before it gives events their positions for the Nth time, or after it did so. */
export function brokenAtNumberings(how: 'killed' | 'cut', ...points: readonly Point[]): FaultCase {
  const reached = new Reached(points);
  return {
    id: `2/recorder-${how}-at-numbering-${named(points)}`,
    arm: (world) => {
      const act = how === 'killed' ? () => world.recorder.kill() : undefined;
      world.recorderCommits.numberingRule = (numbering) => {
        const point = reached.at(numbering.number);
        return point && { when: point.moment, ...(act && { act }) };
      };
    },
    struck: (world) => reached.all && (how === 'cut' || world.recorder.starts > 1),
  };
}

/** 2. The recorder dies, or loses Redis, before publish N is sent, or after it was done without knowing. */
export function brokenAtPublishes(how: 'killed' | 'cut', ...points: readonly Point[]): FaultCase {
  const reached = new Reached(points);
  return {
    id: `2/recorder-${how}-at-publish-${named(points)}`,
    arm: (world) => {
      if (world.redis === undefined) return;
      const act = how === 'killed' ? () => world.recorder.kill() : undefined;
      world.redis.rule = (publish) => {
        const point = reached.at(publish.number);
        return point && { when: point.moment, ...(act && { act }) };
      };
    },
    struck: (world) => reached.all && (how === 'cut' || world.recorder.starts > 1),
  };
}
