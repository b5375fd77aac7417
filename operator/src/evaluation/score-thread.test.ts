import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { ScoreThread } from './score-thread.ts';

const logger = pino({ level: 'silent' });
const never = new AbortController().signal;
/** The API server takes this pattern; on 256 KiB it would run for some fifteen seconds. */
const SLOW = { expected: { matches: 'x{1000}$|x{999}y' }, stdout: Buffer.alloc(256 * 1024, 'x') };
const FAST = { expected: { matches: 'h.llo' }, stdout: Buffer.from('hello\n') };
/** Of the time that a match takes here the event loop may be busy so much; matching itself, it would be for all of it. */
const RESPONSIVE = 0.5;

let thread = new ScoreThread({ logger });
afterEach(() => thread.end());

describe('ScoreThread', () => {
  it('gives up a match that takes too long; meanwhile the event loop is free, and the next one is scored', async () => {
    thread = new ScoreThread({ logger, limitSeconds: 2 });
    expect(await thread.score(FAST, never)).toMatchObject({ passed: true, reason: 'AsExpected' });
    const before = performance.eventLoopUtilization();
    const score = await thread.score(SLOW, never);
    // Not how long it took or paused: a busy machine decides that.
    expect(performance.eventLoopUtilization(before).utilization).toBeLessThan(RESPONSIVE);
    expect(score).toMatchObject({ passed: false, reason: 'MatchTooSlow' });
    expect(score.message).toContain('Simplify the pattern');
    expect(await thread.score({ ...FAST, expected: { contains: 'nope' } }, never)).toMatchObject({
      passed: false,
      reason: 'StdoutContains',
    });
  });

  it('does not take for slow what was answered while the event loop stood still', async () => {
    thread = new ScoreThread({ logger, limitSeconds: 0.5 });
    await thread.score(FAST, never);
    const score = thread.score(FAST, never);
    // In the phase before that of the timers, which is before that in which messages are read.
    await new Promise((resolve) => setImmediate(resolve));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 900);
    expect(await score).toMatchObject({ passed: true, reason: 'AsExpected' });
  });

  it('stops at once when nobody waits any more', async () => {
    const wish = new AbortController();
    const score = thread.score(SLOW, wish.signal);
    setTimeout(() => wish.abort(), 300);
    await expect(score).rejects.toThrow(/abort/i);
    expect(await thread.score(FAST, never)).toMatchObject({ passed: true });
  });

  it('survives output that would need many times its size', async () => {
    // Parsed as a whole it needs more memory than the thread has, which would end the process and not only the thread.
    const stdout = Buffer.from(`[${'{},'.repeat(5_000_000)}{}]`);
    const expected = { json: { path: '[0]', equals: '1' } };
    thread = new ScoreThread({ logger, limitSeconds: 60 }); // What is asked is the memory's limit, on a busy machine too.
    expect(await thread.score({ expected, stdout }, never)).toMatchObject({ passed: false, reason: 'StdoutJson' });
  }, 90_000);

  it('works in the bundles that the image is made of', async () => {
    const root = resolve(import.meta.dirname, '../../..');
    const dockerfile = await readFile(join(root, 'deploy/docker/operator.Dockerfile'), 'utf8');
    const build = /^RUN (\.\/node_modules\/\.bin\/esbuild (?:.*\\\n)*.*)$/m.exec(dockerfile)?.[1] ?? '';
    const directory = await mkdtemp(join(tmpdir(), 'crucible-bundle-'));
    try {
      // As there, but of the entry points only the thread's; what starts it stands for the operator.
      const probe = 'probe=operator/src/evaluation/score-thread.ts';
      const command = build
        .replace('--outdir=/app', `--outdir=${directory}`)
        .replaceAll(/ (?!score-worker=)\w+=\S+\.ts/g, '');
      execFileSync('sh', ['-c', `${command} ${probe}`], { cwd: root });
      const bundle = (await import(/* @vite-ignore */ pathToFileURL(join(directory, 'probe.mjs')).href)) as {
        ScoreThread: typeof ScoreThread;
      };
      thread = new bundle.ScoreThread({ logger });
      expect(await thread.score(FAST, never)).toMatchObject({ passed: true, reason: 'AsExpected' });
    } finally {
      await rm(directory, { recursive: true });
    }
    // A second on a machine that does nothing else.
  }, 60_000);
});
