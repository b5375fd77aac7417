import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { MemoryBudget } from './budget.ts';
import { Slots } from './slots.ts';
import { encode, encodeLines, random, streamOf, type Produced } from './testing/encoder.ts';
import type { TestPod } from './testing/cluster.ts';
import { sha256, World } from './testing/world.ts';

let world: World;
beforeAll(async () => {
  world = await World.create();
});
afterAll(() => world.close());

let pods = 0;
const newPod = (options?: { known?: boolean }): Promise<TestPod> => world.addPod(`pod-${(pods += 1)}`, options);
const text = (stream: Produced['stream'], ...lines: string[]): Produced[] =>
  lines.map((line) => ({ stream, data: Buffer.from(line) }));

/** Writes the log in random pieces while it runs, then ends. */
async function play(pod: TestPod, log: Buffer, next: () => number, steps = 12): Promise<void> {
  world.cluster.setState(pod, 'running');
  const points = Array.from({ length: steps }, () => Math.floor(next() * log.length)).sort((a, b) => a - b);
  let at = 0;
  for (const point of [...points, log.length]) {
    pod.write(log.subarray(at, point));
    at = point;
    await pause(next() * 15);
  }
  world.cluster.setState(pod, 'ended');
}

async function expectStored(pod: TestPod, writes: readonly Produced[]): Promise<void> {
  const capture = await world.captured(pod);
  expect(capture).toMatchObject({ complete: true, reason: null, missing: [] });
  for (const stream of ['stdout', 'stderr'] as const) {
    const expected = streamOf(writes, stream);
    const stored = await world.stored(pod, stream);
    expect(stored.equals(expected)).toBe(true);
    expect(capture.streams[stream]).toMatchObject({
      bytes: expected.length,
      sha256: sha256(expected),
      complete: true,
      gaps: [],
    });
  }
}

