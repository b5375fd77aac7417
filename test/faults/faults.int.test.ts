import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  brokenAtCommits,
  brokenAtPublishes,
  conflictStorm,
  cutLogs,
  inTurn,
  killedAtCalls,
  lyingAnswers,
  postgresKilled,
  redisTroubled,
  terminalUpdateLost,
  together,
} from './cases.ts';
import { namespaceDeleted, rightsRevoked } from './cases-pods.ts';
import { apiServerKilled, clockJumps, diskFull, poolExhausted, staleLists } from './cases-servers.ts';
import type { FaultCase, Moment, Point } from './cases.ts';
import { standing } from './oracles.ts';
import { referenceRun, runCase } from './run.ts';
import type { Reference } from './run.ts';
import { random, sample, seedOfRun } from './seed.ts';
import { Servers } from './servers.ts';
import type { World } from './world.ts';

// A sample of what soak.ts does exhaustively; each case ends in all oracles. One world at a time: the operator watches
// the whole cluster.

const SEED = seedOfRun();
const QUIET_MS = 1500;
/** A bound for a machine many times slower: a case takes some ten seconds. */
const CASE_MS = 240_000;
const next = random(SEED);
let servers: Servers;
let reference: Reference;
let tampered = '';

beforeAll(async () => {
  console.log(`faults: CRUCIBLE_SEED=${SEED} replays this run`);
  servers = await Servers.start();
  reference = await referenceRun(servers, { seed: SEED }, QUIET_MS, async (world) => {
    tampered = await tamper(world);
  });
}, CASE_MS);
afterAll(() => servers.stop(), CASE_MS);

/** Different points of a run, each before or after at random. */
function points(count: number, of: number): Point[] {
  // The last tenth may not come again in a run that takes another way.
  return sample(next, count, Math.floor(of * 0.9)).map((number) => {
    const moment: Moment = next() < 0.5 ? 'before' : 'after';
    return { moment, number };
  });
}

async function survives(fault: FaultCase): Promise<void> {
  const result = await runCase(servers, fault, reference, SEED, QUIET_MS);
  expect({ case: fault.id, seed: SEED, struck: result.struck, breaches: result.breaches }).toEqual({
    case: fault.id,
    seed: SEED,
    struck: true,
    breaches: [],
  });
}

describe('faults', () => {
  it('none: the reference run satisfies every oracle', () => {
    expect(reference.breaches).toEqual([]);
    expect(reference.calls).toBeGreaterThan(20);
    expect(reference.operatorCommits).toBeGreaterThan(10);
    expect(reference.recorderCommits).toBeGreaterThan(8);
    expect(reference.publishes).toBeGreaterThan(8);
  });
  const cases: Record<string, () => FaultCase> = {
    '1 and 2: the operator is killed at mutating calls, the recorder at publishes to Redis': () =>
      together(
        killedAtCalls(...points(3, reference.calls)),
        brokenAtPublishes('killed', ...points(2, reference.publishes / 2)),
      ),
    '2 and 11: both are killed at commits, and the log is cut at random bytes': () =>
      together(
        brokenAtCommits('operator', 'killed', ...points(2, reference.operatorCommits)),
        brokenAtCommits('recorder', 'killed', ...points(2, reference.recorderCommits)),
        cutLogs(20),
      ),
    '3: errors after writes that went through': lyingAnswers,
    "3, 4 and 13: a conflict storm, the pod's terminal update is lost, and clocks jump": () =>
      together(conflictStorm(), terminalUpdateLost(), clockJumps()),
    '6 and 12: old lists after a restart and a name that is used again; Postgres has no connection left, then is killed': () =>
      inTurn(staleLists('fails'), poolExhausted(2000), postgresKilled(1, 500)),
    '7: the API server is killed and comes back': () => apiServerKilled(1),
    '9: rights are revoked and restored': () => rightsRevoked(3000),
    '9: the namespace is deleted': namespaceDeleted,
    '12: Redis is slow, flushed, frozen, out of reach and killed': redisTroubled,
    '12: the disk is full': () => diskFull(3000),
  };
  for (const [name, make] of Object.entries(cases)) it(name, { timeout: CASE_MS }, () => survives(make()));
});

/** Changes what only Postgres' owner can, and asks the oracles that look at a single state. */
async function tamper(world: World): Promise<string> {
  await world.operator.stop();
  const seen = world.parts[0]!.name;
  await world.record.transaction(async (tx) => {
    // Past the triggers that forbid it.
    await tx.query('SET LOCAL session_replication_role = replica');
    const { rows } = await tx.query<{ uid: string }>('SELECT uid FROM crucible.evaluations WHERE name = $1', [seen]);
    const uid = [rows[0]!.uid];
    await tx.query(
      `UPDATE crucible.output_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1)
       WHERE byte_offset = 0 AND evaluation_uid = $1`,
      uid,
    );
    await tx.query('DELETE FROM crucible.events WHERE seq = 2 AND evaluation_uid = $1', uid);
    await tx.query(
      `UPDATE crucible.attempts SET verdict = NULL, state = 'running', finalized_at = NULL WHERE evaluation_uid = $1`,
      uid,
    );
  });
  const pod = await world.pod(seen);
  const path = `/api/v1/namespaces/${world.namespace}/pods/${pod!['metadata'].name}`;
  await world.must('PATCH', path, { metadata: { finalizers: ['crucible.dev/capture'] } }, 'application/merge-patch+json');
  await world.must('POST', `/api/v1/namespaces/${world.namespace}/configmaps`, {
    metadata: { name: 'orphan', labels: { 'crucible.dev/evaluation-uid': 'nobody' } },
  });
  return standing(await world.state(), world.parts).join('\n');
}

it('the oracles see a changed byte, a lost event, a forgotten finalizer and an orphan in that run', () => {
  for (const words of [
    '(a) succeeds: accepted attempt 1 is not final',
    '(b) succeeds, attempt 1: the ledger of stdout says',
    '(c) pod ',
    '(c) config map orphan belongs to nobody',
    '(e) succeeds: events are numbered 1,3',
  ])
    expect(tampered).toContain(words);
});
