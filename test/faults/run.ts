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
  readonly numberings: number;
  readonly breaches: readonly Breach[];
}

/** The undisturbed run; `after` may do with its world what it likes. */
export async function referenceRun(
  servers: Servers,
  options: ScenarioOptions,
  quietMs: number,
  after?: (world: World) => Promise<void>,
): Promise<Reference> {
  const world = await World.create({ servers, parts: scenario(options) });
  try {
    world.start();
    await world.submit();
    const breaches = await world.judge(undefined, quietMs);
    const reference = {
      options,
      breaches,
      end: endState(await world.state()),
      calls: world.operatorApi.mutations.length,
      operatorCommits: world.operatorCommits.points.length,
      recorderCommits: world.recorderCommits.points.length,
      publishes: world.redis?.points.length ?? 0,
      numberings: world.recorderCommits.numberings,
    };
    await after?.(world);
    return reference;
  } finally {
    await world.close();
  }
}

export interface CaseResult {
  readonly id: string;
  readonly seed: number;
  readonly seconds: number;
  /** False: the run took another way and never came to the point, or to one of several. */
  readonly struck: boolean;
  /** The faults that did not take place. */
  readonly missed: readonly string[];
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
  const faults = fault.faults ?? [fault];
  const result = (struck: (one: FaultCase) => boolean, breaches: readonly Breach[]): CaseResult => {
    const missed = faults.filter((one) => !struck(one)).map(({ id }) => id);
    return { id: fault.id, seed, seconds: (Date.now() - begun) / 1000, struck: missed.length === 0, missed, breaches };
  };
  const parts = [...scenario(reference.options), ...(fault.parts ?? [])];
  let world: World | undefined;
  const struck = (one: FaultCase): boolean => world !== undefined && one.struck(world);
  try {
    world = await World.create({ servers, parts, ...fault.world });
    await fault.prepare?.(world);
    const harm = fault.arm(world, seed);
    world.start();
    await world.submit();
    await harm?.();
    const breaches = await world.judge(expected(reference, fault), quietMs);
    return result(struck, [...breaches, ...(await otherwise(world, fault)), ...(fault.whole === true ? await holes(world) : [])]);
  } catch (error) {
    return result(struck, [`the case could not be run: ${(error as Error).stack}`]);
  } finally {
    await world?.close();
  }
}

function expected(reference: Reference, fault: FaultCase): ((end: Record<string, unknown>) => Record<string, unknown>) | undefined {
  if (fault.incomparable === true) return undefined;
  const others = [...Object.keys(fault.otherwise ?? {}), ...(fault.parts ?? []).map(({ name }) => name)];
  return (end) => ({ ...reference.end, ...Object.fromEntries(others.map((name) => [name, end[name]])) });
}

async function holes(world: World): Promise<Breach[]> {
  const { runs } = await world.state();
  return runs.flatMap(({ name, captures }) => {
    const lost = captures.filter(({ complete }) => complete !== true).map(({ attempt, reason }) => `(b) ${name}, attempt ${attempt}: ${reason}`);
    return captures.length === 0 ? [`(b) ${name}: no output at all`] : lost;
  });
}

async function otherwise(world: World, fault: FaultCase): Promise<Breach[]> {
  const expectations = Object.entries(fault.otherwise ?? {}).filter(([, verdicts]) => verdicts.length > 0);
  if (expectations.length === 0) return [];
  const { runs } = await world.state();
  return expectations.flatMap(([name, verdicts]) => {
    // Of a name that was used again the last.
    const found = String(runs.findLast((run) => run.name === name)?.verdict?.['class']);
    return verdicts.includes(found) ? [] : [`(f) ${name} was judged ${found} instead of ${verdicts.join(' or ')}`];
  });
}
