import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MemoryBudget } from './budget.ts';
import type { RecorderContext } from './context.ts';
import { Slots } from './slots.ts';
import { encode, encodeLines, streamOf, type Produced } from './testing/encoder.ts';
import type { TestPod } from './testing/cluster.ts';
import { FAST, sha256, World, type RunningRecorder } from './testing/world.ts';

const WRITES: Produced[] = [
  { stream: 'stdout', data: Buffer.from('one\ntwo\n') },
  { stream: 'stderr', data: Buffer.from('three\n') },
];
const FILE = { path: 'a', data: Buffer.alloc(10_000, 'artifact') };
const LINES = encodeLines(WRITES, { files: [FILE] });
const LOG = Buffer.concat(LINES);
const HALF = Buffer.concat(LINES.slice(0, 3));
const REST = Buffer.concat(LINES.slice(3));

let world: World;
let pod: TestPod;
let pods = 0;
const running: RunningRecorder[] = [];
beforeAll(async () => {
  world = await World.create();
});
beforeEach(async () => {
  pod = await world.addPod(`pod-${(pods += 1)}`);
});
afterEach(async () => {
  world.cluster.remove(pod);
  for (const recorder of running.splice(0)) await recorder.stop();
});
afterAll(() => world.close());

async function start(id: string, change: Partial<RecorderContext> = {}): Promise<RunningRecorder> {
  const recorder = await world.recorder(id, change);
  running.push(recorder);
  return recorder;
}

async function reads({ context }: RunningRecorder, read: 'follow' | 'final', end?: string): Promise<number> {
  const { values } = await context.metrics.reads.get();
  const counted = values.filter(({ labels }) => labels.read === read && (end === undefined || labels.end === end));
  return counted.reduce((sum, { value }) => sum + value, 0);
}

const storedTo = (seq: number) =>
  world.until(async () => ((await world.captures.get(pod.evaluationUid, 1))?.lastSeq === seq ? true : undefined));

async function expectWhole(): Promise<void> {
  expect(await world.captured(pod)).toMatchObject({
    complete: true,
    reason: null,
    missing: [],
    receipt: { uid: 10000 },
    summary: { exitCode: 0 },
    artifacts: { count: 1, bytes: FILE.data.length, complete: true },
  });
  for (const stream of ['stdout', 'stderr'] as const)
    expect(await world.stored(pod, stream)).toEqual(streamOf(WRITES, stream));
}

/** Followed to its last frame, then ended. */
async function play(log: Buffer = LOG, lastSeq = LINES.length): Promise<void> {
  world.cluster.setState(pod, 'running');
  pod.write(log);
  await storedTo(lastSeq);
  world.cluster.setState(pod, 'ended');
}

describe('a log is read once', () => {
  it('when its follow ends with it', async () => {
    const recorder = await start('once');
    await play();
    await expectWhole();
    expect(await recorder.context.files.has(sha256(FILE.data))).toBe(true);
    expect([pod.connections, await reads(recorder, 'follow'), await reads(recorder, 'final')]).toEqual([1, 1, 0]);
  });

  it('when its follow would never end, and is left a moment after the container', async () => {
    const recorder = await start('leaving');
    pod.mode = 'endless';
    await play();
    await expectWhole();
    expect([pod.connections, await reads(recorder, 'follow', 'left'), await reads(recorder, 'final')]).toEqual([1, 1, 0]);
  });

  it('when its follow ends before anybody is told that the container has', async () => {
    const recorder = await start('early');
    world.cluster.setState(pod, 'running');
    pod.write(LOG);
    pod.mode = 'over';
    pod.wake();
    await world.until(async () => ((await reads(recorder, 'follow', 'end')) === 1 ? true : undefined));
    // Longer than it waits before it follows again what has not ended with its last frame.
    await pause(4 * FAST.reconnectMaxMs);
    expect(pod.connections).toBe(1);
    world.cluster.setState(pod, 'ended');
    await expectWhole();
    expect([pod.connections, await reads(recorder, 'final')]).toEqual([1, 0]);
  });
});

