// Every read of the API, with parameters that differ from call to call: for the times at a million runs, and for the
// plans that Postgres makes of them.
import { createHash } from 'node:crypto';
import {
  DrillRepository, PositionRepository, findArtifact, findOwner, listArtifacts, listDatabaseItems, listDrills, listEvaluations, listEventsAfter, listFileItems,
  listKubernetesEvents, listRunEvents, listStorageLocations, listSuiteEvents, listSuiteRuns, listSuites, parseLabelSelector, readComplete, readEvaluation,
  readOutputRange, readPositions, readQueue, readState, readStorageTotals, readSuite,
} from '../src/index.ts';
import { MOST_COUNTED, listUnfinished } from '../src/queries/redis-items.ts';
import type { Database, Queryable } from '../src/database.ts';
import { DRILLS, namespacesAt, suitesAt } from './volume.ts';

const uuid = (text: string): string => createHash('md5').update(text).digest('hex').replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
const namespaceUid = (n: number): string => uuid(`ns${n}`);

export interface Read {
  name: string;
  /** `n` is the number of the call, `runs` how many there are. */
  call: (db: Queryable, n: number, runs: number) => Promise<unknown>;
}

// The first has half of all runs, each of the others one of the rest's equal parts.
const one = (n: number, runs: number): string[] => [namespaceUid(n % namespacesAt(runs))];
const some = (n: number, runs: number): string[] => Array.from({ length: 10 }, (_, index) => namespaceUid((n + index) % namespacesAt(runs)));
/** A finished run. */
const run = (n: number, runs: number): string => uuid(`run${1 + ((n * 7919) % Math.floor(runs * 0.8))}`);
const suite = (n: number, runs: number): string => uuid(`suite${1 + ((n * 7919) % suitesAt(runs))}`);
const selector = (text: string) => ({ labels: parseLabelSelector(text) });

