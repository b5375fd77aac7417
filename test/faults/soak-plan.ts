import { crc32 } from 'node:zlib';
import {
  brokenWatches,
  conflictStorm,
  cutLogs,
  everythingKilled,
  lyingAnswers,
  postgresAway,
  postgresKilled,
  redisTroubled,
  terminalUpdateLost,
  together,
} from './cases.ts';
import { brokenAtCommits, brokenAtNumberings, brokenAtPublishes, killedAtCalls } from './cases-points.ts';
import { COMBINATIONS } from './cases-combined.ts';
import { FATES, KINDS, PROPAGATIONS, STAGES, deleted, deletedInQueue, namespaceDeleted, namespaceDeletedAndProgramsRestarted, podFate, rightsRevoked } from './cases-pods.ts';
import {
  apiServerKilled,
  blocked,
  clockJumps,
  diskFull,
  etcdStopped,
  flood,
  leaderPaused,
  poolExhausted,
  staleLists,
} from './cases-servers.ts';
import type { FaultCase } from './cases.ts';
import type { Moment, Point } from './cases-points.ts';
import type { Reference } from './run.ts';
import { random, sample } from './seed.ts';

// What the soak runs: every crash point, and rounds of what is drawn from a seed.

/** One case to be run, against this undisturbed run. */
export interface Planned {
  readonly fault: FaultCase;
  readonly seed: number;
  readonly against: Reference;
}

export interface PlanOptions {
  readonly seed: number;
  readonly rounds: number;
  readonly flood: number;
  /** Of these, only what begins with one of them. */
  readonly only: readonly string[];
  /** `number` of `of` slices, which between them are everything. */
  readonly slice: { readonly number: number; readonly of: number };
}

const SEEDS = 20;
/** Leaders paused, of either kind: each takes half a minute. */
const PAUSES = 5;
const MEBIBYTE = 1024 * 1024;
/** Long enough for recorder, Redis and Postgres to die one after another before the last byte is written. */
const FLOW_MS = 20_000;
const MOMENTS: readonly Moment[] = ['before', 'after'];

/** Undisturbed runs. Every point is tried of the second and third: a retry waits for seconds, which most points need not. */
export interface References {
  readonly whole: Reference;
  readonly usual: Reference;
  readonly retried: Reference;
}

/** What is quick and different first: an exhausted budget cuts the longest list. */
export function plan({ whole, usual, retried }: References, options: PlanOptions): Planned[] {
  const all = [
    ...seeded(whole, options),
    ...listed(whole, options),
    ...killedAsBytesFlow(usual, options),
    ...everyPoint(usual, options),
    ...everyPoint(retried, options),
  ];
  return all.filter(({ fault, seed }) => {
    const wanted = options.only.some((prefix) => fault.id.startsWith(prefix));
    // By its name: the counts of the reference run differ a little from one run to the next.
    return wanted && crc32(`${fault.id} ${seed - options.seed}`) % options.slice.of === options.slice.number - 1;
  });
}

/**
 * Every call, commit, publish and numbering of events, before and after. In one run each program is harmed once: the operator at a call or at a
 * commit, the recorder at a publish or at a commit. What is only cut off is harmed in each of its connections.
 */
function everyPoint(reference: Reference, { seed }: PlanOptions): Planned[] {
  const { calls, operatorCommits, recorderCommits, publishes, numberings } = reference;
  const at = (count: number, make: (point: Point) => FaultCase) => (point: Point) => point.number <= count ? [make(point)] : [];
  const runs = [
    [at(numberings, (point) => brokenAtNumberings('killed', point))],
    [at(numberings, (point) => brokenAtNumberings('cut', point))],
    [at(calls, killedAtCalls), at(publishes, (point) => brokenAtPublishes('killed', point))],
    [
      at(operatorCommits, (point) => brokenAtCommits('operator', 'killed', point)),
      at(recorderCommits, (point) => brokenAtCommits('recorder', 'killed', point)),
    ],
    [
      at(operatorCommits, (point) => brokenAtCommits('operator', 'cut', point)),
      at(recorderCommits, (point) => brokenAtCommits('recorder', 'cut', point)),
      at(publishes, (point) => brokenAtPublishes('cut', point)),
    ],
  ];
  const points = Array.from({ length: Math.max(calls, operatorCommits, recorderCommits, publishes, numberings) }, (_, index) =>
    MOMENTS.map((moment) => ({ moment, number: index + 1 })),
  ).flat();
  return runs.flatMap((makers) =>
    points.flatMap((point) => {
      const faults = makers.flatMap((make) => make(point));
      if (faults.length === 0) return [];
      const fault = together(...faults);
      return [{ fault: reference.options.retry ? { ...fault, id: `${fault.id}+retried` } : fault, seed, against: reference }];
    }),
  );
}

function seeded(reference: Reference, { seed, rounds }: PlanOptions): Planned[] {
  const makers = [
    lyingAnswers,
    conflictStorm,
    terminalUpdateLost,
    brokenWatches,
    () => cutLogs(100),
    () => postgresAway(8000),
    () => postgresKilled(3, 1000),
    redisTroubled,
    () => staleLists('fails'),
    () => staleLists('succeeds'),
    () => apiServerKilled(2),
    () => etcdStopped(20_000),
    () => rightsRevoked(8000),
    () => namespaceDeleted(),
    () => namespaceDeleted(true),
    () => namespaceDeletedAndProgramsRestarted(),
    () => namespaceDeletedAndProgramsRestarted(true),
    () => poolExhausted(8000),
    () => diskFull(8000),
    () => blocked(30_000),
    clockJumps,
    ...Object.values(COMBINATIONS),
  ];
  const seeds = Array.from({ length: rounds }, (_, round) => seed + round);
  return makers.flatMap((make) => seeds.map((own) => ({ fault: make(), seed: own, against: reference })));
}

/** Every point of a pod's life once; the leader paused in a few writes; the flood. */
function listed(reference: Reference, { seed, flood: count }: PlanOptions): Planned[] {
  const next = random(seed);
  const within = (of: number): number[] => sample(next, PAUSES, Math.floor(of * 0.4));
  return [
    ...Object.entries(FATES).flatMap(([name, { stages }]) => stages.map((stage) => podFate(name, stage))),
    ...PROPAGATIONS.map((how) => deletedInQueue(how)),
    ...KINDS.flatMap((kind) => STAGES.flatMap((stage) => PROPAGATIONS.map((how) => deleted(kind, stage, how)))),
    ...within(reference.calls).map((number) => leaderPaused('call', number)),
    ...within(reference.operatorCommits).map((number) => leaderPaused('commit', number)),
    flood(count),
  ].map((fault) => ({ fault, seed, against: reference }));
}

function killedAsBytesFlow(reference: Reference, { seed }: PlanOptions): Planned[] {
  return Array.from({ length: SEEDS }, (_, round) => ({
    fault: everythingKilled(),
    seed: seed + round,
    against: { ...reference, options: { seed: seed + round, bytes: 1.1 * MEBIBYTE, durationMs: FLOW_MS } },
  }));
}
