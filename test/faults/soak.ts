/**
 * Every crash point and more rounds of every fault than CI has time for:
 * `node test/faults/soak.ts [--minutes=60] [--quiet-seconds=5]
 * [--rounds=3] [--only=PREFIX,…]`. The last line is a summary; the exit code
 * is 1 after a breach. A minute's quiet (--long-quiet-seconds) is watched in one case of each kind, --quiet-seconds in the
 * others; seeded faults run --rounds times with different seeds.
 */
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  brokenAtCommits,
  brokenAtPublishes,
  brokenWatches,
  conflictStorm,
  cutLogs,
  everythingKilled,
  killedAtCalls,
  lyingAnswers,
  postgresAway,
  postgresKilled,
  redisTroubled,
  terminalUpdateLost,
} from './cases.ts';
import { FATES, KINDS, PROPAGATIONS, STAGES, deleted, namespaceDeleted, podFate, rightsRevoked } from './cases-pods.ts';
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
import type { FaultCase, Moment } from './cases.ts';
import { referenceRun, runCase } from './run.ts';
import type { Reference } from './run.ts';
import { random, sample, seedOfRun } from './seed.ts';
import { Servers } from './servers.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    'quiet-seconds': { type: 'string', default: '5' },
    'long-quiet-seconds': { type: 'string', default: '60' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
  },
});
const seed = seedOfRun();
const deadline = Date.now() + Number(values.minutes) * 60_000;
const quietMs = Number(values['quiet-seconds']) * 1000;
const LONG_QUIET_MS = Number(values['long-quiet-seconds']) * 1000;
const SEEDS = 20;
/** Leaders paused, of either kind: each takes half a minute. */
const PAUSES = 5;
const FLOOD = Number(process.env['CRUCIBLE_FLOOD'] ?? 10_000);
const MEBIBYTE = 1024 * 1024;
const MOMENTS: readonly Moment[] = ['before', 'after'];
const isWanted = (id: string): boolean => values.only.split(',').some((prefix) => id.startsWith(prefix));
const KEPT = join(import.meta.dirname, '../../.crucible/soak');

type Planned = { fault: FaultCase; seed: number };

function exhaustive(reference: Reference): Planned[] {
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
  const at = (count: number, make: (moment: Moment, number: number) => FaultCase): FaultCase[] =>
    upTo(count).flatMap((number) => MOMENTS.map((moment) => make(moment, number)));
  return [
    ...at(reference.calls, (moment, number) => killedAtCalls({ moment, number })),
    ...(['killed', 'cut'] as const).flatMap((how) => [
      ...at(reference.operatorCommits, (moment, number) => brokenAtCommits('operator', how, { moment, number })),
      ...at(reference.recorderCommits, (moment, number) => brokenAtCommits('recorder', how, { moment, number })),
      ...at(reference.publishes, (moment, number) => brokenAtPublishes(how, { moment, number })),
    ]),
  ].map((fault) => ({ fault, seed }));
}

function seeded(): Planned[] {
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
    namespaceDeleted,
    () => poolExhausted(8000),
    () => diskFull(8000),
    () => blocked(30_000),
    clockJumps,
  ];
  const rounds = Array.from({ length: Number(values.rounds) }, (_, round) => seed + round);
  return makers.flatMap((make) => rounds.map((own) => ({ fault: make(), seed: own })));
}

/** Every point of a pod's life once; the leader paused in a few writes; the flood. */
function listed(reference: Reference): Planned[] {
  const next = random(seed);
  const within = (of: number): number[] => sample(next, PAUSES, Math.floor(of * 0.4));
  return [
    ...Object.entries(FATES).flatMap(([name, { stages }]) => stages.map((stage) => podFate(name, stage))),
    ...KINDS.flatMap((kind) => STAGES.flatMap((stage) => PROPAGATIONS.map((how) => deleted(kind, stage, how)))),
    ...within(reference.calls).map((number) => leaderPaused('call', number)),
    ...within(reference.operatorCommits).map((number) => leaderPaused('commit', number)),
    flood(FLOOD),
  ].map((fault) => ({ fault, seed }));
}

const count = { cases: 0, breached: 0, notReached: 0, skipped: 0 };
const kinds = new Set<string>();

async function run(servers: Servers, planned: readonly Planned[], reference: Reference): Promise<void> {
  for (const { fault, seed: own } of planned) {
    if (!isWanted(fault.id)) continue;
    if (Date.now() > deadline) {
      count.skipped += 1;
      continue;
    }
    const kind = fault.id.replace(/[\d,-]+$/, '');
    const result = await runCase(servers, fault, reference, own, kinds.has(kind) ? quietMs : LONG_QUIET_MS);
    kinds.add(kind);
    count.cases += 1;
    if (!result.struck) count.notReached += 1;
    if (result.breaches.length > 0) count.breached += 1;
    const verdict = result.breaches.length > 0 ? 'BREACH' : result.struck ? 'ok' : 'not reached';
    console.log(`${verdict} ${result.id} seed ${own} (${result.seconds.toFixed(1)} s)`);
    for (const breach of result.breaches) console.log(`    ${breach}`);
  }
}

console.log(`soak: CRUCIBLE_SEED=${seed} replays this run; at most ${values.minutes} minutes`);
const servers = await Servers.start();
process.once('exit', () => servers.sandbox.kill());
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
try {
  const reference = await referenceRun(servers, { seed, retry: true }, quietMs);
  for (const breach of reference.breaches) console.log(`BREACH reference run: ${breach}`);
  count.breached += reference.breaches.length > 0 ? 1 : 0;
  console.log(
    `reference: ${reference.calls} mutating calls, ${reference.operatorCommits} commits of the operator, ${reference.recorderCommits} of the recorder, ${reference.publishes} publishes`,
  );
  // What is quick and different first: an exhausted budget cuts the longest list.
  await run(servers, seeded(), reference);
  await run(servers, listed(reference), reference);
  for (let round = 0; round < SEEDS && Date.now() < deadline && isWanted(everythingKilled().id); round += 1) {
    const options = { seed: seed + round, bytes: 1.1 * MEBIBYTE, durationMs: 4000 };
    await run(servers, [{ fault: everythingKilled(), seed: seed + round }], await referenceRun(servers, options, 0));
  }
  await run(servers, exhaustive(reference), reference);
  if (count.breached > 0) {
    mkdirSync(KEPT, { recursive: true });
    cpSync(servers.sandbox.directory, KEPT, { recursive: true, filter: (path) => !/\/(etcd|postgres|redis|compile-cache)$/.test(path) });
    console.log(`logs of all processes: ${KEPT}`);
  }
} finally {
  await servers.stop();
}
console.log(
  `soak: ${count.cases} cases, ${count.breached} breached, ${count.notReached} not reached, ${count.skipped} skipped for want of time, CRUCIBLE_SEED=${seed}`,
);
process.exit(count.breached > 0 ? 1 : 0);
