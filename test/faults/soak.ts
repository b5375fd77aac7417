/**
 * Every crash point and more rounds of every fault than CI has time for:
 * `node test/faults/soak.ts [--minutes=60] [--lanes=3] [--slice=1/1] [--quiet-seconds=3] [--long-quiet-seconds=60]
 * [--rounds=3] [--only=PREFIX,…]`. The exit code is 1 after a breach or when some fault
 * never took place, and 3 when there was no time for everything. A minute's quiet
 * (--long-quiet-seconds) is watched in one case of each kind, --quiet-seconds in the others; seeded faults run --rounds
 * times with different seeds. So many lanes run at once, each with servers of its own: most of a case is waiting.
 * `--slice=2/5` runs the second fifth of it all, always the same one.
 */
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { referenceRun, runCase } from './run.ts';
import type { Reference } from './run.ts';
import type { ScenarioOptions } from './scenario.ts';
import { seedOfRun } from './seed.ts';
import { Servers } from './servers.ts';
import { plan } from './soak-plan.ts';
import type { Planned } from './soak-plan.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    lanes: { type: 'string', default: '3' },
    slice: { type: 'string', default: '1/1' },
    'quiet-seconds': { type: 'string', default: '3' },
    'long-quiet-seconds': { type: 'string', default: '60' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
  },
});
const seed = seedOfRun();
const begun = Date.now();
const deadline = begun + Number(values.minutes) * 60_000;
const quietMs = Number(values['quiet-seconds']) * 1000;
const longQuietMs = Number(values['long-quiet-seconds']) * 1000;
const [slice = 1, slices = 1] = values.slice.split('/').map(Number);
const options = {
  seed,
  rounds: Number(values.rounds),
  flood: Number(process.env['CRUCIBLE_FLOOD'] ?? 10_000),
  only: values.only.split(','),
  slice: { number: slice, of: slices },
};
const KEPT = join(import.meta.dirname, '../../.crucible/soak');

const count = { cases: 0, faults: 0, breached: 0, notReached: 0, skipped: 0 };
const kinds = new Set<string>();
/** Of each kind of fault that was tried, whether it ever took place. */
const struck = new Map<string, boolean>();
let caseSeconds = 0;

function quietOf(id: string): number {
  const kind = id.replace(/\d+/g, '');
  const first = !kinds.has(kind);
  kinds.add(kind);
  return first ? longQuietMs : quietMs;
}

/** Until nothing is left of `cases`, which all lanes share. */
async function lane(servers: Servers, cases: Planned[]): Promise<void> {
  for (let next = cases.shift(); next !== undefined; next = cases.shift()) {
    if (Date.now() > deadline) {
      count.skipped += 1;
      continue;
    }
    const { fault, seed: own, against } = next;
    const result = await runCase(servers, fault, against, own, quietOf(fault.id));
    const { breaches } = result;
    count.cases += 1;
    caseSeconds += result.seconds;
    count.faults += fault.faults?.length ?? 1;
    count.notReached += result.missed.length;
    if (breaches.length > 0) count.breached += 1;
    for (const { id } of fault.faults ?? [fault]) {
      const kind = id.replace(/-(before|after)-.*/, '');
      struck.set(kind, struck.get(kind) === true || !result.missed.includes(id));
    }
    const verdict = breaches.length > 0 ? 'BREACH' : result.struck ? 'ok' : `not reached (${result.missed.join(', ')})`;
    console.log(`${verdict} ${result.id} seed ${own} (${result.seconds.toFixed(1)} s)`);
    for (const breach of breaches) console.log(`    ${breach}`);
  }
}

async function undisturbed(servers: Servers, more: Omit<ScenarioOptions, 'seed'>): Promise<Reference> {
  const reference = await referenceRun(servers, { seed, ...more }, quietMs);
  for (const breach of reference.breaches) console.log(`BREACH reference run: ${breach}`);
  count.breached += reference.breaches.length > 0 ? 1 : 0;
  const { calls, operatorCommits, recorderCommits, publishes, numberings } = reference;
  console.log(
    `reference ${JSON.stringify(more)}: ${calls} mutating calls, ${operatorCommits} commits of the operator, ${recorderCommits} of the recorder, ${publishes} publishes, ${numberings} times events were numbered`,
  );
  return reference;
}

function keepLogs(servers: Servers): void {
  const folder = join(KEPT, String(process.pid), servers.sandbox.directory.split('-').at(-1)!);
  mkdirSync(folder, { recursive: true });
  cpSync(servers.sandbox.directory, folder, { recursive: true, filter: (path) => !/\/(etcd|postgres|redis|compile-cache)$/.test(path) });
  console.log(`logs of all processes: ${folder}`);
}

console.log(`soak: CRUCIBLE_SEED=${seed} replays this run; at most ${values.minutes} minutes, ${values.lanes} lanes, slice ${values.slice}`);
const all: Servers[] = [];
process.once('exit', () => all.forEach(({ sandbox }) => sandbox.kill()));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
try {
  all.push(await Servers.start());
  const references = {
    whole: await undisturbed(all[0]!, { retry: true }),
    usual: await undisturbed(all[0]!, {}),
    retried: await undisturbed(all[0]!, { retry: 'alone' }),
  };
  const cases = plan(references, options);
  console.log(`${cases.length} cases planned`);
  const lanes = [lane(all[0]!, cases)];
  // One after another: servers that start are most of the work there is.
  while (all.length < Math.min(Number(values.lanes), cases.length)) {
    const servers = await Servers.start();
    all.push(servers);
    lanes.push(lane(servers, cases));
  }
  await Promise.all(lanes);
  if (count.breached > 0) all.forEach(keepLogs);
} finally {
  await Promise.all(all.map((servers) => servers.stop()));
}
const minutes = (Date.now() - begun) / 60_000;
console.log(
  `soak: ${count.cases} cases with ${count.faults} faults, ${count.breached} cases breached, ${count.notReached} faults not reached, ${count.skipped} skipped for want of time, CRUCIBLE_SEED=${seed}; ${(caseSeconds / Math.max(count.cases, 1)).toFixed(1)} s a case, ${minutes.toFixed(1)} minutes in all`,
);
const never = [...struck].filter(([, once]) => !once).map(([kind]) => kind);
if (never.length > 0) console.log(`never took place: ${never.join(', ')}`);
if (count.skipped > 0) console.log('not everything was tried: give it more --minutes, or a part of it with --slice');
process.exit(count.breached > 0 || never.length > 0 ? 1 : count.skipped > 0 ? 3 : 0);
