import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { Score } from './expect.ts';
import type { ScoreTask } from './score-thread.ts';
import { Scores } from './scores.ts';

const logger = pino({ level: 'silent' });
const passed: Score = { passed: true, reason: 'AsExpected', message: '' };
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A thread that scores when told to. */
function world(options: { unreadable?: boolean } = {}) {
  const running: { name: string; finish: () => void }[] = [];
  const log: string[] = [];
  let ended = 0;
  const thread = {
    score: ({ stdout }: ScoreTask, signal: AbortSignal) =>
      new Promise<Score>((resolve, reject) => {
        running.push({ name: Buffer.from(stdout).toString(), finish: () => resolve(passed) });
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      }),
    end: async () => void (ended += 1),
  };
  const read = async (uid: string, attempt: number) => {
    log.push(`read ${uid}`);
    if (options.unreadable) throw new Error('database away');
    return Buffer.from(`${uid}/${attempt}`);
  };
  const scores = new Scores({ thread, read, wake: (key) => log.push(`wake ${key}`), logger });
  const want = (key: string, uid = key, attempt = 1) =>
    scores.want(key, { uid, attempt, expected: { contains: 'x' } });
  return { scores, want, running, log, ended: () => ended };
}

describe('Scores', () => {
  it('scores once, however often it is asked, and wakes the Evaluation', async () => {
    const { scores, want, running, log, ended } = world();
    want('a/1');
    want('a/1');
    await turn();
    expect(scores.of('a/1', 'a/1')).toBeUndefined();
    running[0]?.finish();
    await turn();
    want('a/1');
    await turn();
    expect(log).toEqual(['read a/1', 'wake a/1']);
    expect(scores.of('a/1', 'a/1')).toEqual({ attempt: 1, score: passed });
    expect(scores.of('a/1', 'another of that name')).toBeUndefined();
    expect(ended()).toBe(1);
    scores.forget('a/1');
    expect(scores.of('a/1', 'a/1')).toBeUndefined();
  });

  it('runs one at a time, the namespaces in turn, and reads output only then', async () => {
    const { want, running, log } = world();
    for (const key of ['a/1', 'a/2', 'a/3', 'b/1']) want(key);
    await turn();
    expect(log).toEqual(['read a/1']);
    for (let index = 0; index < 4; index += 1) {
      running[index]?.finish();
      await turn();
    }
    expect(running.map(({ name }) => name)).toEqual(['a/1/1', 'a/2/1', 'b/1/1', 'a/3/1']);
  });

  it('ends what nobody waits for any more, and goes on with the next', async () => {
    const { scores, want, running, log } = world();
    want('a/1');
    want('a/2');
    await turn();
    scores.forget('a/1');
    await turn();
    expect(running.map(({ name }) => name)).toEqual(['a/1/1', 'a/2/1']);
    await scores.close();
    want('a/3');
    expect(log).toEqual(['read a/1', 'read a/2']);
  });

  it('can be asked again when the output could not be read', async () => {
    const { scores, want, log } = world({ unreadable: true });
    want('a/1');
    await turn();
    want('a/1');
    await turn();
    expect(log).toEqual(['read a/1', 'read a/1']);
    await scores.close();
  });
});
