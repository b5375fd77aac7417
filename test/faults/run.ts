import type { FaultCase } from './cases.ts';
import { endState } from './oracles.ts';
import type { Breach } from './oracles.ts';
import { scenario } from './scenario.ts';
import type { ScenarioOptions } from './scenario.ts';
import type { Servers } from './servers.ts';
import { World } from './world.ts';

export interface Reference {
  readonly options: ScenarioOptions;
  readonly end: Record<string, unknown>;
  /** How many calls and commits the undisturbed run takes: the N of faults 1 and 2. */
  readonly calls: number;
  readonly operatorCommits: number;
  readonly recorderCommits: number;
  readonly publishes: number;
  readonly breaches: readonly Breach[];
}

/** The undisturbed run. */
export async function referenceRun(servers: Servers, options: ScenarioOptions, quietMs: number): Promise<Reference> {
  const world = await World.create({ servers, parts: scenario(options) });
  try {
    world.start();
    await world.submit();
    const breaches = await world.judge(undefined, quietMs);
    return {
      options,
      breaches,
      end: endState(await world.state()),
      calls: world.operatorApi.mutations.length,
      operatorCommits: world.operatorCommits.points.length,
      recorderCommits: world.recorderCommits.points.length,
      publishes: world.redis?.points.length ?? 0,
    };
  } finally {
    await world.close();
  }
}

export interface CaseResult {
  readonly id: string;
  readonly seed: number;
  readonly seconds: number;
  /** False: the run took another way and never came to the point. */
  readonly struck: boolean;
  readonly breaches: readonly Breach[];
}

/** One case in a world of its own, judged by all oracles. */
export async function runCase(
  servers: Servers,
  fault: FaultCase,
  reference: Reference,
  seed: number,
  quietMs: number,
): Promise<CaseResult> {
  const begun = Date.now();
  const result = (struck: boolean, breaches: readonly Breach[]): CaseResult => ({
    id: fault.id,
    seed,
    seconds: (Date.now() - begun) / 1000,
    struck,
    breaches,
  });
  const world = await World.create({ servers, parts: scenario(reference.options) });
  try {
    const harm = fault.arm(world, seed);
    world.start();
    await world.submit();
    await harm?.();
    const breaches = await world.judge(expected(reference, fault), quietMs);
    return result(fault.struck(world), [...breaches, ...(await otherwise(world, fault))]);
  } catch (error) {
    return result(fault.struck(world), [`the case could not be run: ${(error as Error).stack}`]);
  } finally {
    await world.close();
  }
}

function expected(reference: Reference, { otherwise: other }: FaultCase): ((end: Record<string, unknown>) => Record<string, unknown>) {
  return (end) => (other === undefined ? reference.end : { ...reference.end, [other.part]: end[other.part] });
}

async function otherwise(world: World, { otherwise: other }: FaultCase): Promise<Breach[]> {
  if (other === undefined) return [];
  const run = (await world.state()).runs.find(({ name }) => name === other.part);
  const found = run?.verdict?.['class'];
  return found === other.verdict ? [] : [`(f) ${other.part} was judged ${found} instead of ${other.verdict}`];
}
