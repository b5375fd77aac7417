// Events per second end to end: committed by writers, numbered, published, read back from the stream. And the time from
// commit to a consumer. On throw-away servers: node storage/bench/events.ts [events] [writers]
import { randomUUID } from 'node:crypto';
import { createDatabase } from '../../test/integration/database.ts';
import { startPostgres } from '../../test/integration/postgres.ts';
import { Sandbox } from '../../test/integration/processes.ts';
import { startRedis } from '../../test/integration/redis.ts';
import { holds, print, quantile } from '../../test/bench/table.ts';
import type { Measure } from '../../test/bench/table.ts';
import { connect, connectRedis, EventConsumer, EventRelay, EventRepository, EvaluationRepository, PositionRepository } from '../src/index.ts';
import { buildEvaluation, prepareDatabase } from '../src/testing.ts';

const [events = 20_000, writers = 20] = process.argv.slice(2).map(Number);
/** Of the second part, one event at a time: what a person who watches a run sees. */
const SINGLES = 200;
/** Ten evaluations a second, which is what a small cluster starts, make a tenth of that. */
const EVENTS_A_SECOND = 1_000;
/** Nobody who watches notices. */
const SINGLE_P99_MS = 100;

const sandbox = new Sandbox();
process.once('exit', () => sandbox.kill());
process.env['CRUCIBLE_TEST_POSTGRES'] = await startPostgres(sandbox);
const url = await startRedis(sandbox);
if (url === undefined) throw new Error('there is no Redis here: apt-get install redis-server (or valkey-server)');
const database = await createDatabase('bench');
const dsns = await prepareDatabase(database.dsn);
const operator = connect({ connectionString: dsns.operator, poolSize: writers });
const recorder = connect({ connectionString: dsns.recorder, poolSize: 3 });
const [publisher, reader] = [connectRedis({ url }), connectRedis({ url })];

const arrived = new Map<string, number>();
let waitFor: { count: number; resolve: () => void } | undefined;
const until = (count: number): Promise<void> =>
  new Promise((resolve) => (arrived.size >= count ? resolve() : (waitFor = { count, resolve })));

const nothing = (): void => undefined;
const relay = new EventRelay(recorder, publisher, {
  active: nothing, lag: nothing, published: nothing, deadLetters: nothing, rewritten: nothing, trouble: nothing,
});
const consumer = new EventConsumer({
  redis: reader, group: 'bench', consumer: 'one', archive: new PositionRepository(recorder),
  handle: (event) => {
    arrived.set(event.id, performance.now());
    if (waitFor !== undefined && arrived.size >= waitFor.count) waitFor.resolve();
    return Promise.resolve();
  },
});
relay.start();
consumer.start();

const uids = Array.from({ length: 100 }, () => randomUUID());
for (const uid of uids) await new EvaluationRepository(operator).upsertAccepted(buildEvaluation({ uid }));
await until(uids.length);

const log = new EventRepository(operator);
const append = async (uid: string): Promise<string> => {
  const data = { attempt: 1, podName: 'hello-01234567-1-abcde', node: 'node-1' };
  const seq = await operator.transaction((tx) => log.append(tx, uid, { type: 'attempt.started', data }));
  return `${uid}/${seq}`;
};

const begun = performance.now();
let left = events;
await Promise.all(
  Array.from({ length: writers }, async () => {
    while (left > 0) await append(uids[(left -= 1) % uids.length] ?? '');
  }),
);
const committed = performance.now();
await until(uids.length + events);
const ended = performance.now();

const delays: number[] = [];
for (let n = 0; n < SINGLES; n += 1) {
  const id = await append(uids[n % uids.length] ?? '');
  const at = performance.now();
  await until(uids.length + events + n + 1);
  delays.push((arrived.get(id) ?? at) - at);
}
const rate = (ms: number): number => (events * 1000) / ms;
const measures: Measure[] = [
  { name: 'committed', value: rate(committed - begun), unit: '/s' },
  { name: 'committed, numbered, published and read', value: rate(ended - begun), unit: '/s', atLeast: EVENTS_A_SECOND },
  { name: 'the last one behind its commit', value: ended - committed, unit: 'ms' },
  { name: 'commit to consumer, one at a time, p50', value: quantile(delays, 0.5), unit: 'ms' },
  { name: 'commit to consumer, one at a time, p99', value: quantile(delays, 0.99), unit: 'ms', atMost: SINGLE_P99_MS },
];
print(`event bus: ${events} events of ${uids.length} evaluations, ${writers} writers`, measures);
process.exitCode = measures.every(holds) ? 0 : 1;

await Promise.all([consumer.stop(), relay.stop()]);
for (const redis of [publisher, reader]) redis.disconnect();
await Promise.all([operator.close(), recorder.close()]);
await sandbox.stop();
