/**
 * How fast evaluations go through Crucible, beside raw Jobs with the same pods on the same servers in the same run:
 * `node test/bench/operator.ts [--evaluations=200] [--queued=10000] [--code-kib=0] [--rates=10,5] [--crowds=100,1000]
 * [--only=compare|steady|growth|unlimited|queued]`.
 * Exit code 1 when something asked for is missed.
 */
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { NAMESPACE, RUNTIME, startRig } from './rig.ts';
import type { Rig } from './rig.ts';
import { holds, median, print, quantile } from './table.ts';
import type { Measure } from './table.ts';
import { watch } from './watch.ts';
import type { WatchedObject } from './watch.ts';

const { values: flags } = parseArgs({
  options: {
    evaluations: { type: 'string', default: '200' },
    queued: { type: 'string', default: '10000' },
    'code-kib': { type: 'string', default: '0' },
    rates: { type: 'string', default: '10' },
    crowds: { type: 'string', default: '100,1000' },
    only: { type: 'string', multiple: true, default: ['compare', 'steady', 'growth', 'unlimited', 'queued'] },
  },
});
const COUNT = Number(flags.evaluations);
const QUEUED = Number(flags.queued);
/** Of each of them; 0: a line. */
const CODE_KIB = Number(flags['code-kib']);
/** The first one is what is asked about; the others stand beside it. */
const RATES = flags.rates.split(',').map(Number);
const wanted = (part: string): boolean => flags.only.includes(part);
const ROUNDS = 3;
const CREATORS = 16;
const STEADY_SECONDS = 30;
/** At the rate, before what is counted: what the hundred at once left for the controllers is done by then, and code is compiled. */
const LEAD_IN_SECONDS = 10;
const IDLE_SECONDS = 20;
/** By then what is compiled while it runs is compiled, and connections are there. */
const WARM_UPS = 100;
/** At once, to see whether one of many costs what one of few does. */
const CROWDS = flags.crowds.split(',').map(Number);
const LIMIT_SECONDS = 1800;
/** So that raw Jobs come to eight a second, and ten a second do not wait for the controllers. */
const RAISED = 75;
/** Of requests in so many seconds: a lease, perhaps a watch. */
const QUIET = { requests: 4, seconds: 2 };
/** What the two cores can do, rather than what the controllers may. */
const UNLIMITED = 500;
const EVALUATIONS = `/apis/crucible.dev/v1alpha1/namespaces/${NAMESPACE}/evaluations`;
const JOBS = `/apis/batch/v1/namespaces/${NAMESPACE}/jobs`;
const PODS = `/api/v1/namespaces/${NAMESPACE}/pods`;

type Json = Record<string, any>;

const evaluation = (name: string, code = 'print("played")'): Json => ({
  apiVersion: 'crucible.dev/v1alpha1',
  kind: 'Evaluation',
  metadata: { name },
  spec: { runtime: RUNTIME, code },
});
const conditionIs = (object: WatchedObject, type: string): boolean =>
  (object.status?.['conditions'] ?? []).some((condition: { type: string; status: string }) => condition.type === type && condition.status === 'True');

/** Finished, and well: a run that fails early would be quick. */
function succeeded(one: WatchedObject): boolean {
  if (conditionIs(one, 'Failed')) throw new Error(`${one.metadata.name} failed: ${JSON.stringify(one.status?.['verdict'])}`);
  return conditionIs(one, 'Finished');
}

/** When each name was first seen so. */
class Sightings {
  readonly #seen = new Map<string, number>();
  readonly #waiters = new Map<number, () => void>();