export const READS: Read[] = [
  { name: 'list: one namespace', call: (db, n, runs) => listEvaluations(db, one(n, runs), {}) },
  { name: 'list: ten namespaces', call: (db, n, runs) => listEvaluations(db, some(n, runs), {}) },
  { name: 'list: all, 500 a page', call: (db) => listEvaluations(db, 'all', { limit: 500 }) },
  { name: 'list: far down, by cursor', call: (db, n, runs) => listEvaluations(db, 'all', { cursor: farDown(n, runs) }) },
  { name: 'list: verdict NodeLost (0.1 %)', call: (db, n, runs) => listEvaluations(db, some(n, runs), { verdictClasses: ['NodeLost'] }) },
  { name: 'list: verdict that never was', call: (db) => listEvaluations(db, 'all', { verdictClasses: ['Evicted'] }) },
  { name: 'list: phase Succeeded (80 %)', call: (db, n, runs) => listEvaluations(db, one(n, runs), { phases: ['Succeeded'] }) },
  { name: 'list: phase Running (40 runs)', call: (db) => listEvaluations(db, 'all', { phases: ['Running'] }) },
  { name: 'list: label team (10 %)', call: (db, n) => listEvaluations(db, 'all', selector(`team=t${n % 10}`)) },
  { name: 'list: label suite (0.1 %)', call: (db, n) => listEvaluations(db, 'all', selector(`suite=s${n % 1000}`)) },
  { name: 'list: label and verdict', call: (db, n) => listEvaluations(db, 'all', { ...selector(`suite=s${n % 1000}`), verdictClasses: ['TimedOut'] }) },
  { name: 'list: label that is nowhere, negated', call: (db) => listEvaluations(db, 'all', selector('team notin (t0,t1,t2,t3,t4,t5,t6,t7,t8,t9)')) },
  { name: 'list: part of a name, all', call: (db, n) => listEvaluations(db, 'all', { name: `run-${n}` }) },
  { name: 'list: since, part of a name', call: (db, n, runs) => listEvaluations(db, some(n, runs), { since: new Date(Date.now() - 30 * 86_400_000), name: '99' }) },
  { name: 'owner of an id', call: (db, n, runs) => findOwner(db, run(n, runs)) },
  { name: 'state of one', call: (db, n, runs) => readState(db, run(n, runs), 'all') },
  { name: 'one evaluation', call: (db, n, runs) => readEvaluation(db, run(n, runs), 'all') },
  { name: 'complete', call: (db, n, runs) => readComplete(db, {}, run(n, runs), 'all') },
  { name: 'storage locations', call: (db, n, runs) => listStorageLocations(db, {}, run(n, runs), 'all') },
  { name: 'events of one', call: (db, n, runs) => listRunEvents(db, run(n, runs), 'all') },
  { name: 'what Kubernetes told of one', call: (db, n, runs) => listKubernetesEvents(db, run(n, runs), 'all') },
  { name: 'events after a position, all', call: (db, n, runs) => listEventsAfter(db, ((n * 7919) % runs) * 5, 'all') },
  { name: 'events after a position, one namespace', call: (db, n, runs) => listEventsAfter(db, ((n * 7919) % runs) * 5, one(n, runs)) },
  { name: 'events after a position, for the relay and the feed', call: (db, n, runs) => new PositionRepository(db).after(((n * 7919) % runs) * 5) },
  { name: 'event at a position', call: (db, n, runs) => new PositionRepository(db).at(1 + ((n * 7919) % Math.floor(runs * 0.8)) * 5) },
  { name: 'output range', call: (db, n, runs) => readOutputRange(db, { uid: run(n, runs) }, 'stdout', 'all', { offset: 10, length: 20 }) },
  { name: 'artifacts of one', call: (db, n, runs) => listArtifacts(db, { uid: run(n, runs) }, 'all') },
  { name: 'artifact by path', call: (db, n, runs) => findArtifact(db, { uid: run(n, runs) }, 'out/result.json', 'all') },
  { name: 'queue: one namespace', call: (db, n, runs) => readQueue(db, one(n, runs)) },
  { name: 'queue: all', call: (db) => readQueue(db, 'all') },
  { name: 'positions of all that wait', call: (db) => readPositions(db) },
  { name: 'storage totals', call: (db) => readStorageTotals(db, undefined, 'all') },
  { name: 'storage totals, with keys in Redis', call: (db, n, runs) => listUnfinished(db, some(n, runs), { limit: MOST_COUNTED }) },
  { name: 'explorer: redis', call: (db, n, runs) => listUnfinished(db, one(n, runs), { limit: 200 }) },
  { name: 'explorer: redis, all', call: (db) => listUnfinished(db, 'all', { limit: 200 }) },
  { name: 'suites: one namespace', call: (db, n, runs) => listSuites(db, one(n, runs)) },
  { name: 'suites: all, part of a name', call: (db, n) => listSuites(db, 'all', { name: `suite-${n}`, limit: 500 }) },
  { name: 'one suite', call: (db, n, runs) => readSuite(db, 'all', suite(n, runs)) },
  { name: 'runs of a suite', call: (db, n, runs) => listSuiteRuns(db, 'all', suite(n, runs)) },
  { name: 'events of a suite', call: (db, n, runs) => listSuiteEvents(db, 'all', suite(n, runs)) },
  { name: 'drills', call: (db) => listDrills(db, { limit: 200 }) },
  { name: 'drills: of a class, full', call: (db, n) => listDrills(db, { runtimeClass: `class-${1 + (n % 2)}`, kind: 'full' }) },
  { name: 'one drill', call: (db, n) => new DrillRepository(db as Database).get(uuid(`drill${1 + (n % DRILLS)}`)) },
  { name: 'explorer: database', call: (db, n, runs) => listDatabaseItems(db, some(n, runs)) },
  { name: 'explorer: files', call: (db, n, runs) => listFileItems(db, some(n, runs)) },
  { name: 'explorer: files, all', call: (db) => listFileItems(db, 'all') },
];

/** As a list would have given it, some months ago. */
function farDown(n: number, runs: number): string {
  const days = 100 + (n % 200);
  return Buffer.from(`${(Date.now() - days * 86_400_000) * 1000}/${run(n, runs)}`).toString('base64url');
}
