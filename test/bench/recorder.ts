/**
 * How fast output gets into the record, beside `kubectl logs` into a file: the same pods, bytes and servers in the same run,
 * alternating three times. And how long the record trails the last byte:
 * `node test/bench/recorder.ts [--pods=8] [--mebibytes=5] [--line=100] [--steady=150]`. Exit code 1 when something asked for is missed.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, statSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setTimeout as pause } from 'node:timers/promises';
import { kubeBinary } from '../integration/kubernetes.ts';
import { frames } from './kwok.ts';
import { NAMESPACE, each, startRecorderRig } from './recorder-rig.ts';
import type { BenchPod, RecorderRig } from './recorder-rig.ts';
import { holds, median, print, quantile } from './table.ts';
import type { Measure } from './table.ts';

const { values: flags } = parseArgs({
  options: { pods: { type: 'string', default: '8' }, mebibytes: { type: 'string', default: '4.5' }, steady: { type: 'string', default: '150' }, line: { type: 'string', default: '100' } },
});
const PODS = Number(flags.pods);
const MEBIBYTE = 2 ** 20;
/** In lines of a hundred bytes; 4.5 MiB of them are close to the 8 MiB that a launcher emits at most, for each line costs it 64 more. */
const OUTPUT = Number(flags.mebibytes) * MEBIBYTE;
const LINE = Number(flags.line);
const STEADY = Number(flags.steady);
const PER_SECOND = 10;
const STEADY_BYTES = 64 * 1024;
const ROUNDS = 3;
const POLL_MS = 10;
const LIMIT_MS = 300_000;

const groups = { ...Object.fromEntries(Array.from({ length: ROUNDS }, (_, round) => [`round${round}`, PODS])), steady: STEADY, 'warm-up': 2 };


async function until(what: string, holdsNow: () => Promise<boolean> | boolean): Promise<void> {
  for (const begun = performance.now(); !(await holdsNow()); await pause(POLL_MS))
    if (performance.now() - begun > LIMIT_MS) throw new Error(`not within ${LIMIT_MS / 1000} s: ${what}`);
}

/** Content bytes per second, from the moment that the containers are said to run to the last byte in Postgres. */
async function followed(rig: RecorderRig, pods: readonly BenchPod[], bytes: number): Promise<number> {
  const begun = performance.now();
  await each(pods, (pod) => rig.say(pod, 'running'));
  await until('everything stored', async () => (await rig.storedBytes(pods)) >= bytes);
  return bytes / ((performance.now() - begun) / 1000);
}

/** The same of one `kubectl logs` that follows them all into a file, from its first byte on: its start is not counted. */
async function kubectl(rig: RecorderRig, group: string, logBytes: number, bytes: number): Promise<number> {
  const file = join(tmpdir(), `crucible-bench-${process.pid}.log`);
  const out = openSync(file, 'w');
  const args = ['kubectl', `--kubeconfig=${rig.kubeconfig}`, '-n', NAMESPACE, 'logs', '--follow', `--selector=group=${group}`, '--tail=-1', `--max-log-requests=${PODS}`];
  const child = spawn(kubeBinary(), args, { stdio: ['ignore', out, 'inherit'] });
  closeSync(out);
  try {
    const size = (): number => statSync(file).size;
    await until('a first byte from kubectl', () => size() > 0);
    const begun = performance.now();
    await until('all bytes from kubectl', () => size() >= logBytes);
    return bytes / ((performance.now() - begun) / 1000);
  } finally {
    child.kill('SIGKILL');
    unlinkSync(file);
  }
}

/** Everything is read a second time, compared and closed, as what following has not seen whole. */
async function ended(rig: RecorderRig, pods: readonly BenchPod[], bytes: number): Promise<number> {
  const begun = performance.now();
  await each(pods, (pod) => rig.say(pod, 'replaced'));
  await rig.captured(pods);
  return bytes / ((performance.now() - begun) / 1000);
}