describe('one recorder', () => {
  let stop: () => Promise<void>;
  beforeAll(async () => {
    stop = (await world.recorder('one')).stop;
  });
  afterAll(() => stop());

  it('stores both streams exactly, with ledger, summary and receipt', async () => {
    const pod = await newPod();
    const writes = [...text('stdout', 'hello\n', 'no newline'), ...text('stderr', 'oh\0\xff\n')];
    await play(pod, encode(writes, { truncated: true }), random(1));
    await expectStored(pod, writes);
    const capture = await world.captured(pod);
    expect(capture.streams.stdout).toMatchObject({ truncated: true, lines: 1 });
    expect(capture.summary).toMatchObject({ exitCode: 0 });
    expect(capture.receipt).toMatchObject({ uid: 10000 });
  });

  it('writes while the program runs', async () => {
    const pod = await newPod();
    world.cluster.setState(pod, 'running');
    pod.write(encode(text('stdout', 'early\n'), { summary: false }));
    await world.until(async () => ((await world.captures.get(pod.evaluationUid, 1))?.lastSeq === 2 ? true : undefined));
    expect((await world.stored(pod, 'stdout')).toString()).toBe('early\n');
    world.cluster.setState(pod, 'ended');
    expect(await world.captured(pod)).toMatchObject({ complete: false, reason: 'NoSummary' });
  });

  it('stores verified artifacts by hash, and reports those that were cut', async () => {
    const pod = await newPod();
    const data = Buffer.from(Array.from({ length: 20_000 }, (_, at) => at % 251));
    const files = [
      { path: '../../etc/passwd', data },
      { path: 'b', data: Buffer.from('b') },
    ];
    await play(pod, encode([], { files }), random(2));
    const capture = await world.captured(pod);
    expect(capture).toMatchObject({ complete: true, artifacts: { count: 2, bytes: 20_001, complete: true } });
    const { rows } = await world.owner.query(
      'SELECT path, sha256 FROM crucible.artifacts WHERE evaluation_uid = $1 ORDER BY index',
      [pod.evaluationUid],
    );
    expect(rows).toEqual(
      files.map((file) => ({ path: file.path, sha256: createHash('sha256').update(file.data).digest('hex') })),
    );

    const broken = await newPod();
    const lines = encodeLines([], { files }).filter((line) => !line.includes('"index":1,"size"'));
    await play(broken, renumbered(lines), random(3));
    expect(await world.captured(broken)).toMatchObject({
      complete: false,
      reason: 'ArtifactsIncomplete',
      artifacts: { refused: 1 },
    });
  });

  it('names the missing lines of a log that was cut deliberately, and fills what the final read has', async () => {
    const lines = encodeLines(text('stdout', 'one\n', 'two\n', 'three\n', 'four\n'));
    const lost = await newPod();
    await play(lost, Buffer.concat(lines.filter((_, at) => at !== 2 && at !== 3)), random(4));
    const capture = await world.captured(lost);
    expect(capture).toMatchObject({ complete: false, reason: 'FramesMissing', missing: [{ from: 3, to: 4 }] });
    expect(capture.streams.stdout).toMatchObject({ gaps: [{ fromSeq: 3, toSeq: 4, afterByte: 4 }], complete: false });
    expect((await world.stored(lost, 'stdout')).toString()).toBe('one\nfour\n');
    const { complete, reason, missing, streams } = capture;
    console.log(`the ledger of a log that lost lines 3 and 4: ${JSON.stringify({ complete, reason, missing, stdout: streams.stdout })}`);

    const healed = await newPod();
    world.cluster.setState(healed, 'running');
    healed.write(Buffer.concat(lines.filter((_, at) => at !== 2)));
    await world.until(async () =>
      (await world.captures.get(healed.evaluationUid, 1))?.lastSeq === lines.length ? true : undefined,
    );
    healed.log = Buffer.concat(lines);
    world.cluster.setState(healed, 'ended');
    expect(await world.captured(healed)).toMatchObject({ complete: true, missing: [] });
    expect((await world.stored(healed, 'stdout')).toString()).toBe('one\ntwo\nthree\nfour\n');
  });

  it('fills a hole of many thousand lines', async () => {
    const writes = Array.from({ length: 9_000 }, (_, at): Produced => ({ stream: at % 3 === 0 ? 'stderr' : 'stdout', data: Buffer.from(`line ${at}\n`) }));
    const lines = encodeLines(writes);
    const pod = await newPod();
    world.cluster.setState(pod, 'running');
    pod.write(Buffer.concat([...lines.slice(0, 500), ...lines.slice(8_500)]));
    await world.until(async () => ((await world.captures.get(pod.evaluationUid, 1))?.lastSeq === lines.length ? true : undefined));
    expect((await world.captures.get(pod.evaluationUid, 1))?.missing).toEqual([{ from: 501, to: 8_500 }]);
    pod.log = Buffer.concat(lines);
    world.cluster.setState(pod, 'ended');
    await expectStored(pod, writes);
  });

  it('reports other bytes under the same numbers, and keeps the first', async () => {
    const pod = await newPod();
    const first = encode(text('stdout', 'first\n'));
    // Cut behind its last byte: what was seen whole in one go is not read again.
    let cut = false;
    pod.faults = { cutAfter: () => (cut ? undefined : ((cut = true), first.length)) };
    world.cluster.setState(pod, 'running');
    pod.write(first);
    await world.until(async () => ((await world.captures.get(pod.evaluationUid, 1))?.lastSeq === 3 ? true : undefined));
    pod.log = Buffer.from(first.toString().replace('first', 'other'));
    world.cluster.setState(pod, 'ended');
    expect(await world.captured(pod)).toMatchObject({ complete: false, reason: 'OutputContradicted' });
    expect((await world.stored(pod, 'stdout')).toString()).toBe('first\n');
  });

  it('keeps what it followed of a pod that vanishes', async () => {
    const pod = await newPod();
    world.cluster.setState(pod, 'running');
    pod.write(encode(text('stdout', 'kept\n'), { summary: false }));
    await world.until(async () => ((await world.captures.get(pod.evaluationUid, 1))?.lastSeq === 2 ? true : undefined));
    world.cluster.remove(pod);
    expect(await world.captured(pod)).toMatchObject({ complete: false, reason: 'PodGone' });
    expect((await world.stored(pod, 'stdout')).toString()).toBe('kept\n');
  });

  it('says when the kubelet no longer has the log, and calls a container that never ran complete', async () => {
    const gone = await newPod();
    gone.mode = 'kubeletError';
    world.cluster.setState(gone, 'ended');
    expect(await world.captured(gone)).toMatchObject({ complete: false, reason: 'LogUnavailable' });
    const never = await newPod();
    world.cluster.setState(never, 'neverStarted');
    expect(await world.captured(never)).toMatchObject({
      complete: true,
      lastSeq: 0,
      streams: { stdout: { bytes: 0 } },
    });
  });

  it('does not wait for a follow that is half open once the container has ended', async () => {
    const pod = await newPod();
    pod.mode = 'halfOpen';
    const writes = text('stdout', 'x\n');
    await play(pod, encode(writes), random(5));
    await expectStored(pod, writes);
  });

  it('trusts a pod only once its Job is known, and never one of another Job', async () => {
    const pod = await newPod({ known: false });
    world.cluster.setState(pod, 'running');
    pod.write(encode(text('stdout', 'x\n')));
    await pause(200);
    expect(pod.connections).toBe(0);
    await world.know(pod);
    world.cluster.setState(pod, 'ended');
    expect(await world.captured(pod)).toMatchObject({ complete: true });
  });
});