describe('a log is read again', () => {
  it('when its follow was cut', async () => {
    let cut = false;
    pod.faults = { cutAfter: () => (cut ? undefined : ((cut = true), HALF.length)) };
    const recorder = await start('cut');
    await play();
    await expectWhole();
    expect([await reads(recorder, 'follow', 'cut'), await reads(recorder, 'final')]).toEqual([1, 1]);
  });

  it('when its follow was cut, and its pod ended while it waited to be followed again', async () => {
    const follows = new Slots(1);
    let cut = false;
    pod.faults = { cutAfter: () => (cut ? undefined : ((cut = true), LOG.length)) };
    const recorder = await start('waiting', { follows });
    world.cluster.setState(pod, 'running');
    pod.write(HALF);
    await storedTo(3);
    const elsewhere = follows.acquire(-1, new AbortController().signal);
    pod.write(REST);
    const release = await elsewhere;
    await world.until(() => (follows.waiting > 0 ? true : undefined));
    pod.write(Buffer.from(`${LINES.length + 1} o|late\n`));
    world.cluster.setState(pod, 'ended');
    expect(await world.captured(pod)).toMatchObject({ complete: false, reason: 'NoSummary' });
    release?.();
    expect((await world.stored(pod, 'stdout')).toString()).toBe('one\ntwo\nlate\n');
    expect(await reads(recorder, 'final')).toBeGreaterThan(0);
  });

  it('when it has a gap', async () => {
    const recorder = await start('gap');
    await play(Buffer.concat(LINES.filter((_, at) => at !== 2)));
    expect(await world.captured(pod)).toMatchObject({ complete: false, reason: 'FramesMissing', missing: [{ from: 3, to: 3 }] });
    expect(await reads(recorder, 'final')).toBe(1);
  });

  it('when it has a line that no launcher writes', async () => {
    const recorder = await start('foreign');
    await play(Buffer.concat([HALF, Buffer.from('not a frame\n'), REST]));
    await expectWhole();
    expect(await reads(recorder, 'final')).toBe(1);
    expect((await recorder.context.metrics.foreignLines.get()).values).toMatchObject([{ value: 1 }]);
  });

  it('when the recorder was restarted in between', async () => {
    const first = await start('restarted');
    world.cluster.setState(pod, 'running');
    pod.write(HALF);
    await storedTo(3);
    await first.stop();
    const second = await start('restarted');
    pod.write(REST);
    await storedTo(LINES.length);
    world.cluster.setState(pod, 'ended');
    await expectWhole();
    expect([await reads(second, 'follow'), await reads(second, 'final')]).toEqual([1, 1]);
  });

  it('when Postgres was away at its end', async () => {
    const recorder = await start('away');
    world.cluster.setState(pod, 'running');
    pod.write(HALF);
    await storedTo(3);
    await world.proxy.down();
    pod.write(REST);
    await world.until(async () => (await world.spooled()).match(/^\d+ s\|/m) ?? undefined);
    world.cluster.setState(pod, 'ended');
    await world.proxy.up();
    await expectWhole();
    expect([await reads(recorder, 'follow'), await reads(recorder, 'final')]).toEqual([1, 1]);
  });

  it('when there was no room for an artifact', async () => {
    const recorder = await start('narrow', { artifactBudget: new MemoryBudget(FILE.data.length / 2) });
    await play();
    await expectWhole();
    expect([await reads(recorder, 'follow'), await reads(recorder, 'final')]).toEqual([1, 1]);
  });

  it('when an artifact was swept before the record named it', async () => {
    const { context, stop } = await start('other');
    await stop();
    let swept = false;
    const files: RecorderContext['files'] = {
      put: (content, options) => context.files.put(content, options),
      has: async (name, call) => (swept ? await context.files.has(name, call) : !(swept = true)),
    };
    const recorder = await start('swept', { files });
    await play();
    await expectWhole();
    expect([swept, await reads(recorder, 'final')]).toEqual([true, 1]);
  });

  it.each(['normal', 'endless'] as const)('when something comes behind its last frame (%s)', async (mode) => {
    const recorder = await start('behind', { patience: { ...FAST, listenMs: 1_000 } });
    pod.mode = mode;
    await play();
    // On its way when the container ended.
    pod.write(Buffer.from(`${LINES.length + 1} o|late\n`));
    if (mode === 'endless') await storedTo(LINES.length + 1);
    expect(await world.captured(pod)).toMatchObject({ complete: false, reason: 'NoSummary' });
    expect((await world.stored(pod, 'stdout')).toString()).toBe('one\ntwo\nlate\n');
    expect(await reads(recorder, 'final')).toBeGreaterThan(0);
  });

  it('when its last frame is not the launcher’s', async () => {
    const recorder = await start('killed');
    await play(encode(WRITES, { summary: false }), 4);
    expect(await world.captured(pod)).toMatchObject({ complete: false, reason: 'NoSummary' });
    expect(await reads(recorder, 'final')).toBeGreaterThan(0);
  });
});
