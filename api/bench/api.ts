/**
 * Requests a second and their times, for the five busiest routes of the built API, beside bare Fastify routes with the same
 * statements (raw.ts) on the same servers in the same run, alternating; and the memory of 2,000 waiting event streams:
 * `node api/bench/api.ts [--runs=100000] [--clients=2000] [--seconds=3] [--only=routes|streams]`. Exit code 1 when something asked for is missed.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createPostgres } from '../../test/integration/postgres.ts';
import { startKubernetes } from '../../test/integration/kubernetes.ts';
import { Sandbox, freePort } from '../../test/integration/processes.ts';
import { startRedis } from '../../test/integration/redis.ts';
import { holds, median, print, quantile, type Measure } from '../../test/bench/table.ts';
import { fillVolume } from '../../storage/bench/volume.ts';
import { World } from '../src/testing/world.ts';
import { load, type Load, type Target } from './load.ts';
import { measureStreams } from './streams.ts';

const { values: flags } = parseArgs({
  options: {
    runs: { type: 'string', default: '100000' }, clients: { type: 'string', default: '2000' }, seconds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
  },
});
const RUNS = Number(flags.runs);
const SECONDS = Number(flags.seconds);
const ROUNDS = 3;
const CONNECTIONS = 16;
/** Before a route is measured: V8 takes some ten thousand requests to compile what one runs through, the bare server's and ours. */
const WARM_REQUESTS = 20_000;
const WARM_SECONDS_AT_MOST = 12;
const SHARE = 0.6;
const NAMESPACES = 20;
/** As in deploy/docker/api.Dockerfile. */
const NODE_OPTIONS = '--max-semi-space-size=4';

const uuid = (text: string): string => createHash('md5').update(text).digest('hex').replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
/** A finished run of the first namespace, which has every other one. */
const run = (n: number): string => uuid(`run${2 + 2 * ((n * 7919) % Math.floor(RUNS * 0.4))}`);

const ROUTES: [string, (n: number) => string][] = [
  ['status', (n) => `/api/eval-status/${run(n)}`],
  ['list, 50 a page', () => '/api/evaluations?namespace=team-0'],
  ['one evaluation', (n) => `/api/evaluations/${run(n)}`],
  ['complete', (n) => `/api/evaluations/${run(n)}/complete`],
  ['output', (n) => `/api/evaluations/${run(n)}/output/stdout`],
];

const sandbox = new Sandbox();
const bareServers: ChildProcess[] = [];
process.once('exit', () => sandbox.kill());
for (const [signal, status] of [['SIGINT', 130], ['SIGTERM', 143]] as const) process.once(signal, () => process.exit(status));
const postgres = await createPostgres(sandbox, { synchronous_commit: 'off', shared_buffers: '512MB', max_wal_size: '8GB', autovacuum: 'off' });
const [kubeconfig, dsn, redis] = await Promise.all([startKubernetes(sandbox), postgres.start(), startRedis(sandbox)]);
if (redis === undefined) throw new Error('there is no Redis here: apt-get install redis-server (or valkey-server)');
Object.assign(process.env, { CRUCIBLE_TEST_KUBECONFIG: kubeconfig, CRUCIBLE_TEST_POSTGRES: dsn, CRUCIBLE_TEST_REDIS: redis, NODE_ENV: 'production' });

const world = await World.start();
const { cluster } = world;
const uids: string[] = [];
for (let n = 0; n < NAMESPACES; n += 1) uids.push(await cluster.makeNamespace(`team-${n}`));
const begun = performance.now();
await fillVolume(world.dsns.owner, RUNS, { namespaceUids: uids });
console.log(`${RUNS} runs made in ${((performance.now() - begun) / 1000).toFixed(0)} s; load ${loadavg()[0]?.toFixed(1)}`);
const token = await cluster.person('bench', 'reader', 'team-0');

// As the chart and the image have it; the tests' own look at the certificate is quicker, and their answers are checked.
const DEPLOYED = { CRUCIBLE_CHECK_ANSWERS: 'false', CRUCIBLE_TLS_POLL_SECONDS: '5', NODE_OPTIONS: process.env['BENCH_NODE_OPTIONS'] ?? NODE_OPTIONS };
const api = await world.api(DEPLOYED);
const ours: Target = { port: api.port, ca: api.ca, token, pid: api.child.pid as number };
const bare = { ...ours, ...(await startBare()) };
const measures: Measure[] = [];
for (const [name, path] of flags.only === 'streams' ? [] : ROUTES) measures.push(...(await compare(name, path)));
if (flags.only !== 'routes') {
  const reader = await cluster.person('streams', 'reader', cluster.evals);
  measures.push(...(await measureStreams(world, { ...ours, ...(await startBare()) }, reader, Number(flags.clients), DEPLOYED)));
}
await api.stop();
for (const child of bareServers) child.kill('SIGKILL');
print(`The API at ${RUNS} runs, ${CONNECTIONS} connections over TLS; load at the end ${loadavg()[0]?.toFixed(1)}`, measures);
await world.stop();
await sandbox.stop();
process.exit(measures.every(holds) ? 0 : 1);

async function startBare(): Promise<{ port: number; pid: number }> {
  const port = await freePort();
  const env = { DSN: world.dsns.api, CERT: world.tls.cert, KEY: world.tls.key, PORT: String(port), NAMESPACE_UID: uids[0] as string };
  const child = spawn(process.execPath, [join(import.meta.dirname, 'raw.ts')], { env: { ...process.env, ...env }, stdio: ['ignore', 'inherit', 'inherit'] });
  bareServers.push(child);
  process.once('exit', () => child.kill('SIGKILL'));
  const target = { ...ours, port };
  await api.until('the bare server', () => load(target, () => '/healthz', 1, 0.01).then(() => true, () => false));
  return { port, pid: child.pid as number };
}

async function compare(name: string, path: (n: number) => string): Promise<Measure[]> {
  const rounds: { bare: Load; ours: Load }[] = [];
  for (const target of [bare, ours]) await load(target, path, CONNECTIONS, WARM_SECONDS_AT_MOST, WARM_REQUESTS);
  for (let round = 0; round < ROUNDS; round += 1)
    rounds.push({ bare: await load(bare, path, CONNECTIONS, SECONDS), ours: await load(ours, path, CONNECTIONS, SECONDS) });
  const of = (kind: 'bare' | 'ours', value: (load: Load) => number): number => median(rounds.map((round) => value(round[kind])));
  const p99 = (kind: 'bare' | 'ours'): number => quantile(rounds.flatMap((round) => round[kind].milliseconds), 0.99);
  return [
    { name: `${name}: bare Fastify`, value: of('bare', ({ perSecond }) => perSecond), unit: '/s' },
    { name: `${name}: the API`, value: of('ours', ({ perSecond }) => perSecond), unit: '/s' },
    { name: `${name}: share of bare`, value: median(rounds.map((round) => round.ours.perSecond / round.bare.perSecond)), unit: '', atLeast: SHARE },
    { name: `${name}: p99 bare`, value: p99('bare'), unit: 'ms' },
    { name: `${name}: p99 the API`, value: p99('ours'), unit: 'ms' },
    { name: `${name}: processor a request, bare`, value: of('bare', ({ cpuMilliseconds }) => cpuMilliseconds), unit: 'ms' },
    { name: `${name}: processor a request, the API`, value: of('ours', ({ cpuMilliseconds }) => cpuMilliseconds), unit: 'ms' },
  ];
}