it('opens no further log while too much output waits for Postgres', async () => {
  const writeBudget = new MemoryBudget(1000);
  const openings = new Slots(1);
  const recorder = await world.recorder('cautious', { writeBudget, openings });
  writeBudget.change(1001);
  const pod = await newPod();
  const log = encode(text('stdout', 'later\n'));
  pod.write(log);
  world.cluster.setState(pod, 'running');
  await world.until(() => (openings.free === 0 ? true : undefined));
  await pause(300);
  expect({ free: openings.free, connections: pod.connections }).toEqual({ free: 0, connections: 0 });
  writeBudget.change(-1001);
  await world.until(async () => ((await world.captures.get(pod.evaluationUid, 1))?.lastSeq ?? 0) > 0 || undefined);
  expect(openings.free).toBe(1);
  world.cluster.setState(pod, 'ended');
  await expectStored(pod, text('stdout', 'later\n'));
  await recorder.stop();
});

it('reads again when a final read falls silent on a live connection', async () => {
  const recorder = await world.recorder('impatient', {}, { callMs: 500 });
  const pod = await newPod();
  pod.silentReads = 2;
  const writes = text('stdout', 'first\n', 'second\n', 'third\n');
  pod.mode = 'halfOpen'; // so that only the final read can find them
  await play(pod, encode(writes), random(6));
  await expectStored(pod, writes);
  expect(pod.silentReads).toBe(0);
  await recorder.stop();
});

it('compares with the chunks of the position it knows, although an append of the reading before is still under way', async () => {
  const recorder = await world.recorder('overtaken', {}, { callMs: 500 });
  const { captures, claims } = recorder.context;
  const [append, chunks] = [captures.append.bind(captures), claims.chunks.bind(claims)];
  const listed: (() => void)[] = [];
  let appended = 0;
  // It is in Postgres, but its answer is slower than whoever lists the chunks; no slower than that, for these may wait for it.
  captures.append = async (input) => {
    const result = await append(input);
    appended += 1;
    await Promise.race([new Promise<void>((resolve) => listed.push(resolve)), pause(2000)]);
    return result;
  };
  claims.chunks = async (key) => {
    const result = await chunks(key);
    for (const tell of listed.splice(0)) setImmediate(tell);
    return result;
  };
  const pod = await newPod();
  pod.silentReads = 1;
  const writes = text('stdout', 'first\n', 'second\n', 'third\n', 'fourth\n');
  pod.mode = 'halfOpen'; // so that only final reads can find them
  await play(pod, encode(writes), random(7));
  await expectStored(pod, writes);
  expect(appended).toBeGreaterThan(1);
  await recorder.stop();
});

/** Gives lines new numbers, so that what was taken out leaves no hole. */
function renumbered(lines: readonly Buffer[]): Buffer {
  return Buffer.concat(
    lines.map((line, at) => Buffer.concat([Buffer.from(String(at + 1)), line.subarray(line.indexOf(0x20))])),
  );
}
