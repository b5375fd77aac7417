import { once } from 'node:events';
import { EVENT_STREAM, connectRedis } from '@crucible/storage';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  cutLogs,
  redisTroubled,
  together,
} from './cases.ts';
import { brokenAtCommits, brokenAtNumberings, brokenAtPublishes, killedAtCalls } from './cases-points.ts';
import { COMBINATIONS } from './cases-combined.ts';
import { KINDS, PROPAGATIONS, STAGES, deleted, namespaceDeleted } from './cases-pods.ts';
import type { FaultCase } from './cases.ts';
import type { Moment, Point } from './cases-points.ts';
import { LiveReaders } from './live-reader.ts';
import { standing } from './oracles.ts';
import { referenceRun, runCase } from './run.ts';
import type { Reference } from './run.ts';
import { random, sample, seedOfRun } from './seed.ts';
import { Servers } from './servers.ts';
import { streamBreaches } from './stream-oracle.ts';
import type { World } from './world.ts';

// A sample of what soak.ts does exhaustively; each case ends in all oracles. One world at a time: the operator watches
// the whole cluster.

const SEED = seedOfRun();
const QUIET_MS = 1500;
/** A bound for a machine many times slower: a case takes some ten seconds. */
const CASE_MS = 240_000;
/** Of a reader who finds everything there. */
const READER_MS = 30_000;
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
  // How many there are is not the same in each run: what passes within a second is not said in the status.
  return sample(next, count, Math.floor(of * 0.6)).map((number) => {
    const moment: Moment = next() < 0.5 ? 'before' : 'after';
    return { moment, number };
  });
}

function oneOf<T>(items: readonly T[]): T {
  return items[Math.floor(next() * items.length)]!;
}

async function survives(fault: FaultCase): Promise<void> {
  const { id, missed, breaches } = await runCase(servers, fault, reference, SEED, QUIET_MS);
  // In the message, which is all that a summary shows.
  const found = [...missed.map((one) => `never took place: ${one}`), ...breaches].join('; ');
  expect({ missed, breaches }, `${id} with CRUCIBLE_SEED=${SEED}: ${found}`).toEqual({ missed: [], breaches: [] });
}

describe('faults', () => {
  it('none: the reference run satisfies every oracle', () => {
    expect(reference.breaches).toEqual([]);
    expect(reference.calls).toBeGreaterThan(15);
    expect(reference.operatorCommits).toBeGreaterThan(10);
    expect(reference.recorderCommits).toBeGreaterThan(8);
    expect(reference.publishes).toBeGreaterThan(8);
    expect(reference.numberings).toBeGreaterThan(4);
  });
  const cases: Record<string, () => FaultCase> = {
    '1 and 2: the operator is killed at mutating calls, the recorder at publishes to Redis': () =>
      together(
        killedAtCalls(...points(3, reference.calls)),
        brokenAtPublishes('killed', ...points(2, reference.publishes / 2)),
        brokenAtNumberings('cut', ...points(2, reference.numberings / 2)),
      ),
    '2 and 11: both are killed at commits, and the log is cut at random bytes': () =>
      together(
        brokenAtCommits('operator', 'killed', ...points(2, reference.operatorCommits)),
        brokenAtCommits('recorder', 'killed', ...points(2, reference.recorderCommits)),
        cutLogs(20),
      ),
    ...COMBINATIONS,
    '9: the namespace is deleted': () => namespaceDeleted(),
    '9: the Evaluation, its Job or its pod is deleted at some point of its life': () =>
      deleted(oneOf(KINDS), oneOf(STAGES), oneOf(PROPAGATIONS)),
    '12: Redis is slow, flushed, frozen, out of reach and killed': redisTroubled,
  };
  for (const [name, make] of Object.entries(cases)) it(name, { timeout: CASE_MS }, () => survives(make()));
});

/** Changes what only Postgres' owner can, and asks the oracles that look at a single state. */
async function tamper(world: World): Promise<string> {
  await world.operator.stop();
  const seen = world.parts[0]!.name;
  const { rows } = await world.record.query<{ uid: string }>('SELECT uid FROM crucible.evaluations WHERE name = $1', [seen]);
  const uid = rows[0]!.uid;
  await world.record.transaction(async (tx) => {
    // Past the triggers that forbid it.
    await tx.query('SET LOCAL session_replication_role = replica');
    await tx.query(
      `UPDATE crucible.output_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1)
       WHERE byte_offset = 0 AND evaluation_uid = $1`,
      [uid],
    );
    await tx.query('DELETE FROM crucible.events WHERE seq = 2 AND evaluation_uid = $1', [uid]);
    await tx.query(
      `UPDATE crucible.attempts SET verdict = NULL, state = 'running', finalized_at = NULL WHERE evaluation_uid = $1`,
      [uid],
    );
  });
  const pod = await world.pod(seen);
  const path = `/api/v1/namespaces/${world.namespace}/pods/${pod!['metadata'].name}`;
  await world.must('PATCH', path, { metadata: { finalizers: ['crucible.dev/capture'] } }, 'application/merge-patch+json');
  await world.must('POST', `/api/v1/namespaces/${world.namespace}/configmaps`, {
    metadata: { name: 'orphan', labels: { 'crucible.dev/evaluation-uid': 'nobody' } },
  });
  const streamed = await tamperStream(world, uid);
  return [...standing(await world.state(), world.parts), ...(await late(world, uid)), ...streamed].join('\n');
}

/** A reader who comes now gets bytes that the ledger does not know; one of a run that never ends waits for ever. */
async function late(world: World, uid: string): Promise<string[]> {
  const readers = new LiveReaders(world.record, undefined);
  readers.follow([uid]);
  const breaches = await readers.breaches(READER_MS);
  await world.record.transaction(async (tx) => {
    await tx.query('SET LOCAL session_replication_role = replica');
    await tx.query(
      `UPDATE crucible.captures SET state = 'following', captured_at = NULL, complete = NULL, artifacts_complete = NULL
       WHERE evaluation_uid = $1`,
      [uid],
    );
  });
  const waiting = new LiveReaders(world.record, undefined);
  waiting.follow([uid]);
  breaches.push(...(await waiting.breaches(500)));
  await Promise.all([readers.close(), waiting.close()]);
  return breaches;
}

/** The stream loses an event, and a finished run is called pending. */
async function tamperStream(world: World, uid: string): Promise<string[]> {
  if (servers.redis === undefined) return [];
  const redis = connectRedis({ url: servers.redis.url });
  await once(redis, 'ready');
  const [first] = await redis.xrange(EVENT_STREAM, '-', '+', 'COUNT', 1);
  await redis.xdel(EVENT_STREAM, first![0]);
  await redis.set(`pending:${uid}`, '1');
  redis.disconnect();
  return await streamBreaches(servers.redis.url, world.record);
}

it('the oracles see in that run whatever was tampered with: rows, objects, what readers get, the stream in Redis', () => {
  for (const words of [
    '(a) succeeds: accepted attempt 1 is not final',
    '(b) succeeds, attempt 1: the ledger of stdout says',
    '(c) pod ',
    '(c) config map orphan belongs to nobody',
    '(e) succeeds: events are numbered 1,3',
    '(b) a live reader of ',
    'the ledger says',
    'never saw the end',
    ...(servers.redis === undefined ? [] : ['(e) the stream has ', 'has finished and is called pending']),
  ])
    expect(tampered).toContain(words);
});
