import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  brokenAtCommits,
  brokenAtPublishes,
  conflictStorm,
  cutLogs,
  killedAtCalls,
  lyingAnswers,
  postgresAway,
  postgresKilled,
  redisTroubled,
  terminalUpdateLost,
  together,
} from './cases.ts';
import type { FaultCase, Moment, Point } from './cases.ts';
import { standing } from './oracles.ts';
import { referenceRun, runCase } from './run.ts';
import type { Reference } from './run.ts';
import { scenario } from './scenario.ts';
import { random, sample, seedOfRun } from './seed.ts';
import { Servers } from './servers.ts';
import { World } from './world.ts';

// A sample of what soak.ts does exhaustively; each case ends in all oracles. One world at a time: the operator watches
// the whole cluster.

const SEED = seedOfRun();
const QUIET_MS = 1500;
const CASE_MS = 120_000;
const next = random(SEED);
let servers: Servers;
let reference: Reference;

beforeAll(async () => {
  console.log(`faults: CRUCIBLE_SEED=${SEED} replays this run`);
  servers = await Servers.start();
  reference = await referenceRun(servers, { seed: SEED }, QUIET_MS);
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
  it('1: the operator killed at mutating calls', { timeout: CASE_MS }, () => survives(killedAtCalls(...points(3, reference.calls))));
  it('2: the operator and the recorder killed at commits', { timeout: CASE_MS }, () =>
    survives(
      together(
        brokenAtCommits('operator', 'killed', ...points(2, reference.operatorCommits)),
        brokenAtCommits('recorder', 'killed', ...points(2, reference.recorderCommits)),
      ),
    ));
  it('2: the recorder killed at publishes to Redis', { timeout: CASE_MS }, () =>
    survives(brokenAtPublishes('killed', ...points(2, reference.publishes / 2))));
  it('3: errors after writes that went through', { timeout: CASE_MS }, () => survives(lyingAnswers()));
  it('3: a conflict storm', { timeout: CASE_MS }, () => survives(conflictStorm()));
  it("4: the pod's terminal update is lost", { timeout: CASE_MS }, () => survives(terminalUpdateLost()));
  it('11 and 12: the log is cut at random bytes, and Postgres cannot be reached for some seconds', { timeout: CASE_MS }, () =>
    survives(together(cutLogs(20), postgresAway(4000))));
  it('12: Postgres is killed and comes back', { timeout: CASE_MS }, () => survives(postgresKilled(2, 500)));
  it('12: Redis is slow, flushed, frozen, out of reach and killed', { timeout: CASE_MS }, () => survives(redisTroubled()));
});

describe('the oracles on a real world', () => {
  it('see a changed byte, a lost event, a forgotten finalizer and an orphan', { timeout: CASE_MS }, async () => {
    const parts = scenario({ seed: SEED }).slice(0, 1);
    const world = await World.create({ servers, parts });
    try {
      world.start();
      await world.submit();
      expect(await world.settle()).toEqual([]);
      await world.operator.stop();
      await world.record.transaction(async (tx) => {
        // Past the triggers that forbid it.
        await tx.query('SET LOCAL session_replication_role = replica');
        await tx.query(`UPDATE crucible.output_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1) WHERE byte_offset = 0`);
        await tx.query('DELETE FROM crucible.events WHERE seq = 2');
        await tx.query('UPDATE crucible.attempts SET verdict = NULL, state = $1, finalized_at = NULL', ['running']);
      });
      const pod = await world.pod(parts[0]!.name);
      const path = `/api/v1/namespaces/${world.namespace}/pods/${pod!['metadata'].name}`;
      await world.must('PATCH', path, { metadata: { finalizers: ['crucible.dev/capture'] } }, 'application/merge-patch+json');
      await world.must('POST', `/api/v1/namespaces/${world.namespace}/configmaps`, {
        metadata: { name: 'orphan', labels: { 'crucible.dev/evaluation-uid': 'nobody' } },
      });
      const breaches = standing(await world.state(), parts).join('\n');
      for (const words of [
        '(a) succeeds: accepted attempt 1 is not final',
        '(b) succeeds, attempt 1: the ledger of stdout says',
        '(c) pod ',
        '(c) config map orphan belongs to nobody',
        '(e) succeeds: events are numbered 1,3',
      ])
        expect(breaches).toContain(words);
    } finally {
      await world.close();
    }
  });
});
