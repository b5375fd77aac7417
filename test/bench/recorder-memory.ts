/**
 * What a thousand logs followed at once, and then ended at once, cost the recorder in memory:
 * `node test/bench/recorder-memory.ts [--pods=1000]`. Exit code 1 when it is more than its container may have.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { frames } from './kwok.ts';
import { each, startRecorderRig } from './recorder-rig.ts';
import { holds, print } from './table.ts';
import type { Measure } from './table.ts';

const { values: flags } = parseArgs({ options: { pods: { type: 'string', default: '1000' } } });
const PODS = Number(flags.pods);
const BYTES = 64 * 1024;
/** The container's limit. */
const MOST_MEBIBYTES = 512;
/** What Node.js sets by itself in a container of that size; a machine with plenty has V8 wait longer before it collects. */
const V8 = ['--max-old-space-size=256', '--max-semi-space-size=4'];
/** As the chart. */
const ENVIRONMENT = { MALLOC_MMAP_THRESHOLD_: '32768' };
const POLL_MS = 500;
const LIMIT_MS = 300_000;
const MEBIBYTE = 2 ** 20;

/** Of the kernel: what it held at most since it began. */
function peakMebibytes(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

const rig = await startRecorderRig({ followed: PODS }, { node: 'files', maxFollows: PODS, v8: V8, environment: ENVIRONMENT });
const measures: Measure[] = [];
try {
  const seconds = (since: number): number => (performance.now() - since) / 1000;
  for (const pod of rig.pods) rig.write(pod, frames(BYTES));
  await rig.create(rig.pods);
  const running = performance.now();
  await each(rig.pods, (pod) => rig.say(pod, 'running'));
  let metrics = await rig.metrics();
  while (metrics.get('crucible_recorder_follows')! < PODS || (await rig.storedBytes(rig.pods)) < PODS * BYTES) {
    if (performance.now() - running > LIMIT_MS) throw new Error(`after ${LIMIT_MS / 1000} s only ${metrics.get('crucible_recorder_follows')} are followed`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    metrics = await rig.metrics();
  }
  measures.push(
    { name: `${PODS} followed, ${BYTES / 1024} KiB of each stored`, value: seconds(running), unit: 's' },
    { name: 'memory meanwhile', value: metrics.get('process_resident_memory_bytes')! / MEBIBYTE, unit: 'MiB', atMost: MOST_MEBIBYTES },
  );
  measures.push({ name: 'spooled although Postgres was there', value: metrics.get('crucible_recorder_spooled_bytes_total')! / MEBIBYTE, unit: 'MiB', atMost: 0 });
  const ended = performance.now();
  await each(rig.pods, (pod) => rig.say(pod, 'ended'));
  await rig.captured(rig.pods);
  measures.push(
    { name: `${PODS} ended at once and captured`, value: seconds(ended), unit: 's' },
    { name: 'memory at most, over all of it', value: peakMebibytes(rig.recorderPid), unit: 'MiB', atMost: MOST_MEBIBYTES },
  );
} finally {
  await rig.stop();
}
print(`recorder: ${PODS} pods at once, played`, measures);
process.exitCode = measures.every(holds) ? 0 : 1;