async function compare(rig: RecorderRig): Promise<Measure[]> {
  const lines = frames(OUTPUT, LINE);
  const logBytes = PODS * lines.reduce((sum, { length }) => sum + length, 0);
  const bytes = PODS * Math.ceil(OUTPUT / LINE) * LINE;
  const rates = { kubectl: [] as number[], recorder: [] as number[], final: [] as number[] };
  for (let round = 0; round < ROUNDS; round += 1) {
    const group = `round${round}`;
    const pods = rig.pods.filter((pod) => pod.group === group);
    for (const pod of pods) rig.write(pod, lines);
    await rig.create(pods);
    const theirs = async (): Promise<unknown> => rates.kubectl.push(await kubectl(rig, group, logBytes, bytes));
    if (round % 2 === 0) await theirs();
    rates.recorder.push(await followed(rig, pods, bytes));
    if (round % 2 === 1) await theirs();
    rates.final.push(await ended(rig, pods, bytes));
    const [a, b, c] = [rates.kubectl, rates.recorder, rates.final].map((values) => (values.at(-1)! / MEBIBYTE).toFixed(1));
    console.log(`  round ${round + 1}: kubectl ${a} MiB/s, recorder ${b} MiB/s, final reading ${c} MiB/s`);
  }
  const [theirs, ours, final] = [rates.kubectl, rates.recorder, rates.final].map((values) => median(values) / MEBIBYTE) as [number, number, number];
  return [
    { name: `kubectl logs into a file, ${PODS} pods at once (median of 3)`, value: theirs, unit: 'MiB/s' },
    { name: `one recorder into Postgres, ${PODS} pods at once (median of 3)`, value: ours, unit: 'MiB/s' },
    { name: 'recorder for each byte of kubectl', value: ours / theirs, unit: '', atLeast: 0.7 },
    { name: 'final reading, compared and closed (median of 3)', value: final, unit: 'MiB/s' },
  ];
}

/** Runs that end one after the other: from the last byte in the log to the capture in the record. */
async function lag(rig: RecorderRig): Promise<Measure[]> {
  const pods = rig.pods.filter((pod) => pod.group === 'steady');
  const all = frames(STEADY_BYTES);
  const [early, late] = [all.slice(0, -10), all.slice(-10)];
  for (const pod of pods) rig.write(pod, early);
  await rig.create(pods);
  const lastByte = new Map<BenchPod, number>();
  const ends: Promise<void>[] = [];
  for (const pod of pods) {
    await pause(1000 / PER_SECOND);
    ends.push((async () => {
      await rig.say(pod, 'running');
      await pause(1000);
      rig.write(pod, late);
      lastByte.set(pod, performance.now());
      await rig.say(pod, 'ended');
    })());
  }
  await Promise.all(ends);
  await rig.captured(pods);
  const lags = pods.map((pod) => pod.capturedAt! - lastByte.get(pod)!);
  return [
    { name: `last byte to captured, ${PER_SECOND} runs ending a second, p50`, value: quantile(lags, 0.5), unit: 'ms' },
    { name: `last byte to captured, ${PER_SECOND} runs ending a second, p99`, value: quantile(lags, 0.99), unit: 'ms', atMost: 1000 },
  ];
}

async function main(): Promise<void> {
  const rig = await startRecorderRig(groups);
  const measures: Measure[] = [];
  try {
    const warm = rig.pods.filter((pod) => pod.group === 'warm-up');
    for (const pod of warm) rig.write(pod, frames(OUTPUT, LINE));
    await rig.create(warm);
    await followed(rig, warm, OUTPUT);
    await ended(rig, warm, OUTPUT);
    measures.push(...(await compare(rig)), ...(await lag(rig)));
    measures.push({ name: "recorder's memory after it", value: (await rig.metrics()).get('process_resident_memory_bytes')! / MEBIBYTE, unit: 'MiB' });
  } finally {
    await rig.stop();
  }
  print(`recorder: ${PODS} pods of ${flags.mebibytes} MiB each, logs served by kwok with the kubelet's code`, measures);
  process.exitCode = measures.every(holds) ? 0 : 1;
}

await main();