  see(name: string): void {
    if (this.#seen.has(name)) return;
    this.#seen.set(name, performance.now());
    this.#waiters.get(this.#seen.size)?.();
  }

  at(name: string): number | undefined {
    return this.#seen.get(name);
  }

  async count(count: number, what: string): Promise<void> {
    if (this.#seen.size >= count) return;
    const late = AbortSignal.timeout(LIMIT_SECONDS * 1000);
    await new Promise<void>((resolve, reject) => {
      this.#waiters.set(count, resolve);
      late.addEventListener('abort', () => reject(new Error(`${this.#seen.size} of ${count} ${what} after ${LIMIT_SECONDS} s`)));
    });
  }
}

async function createAll(rig: Rig, path: string, objects: readonly Json[]): Promise<void> {
  const left = objects.values();
  const work = async (): Promise<void> => {
    for (const object of left) await must(rig, path, object);
  };
  await Promise.all(Array.from({ length: CREATORS }, work));
}

async function must(rig: Rig, path: string, object: Json): Promise<void> {
  const { status, body } = await rig.api.create(path, object);
  if (status >= 300) throw new Error(`${path}: ${body['message']}`);
}

/** Per second, from the first creation to the last end. */
async function throughput(rig: Rig, path: string, objects: readonly Json[], end: (object: WatchedObject) => boolean): Promise<number> {
  const names = new Set(objects.map((object) => object['metadata'].name as string));
  const ended = new Sightings();
  const stop = await watch(rig.kubeconfig, path, (object) => names.has(object.metadata.name) && end(object) && ended.see(object.metadata.name));
  const begun = performance.now();
  await createAll(rig, path, objects);
  await ended.count(objects.length, 'finished');
  stop();
  return objects.length / ((performance.now() - begun) / 1000);
}

/** A Job of nobody's with the pod of one of ours. */
async function rawJob(rig: Rig): Promise<(name: string) => Json> {
  const { body } = await rig.api.get(JOBS);
  const { spec } = body['items'][0].spec.template as Json;
  return (name) => ({
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name },
    spec: { backoffLimit: 0, ttlSecondsAfterFinished: 300, template: { metadata: { labels: { raw: 'true' } }, spec } },
  });
}

/** Requests to the API server of operator and recorder so far; a watch or a followed log is one. */
async function requests(rig: Rig): Promise<number> {
  const all = await Promise.all([rig.metrics('operator'), rig.metrics('recorder')]);
  const series = all.flatMap((metrics) => [...metrics].filter(([name]) => name.startsWith('crucible_kube_requests_total')));
  if (process.env['BENCH_VERBOSE']) console.log(series.map(([name, value]) => `${name} ${value}`).join('\n'));
  return series.reduce((sum, [, value]) => sum + value, 0);
}

/** What runs leave is cleaned up after their status says how they ended, behind whatever is still to begin, and counts. */
async function cleanedUp(rig: Rig): Promise<void> {
  for (let [before, now] = [0, await requests(rig)]; now - before > QUIET.requests; ) {
    await sleep(QUIET.seconds * 1000);
    [before, now] = [now, await requests(rig)];
  }
}

async function reconciles(rig: Rig): Promise<number> {
  const series = [...(await rig.metrics('operator'))].filter(([name]) => /^controller_runtime_reconcile_total\{.*controller="evaluation"/.test(name));
  return series.reduce((sum, [, value]) => sum + value, 0);
}

async function compare(rig: Rig): Promise<Measure[]> {
  const raw = await rawJob(rig);
  const rates = { raw: [] as number[], ours: [] as number[] };
  const calls: number[] = [];
  let cpu: Record<keyof typeof rates, Map<string, number>> | undefined;
  for (let round = 0; round < ROUNDS; round += 1) {
    const numbers = Array.from({ length: COUNT }, (_, index) => `${round}-${index}`);
    const start = rig.cpuSeconds();
    rates.raw.push(await throughput(rig, JOBS, numbers.map((number) => raw(`raw-${number}`)), (job) => conditionIs(job, 'Complete')));
    const between = rig.cpuSeconds();
    const before = await requests(rig);
    rates.ours.push(await throughput(rig, EVALUATIONS, numbers.map((number) => evaluation(`ours-${number}`)), succeeded));
    await cleanedUp(rig);
    calls.push(((await requests(rig)) - before) / COUNT);
    cpu = { raw: spent(start, between, COUNT), ours: spent(between, rig.cpuSeconds(), COUNT) };
    console.log(`  round ${round + 1}: raw ${rates.raw.at(-1)!.toFixed(1)}/s, evaluations ${rates.ours.at(-1)!.toFixed(1)}/s`);
  }
  console.log('  CPU milliseconds for each raw Job and each evaluation, last round:');
  for (const [name, raw] of cpu!.raw) console.log(`    ${name.padEnd(24)} ${raw.toFixed(1).padStart(6)} ${cpu!.ours.get(name)!.toFixed(1).padStart(6)}`);
  return [
    { name: 'raw Jobs, to Complete (median of 3)', value: median(rates.raw), unit: '/s', atLeast: 8 },
    { name: 'evaluations, to Finished (median of 3)', value: median(rates.ours), unit: '/s' },
    { name: 'evaluations for each raw Job', value: median(rates.ours) / median(rates.raw), unit: '', atLeast: 0.8 },
    { name: `requests to the API server, each of ${COUNT} evaluations`, value: median(calls), unit: '', atMost: 8 },
  ];
}

/** Milliseconds for each of `count`. */
function spent(before: Map<string, number>, after: Map<string, number>, count: number): Map<string, number> {
  return new Map([...after].map(([name, seconds]) => [name, ((seconds - before.get(name)!) * 1000) / count]));
}

/** At a steady rate, what Crucible itself adds to the way of one evaluation. */
async function latencies(rig: Rig, perSecond: number): Promise<Measure[]> {
  const created = new Map<string, number>();
  const [job, podEnd, end] = [new Sightings(), new Sightings(), new Sightings()];
  const ofEvaluation = (object: WatchedObject): string => object.metadata.labels?.['crucible.dev/evaluation'] ?? '';
  const stops = await Promise.all([
    watch(rig.kubeconfig, JOBS, (object) => job.see(ofEvaluation(object)), (line) => line.startsWith('{"type":"ADDED"')),
    watch(rig.kubeconfig, PODS, (object) => object.status?.['phase'] === 'Succeeded' && podEnd.see(ofEvaluation(object)), (line) => line.includes('"Succeeded"')),
    watch(rig.kubeconfig, EVALUATIONS, (object) => created.has(object.metadata.name) && conditionIs(object, 'Finished') && end.see(object.metadata.name), (line) => line.includes('"Finished"')),
  ]);
  const names = Array.from({ length: perSecond * (LEAD_IN_SECONDS + STEADY_SECONDS) }, (_, index) => `steady-${perSecond}-${index}`);
  const creating: Promise<void>[] = [];
  const before = { cpu: rig.cpuSeconds(), own: process.cpuUsage(), requests: await requests(rig), reconciles: await reconciles(rig) };
  const begun = performance.now();
  for (const [index, name] of names.entries()) {
    await sleep(Math.max(0, begun + ((index + 1) * 1000) / perSecond - performance.now()));
    created.set(name, performance.now());
    creating.push(must(rig, EVALUATIONS, evaluation(name)));
  }
  await Promise.all(creating);
  await end.count(names.length, 'finished');
  const seconds = (performance.now() - begun) / 1000;
  for (const stop of stops) stop();
  await cleanedUp(rig);
  const own = process.cpuUsage(before.own);
  const cpu = spent(before.cpu, rig.cpuSeconds(), names.length);
  const busy = [...cpu.values()].reduce((sum, one) => sum + one, 0);
  console.log(`  at ${perSecond}/s, CPU milliseconds each: ${[...cpu].map(([name, each]) => `${name} ${each.toFixed(1)}`).join(', ')}; the benchmark ${((own.user + own.system) / 1000 / names.length).toFixed(1)}`);
  const counted = names.slice(perSecond * LEAD_IN_SECONDS);
  const between = (from: (name: string) => number | undefined, to: Sightings): number[] => counted.map((name) => to.at(name)! - from(name)!);
  const toJob = between((name) => created.get(name), job);
  const toEnd = between((name) => podEnd.at(name), end);
  const asked = perSecond === RATES[0];
  const at = `at ${perSecond}/s`;
  return [
    { name: `${at}: created to Job seen, p50`, value: quantile(toJob, 0.5), unit: 'ms' },
    { name: `${at}: created to Job seen, p99`, value: quantile(toJob, 0.99), unit: 'ms', ...(asked && { atMost: 250 }) },
    { name: `${at}: pod ended to status Finished seen, p50`, value: quantile(toEnd, 0.5), unit: 'ms' },
    { name: `${at}: pod ended to status Finished seen, p99`, value: quantile(toEnd, 0.99), unit: 'ms', ...(asked && { atMost: 1000 }) },
    { name: `${at}: processor, each`, value: busy, unit: 'ms' },
    { name: `${at}: processor, of ${availableParallelism()} cores`, value: ((busy * names.length) / 10 / seconds) / availableParallelism(), unit: '%' },
    { name: `${at}: requests to the API server, each`, value: ((await requests(rig)) - before.requests) / names.length, unit: '' },
    { name: `${at}: reconciles, each`, value: ((await reconciles(rig)) - before.reconciles) / names.length, unit: '' },
  ];
}

/** With no node left, all but the first wait. */
async function queued(): Promise<Measure[]> {
  const rig = await startRig({ maxConcurrent: 1, outputBytes: 100, controllerRequestsPerSecond: UNLIMITED });
  try {
    await rig.stopNodes();
    const waiting = new Sightings();
    const stop = await watch(rig.kubeconfig, EVALUATIONS, (object) => object.status?.['phase'] !== undefined && waiting.see(object.metadata.name));
    const begun = performance.now();
    const code = CODE_KIB === 0 ? undefined : '#'.repeat(CODE_KIB * 1024 - 1);
    await createAll(rig, EVALUATIONS, Array.from({ length: QUEUED }, (_, index) => evaluation(`queued-${index}`, code)));
    await waiting.count(QUEUED, 'have a status');
    const seconds = (performance.now() - begun) / 1000;
    stop();
    await sleep(5000);
    const before = await rig.metrics('operator');
    await sleep(IDLE_SECONDS * 1000);
    const after = await rig.metrics('operator');
    const cpu = after.get('process_cpu_seconds_total')! - before.get('process_cpu_seconds_total')!;
    const most = rig.mostMemory('operator');
    await rig.restartOperator();
    await sleep((IDLE_SECONDS * 1000) / 2);
    return [
      { name: `${QUEUED} created, each with a status`, value: seconds, unit: 's' },
      { name: `operator's memory with ${QUEUED} queued`, value: after.get('process_resident_memory_bytes')! / 2 ** 20, unit: 'MiB', atMost: 300 },
      { name: `operator's memory while they were created, at most`, value: most / 2 ** 20, unit: 'MiB' },
      { name: `operator's memory after a restart with ${QUEUED} queued, at most`, value: rig.mostMemory('operator') / 2 ** 20, unit: 'MiB' },
      { name: `operator's CPU with ${QUEUED} queued, idle`, value: (cpu / IDLE_SECONDS) * 100, unit: '%', atMost: 2 },
    ];
  } finally {
    await rig.stop();
  }
}

async function onRig(controllerRequestsPerSecond: number, work: (rig: Rig) => Promise<Measure[]>): Promise<Measure[]> {
  console.log(`  controllers may send ${controllerRequestsPerSecond} requests a second:`);
  const rig = await startRig({ maxConcurrent: 100_000, outputBytes: 1000, controllerRequestsPerSecond });
  try {
    await throughput(rig, EVALUATIONS, Array.from({ length: WARM_UPS }, (_, index) => evaluation(`warm-up-${index}`)), succeeded);
    return await work(rig);
  } finally {
    await rig.stop();
  }
}

/** What each costs when more of them wait and run at once. */
async function growth(rig: Rig): Promise<Measure[]> {
  const measures: Measure[] = [];
  for (const count of CROWDS) {
    const before = { cpu: rig.cpuSeconds(), requests: await requests(rig) };
    const objects = Array.from({ length: count }, (_, index) => evaluation(`crowd-${count}-${index}`));
    const rate = await throughput(rig, EVALUATIONS, objects, succeeded);
    console.log(`  of ${count} at once: ${rate.toFixed(1)}/s`);
    await cleanedUp(rig);
    const cpu = [...spent(before.cpu, rig.cpuSeconds(), count).values()].reduce((sum, one) => sum + one, 0);
    measures.push(
      { name: `of ${count} at once: evaluations to Finished`, value: rate, unit: '/s' },
      { name: `of ${count} at once: processor, each`, value: cpu, unit: 'ms' },
      { name: `of ${count} at once: requests to the API server, each`, value: ((await requests(rig)) - before.requests) / count, unit: '' },
    );
  }
  return measures;
}

async function steady(rig: Rig): Promise<Measure[]> {
  const measures: Measure[] = [];
  for (const rate of RATES) measures.push(...(await latencies(rig, rate)));
  return measures;
}

async function main(): Promise<void> {
  const measures: Measure[] = [];
  // Latencies first: servers that have just had hundreds of Jobs are slower for a while, and two cores have no room for it.
  const parts = Object.entries({ steady, compare, growth }).filter(([name]) => wanted(name));
  const inTurn = async (rig: Rig): Promise<Measure[]> => {
    const all: Measure[] = [];
    for (const [, part] of parts) all.push(...(await part(rig)));
    return all;
  };
  if (parts.length > 0) measures.push(...(await onRig(RAISED, inTurn)));
  // For the record: there the API server is what is measured.
  if (wanted('unlimited'))
    measures.push(...(await onRig(UNLIMITED, compare)).map(({ name, value, unit }) => ({ name: `controllers unlimited: ${name}`, value, unit })));
  if (wanted('queued') && QUEUED > 0) measures.push(...(await queued()));
  print(`operator: ${COUNT} at once, pods played by kwok, output captured by the recorder`, measures);
  process.exitCode = measures.every(holds) ? 0 : 1;
}

await main();
