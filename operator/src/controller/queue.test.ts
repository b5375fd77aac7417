import fc from 'fast-check';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { FakeClock } from '../kube/testing.ts';
import { ControllerMetrics } from './metrics.ts';
import { WorkQueue, type WorkQueueOptions } from './queue.ts';

function make(options: Partial<WorkQueueOptions> = {}): { queue: WorkQueue; clock: FakeClock } {
  const clock = new FakeClock();
  return { clock, queue: new WorkQueue({ name: 'test', clock, random: () => 0, ...options }) };
}

async function drain(queue: WorkQueue): Promise<string[]> {
  const keys: string[] = [];
  while (queue.length > 0) {
    const key = (await queue.get())!;
    keys.push(key);
    queue.done(key);
  }
  return keys;
}

describe('WorkQueue', () => {
  it('holds a key once', async () => {
    const { queue } = make();
    for (const key of ['a/1', 'a/2', 'a/1']) queue.add(key);
    expect(await drain(queue)).toEqual(['a/1', 'a/2']);
  });

  it('runs a key again after it was added while running, never at the same time', async () => {
    const { queue } = make();
    queue.add('a/1');
    expect(await queue.get()).toBe('a/1');
    queue.add('a/1');
    queue.add('a/1');
    expect(queue.length).toBe(0);
    queue.done('a/1');
    expect(await drain(queue)).toEqual(['a/1']);
    expect(queue.length).toBe(0);
  });

  it('hands a key to a worker that waits already', async () => {
    const { queue } = make();
    const got = queue.get();
    queue.add('a/1');
    expect(await got).toBe('a/1');
    expect(queue.running).toBe(1);
  });

  it('lets namespaces take turns', async () => {
    const { queue } = make();
    for (let i = 0; i < 1000; i += 1) queue.add(`big/${i}`);
    queue.add('small/1');
    queue.add('small/2');
    queue.add('node');
    expect((await drain(queue)).slice(0, 6)).toEqual(['big/0', 'small/1', 'node', 'big/1', 'small/2', 'big/2']);
  });

  it('lets some come first, and the others come all the same', async () => {
    const { queue } = make({ first: (key) => key.startsWith('a/new') });
    for (const key of ['a/1', 'a/2', 'a/new-1', 'a/3', 'a/new-2', 'a/new-3', 'a/new-4', 'a/new-5']) queue.add(key);
    expect(queue.length).toBe(8);
    const order = ['a/new-1', 'a/new-2', 'a/new-3', 'a/1', 'a/new-4', 'a/new-5', 'a/2', 'a/3'];
    expect(await drain(queue)).toEqual(order);
  });

  it('lets a crowd of the others come before those, who come all the same', async () => {
    const { queue } = make({ first: (key) => key.startsWith('a/new') });
    for (let i = 0; i < 100; i += 1) queue.add(`a/new-${i}`);
    for (let i = 0; i < 100; i += 1) queue.add(`a/${i}`);
    const order = await drain(queue);
    const news = (keys: string[]): number => keys.filter((key) => key.startsWith('a/new')).length;
    // Until fewer than 64 of the others are left three of four turns are theirs, then one.
    expect(news(order.slice(0, 48))).toBe(12);
    expect(news(order.slice(50, 150))).toBe(75);
    expect(order).toHaveLength(200);
  });

  it('asks anew who comes first whenever a key is queued', async () => {
    const news = new Set(['a/1']);
    const { queue } = make({ first: (key) => news.has(key) });
    queue.add('a/1');
    expect(await queue.get()).toBe('a/1');
    news.clear();
    news.add('a/2');
    for (const key of ['a/1', 'a/2']) queue.add(key);
    queue.done('a/1');
    expect(await drain(queue)).toEqual(['a/2', 'a/1']);
  });

  it('keeps the earliest of several delays', async () => {
    const { queue, clock } = make();
    queue.addAfter('a/1', 10);
    queue.addAfter('a/1', 2);
    queue.addAfter('a/1', 5);
    await clock.advance(1999);
    expect(queue.length).toBe(0);
    await clock.advance(1);
    expect(await drain(queue)).toEqual(['a/1']);
    await clock.advance(60_000);
    expect(queue.length).toBe(0);
  });

  it('keeps a delay that was asked for when the key runs at once meanwhile', async () => {
    const { queue, clock } = make();
    queue.addAfter('a/1', 10);
    queue.add('a/1');
    expect(await drain(queue)).toEqual(['a/1']);
    await clock.advance(10_000);
    expect(await drain(queue)).toEqual(['a/1']);
  });

  it('treats a delay of nothing, or of no number, as now', () => {
    const { queue } = make();
    queue.addAfter('a/1', 0);
    queue.addAfter('a/2', -1);
    queue.addAfter('a/3', Number.NaN);
    expect(queue.length).toBe(3);
  });

  it('waits longer than one timer can', async () => {
    const { queue, clock } = make();
    const days = 24 * 3600;
    // The system clock cuts a timer at 2^31 ms; here a clock that cuts at a minute.
    const after = clock.after.bind(clock);
    clock.after = (ms, callback) => after(Math.min(ms, 60_000), callback);
    queue.addAfter('a/1', days);
    await clock.advance(days * 1000 - 1);
    expect(queue.length).toBe(0);
    await clock.advance(1);
    expect(queue.length).toBe(1);
  });

  it('backs off per key, up to a limit, and starts again after forget', () => {
    const { queue } = make({ baseDelayMs: 100, maxDelayMs: 1000 });
    const delays = Array.from({ length: 6 }, () => queue.addRateLimited('a/1'));
    expect(delays).toEqual([0.1, 0.2, 0.4, 0.8, 1, 1]);
    expect(queue.addRateLimited('a/2')).toBe(0.1);
    expect(queue.retries('a/1')).toBe(6);
    queue.forget('a/1');
    expect(queue.addRateLimited('a/1')).toBe(0.1);
  });

  it('spreads the backoff of a crowd', () => {
    let n = 0;
    const { queue } = make({ random: () => [0, 0.5, 1][n++]! });
    expect([queue.addRateLimited('a'), queue.addRateLimited('b'), queue.addRateLimited('c')]).toEqual([
      0.1, 0.0875, 0.075,
    ]);
  });

  it('honours what the server asked for when it is longer', () => {
    const { queue } = make();
    expect(queue.addRateLimited('a/1', 7)).toBe(7);
  });

  it('hands out nothing after shutdown, and wakes who waits', async () => {
    const { queue, clock } = make();
    const waiting = queue.get();
    queue.addAfter('a/1', 1);
    queue.shutDown();
    queue.add('a/2');
    await clock.advance(2000);
    expect(await waiting).toBeUndefined();
    expect(await queue.get()).toBeUndefined();
    expect(clock.pending).toEqual([]);
  });

  it('stays fast with ten thousand keys', async () => {
    const { queue } = make();
    for (let i = 0; i < 10_000; i += 1) queue.add(`ns/${i}`);
    for (let i = 0; i < 10_000; i += 1) {
      const key = await queue.get();
      if (key !== `ns/${i}`) throw new Error(`out of order at ${i}`);
      queue.done(key);
    }
  });

  it('has metrics from the start and counts', async () => {
    const registry = new Registry();
    const { queue, clock } = make({ metrics: new ControllerMetrics(registry) });
    const value = async (line: string): Promise<string | undefined> =>
      (await registry.metrics())
        .split('\n')
        .find((l) => l.startsWith(line))
        ?.split(' ')
        .at(-1);
    const labels = '{name="test",controller="test"}';
    expect(await value(`workqueue_adds_total${labels}`)).toBe('0');
    expect(await value(`workqueue_retries_total${labels}`)).toBe('0');
    expect(await value(`workqueue_depth${labels}`)).toBe('0');
    expect(await value(`workqueue_queue_duration_seconds_count${labels}`)).toBe('0');
    queue.add('a/1');
    queue.add('a/2');
    queue.add('a/2');
    expect(await value(`workqueue_adds_total${labels}`)).toBe('2');
    expect(await value(`workqueue_depth${labels}`)).toBe('2');
    await clock.advance(3000);
    await queue.get();
    expect(await value(`workqueue_depth${labels}`)).toBe('1');
    expect(await value(`workqueue_queue_duration_seconds_sum${labels}`)).toBe('3');
    await clock.advance(2000);
    expect(await value(`workqueue_longest_running_processor_seconds${labels}`)).toBe('2');
    queue.done('a/1');
    expect(await value(`workqueue_work_duration_seconds_sum${labels}`)).toBe('2');
  });
});

type Step = { op: 'add' | 'addAfter' | 'get' | 'done' | 'advance' | 'fail'; key: number; n: number };

describe('WorkQueue, whatever happens', () => {
  const step: fc.Arbitrary<Step> = fc.record({
    op: fc.constantFrom('add', 'addAfter', 'get', 'done', 'advance', 'fail'),
    key: fc.nat(4),
    n: fc.nat(5),
  });

  it('never runs a key twice at once, and loses none', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
        const { queue, clock } = make();
        const running = new Set<string>();
        /** Keys that were asked for and have not been handed out since: each is owed a run. */
        const owed = new Set<string>();
        const take = async (): Promise<void> => {
          const key = (await queue.get())!;
          expect(running.has(key)).toBe(false);
          running.add(key);
          owed.delete(key);
        };
        for (const { op, key: k, n } of steps) {
          const key = `ns${k % 2}/${k}`;
          if (op === 'add') {
            queue.add(key);
            owed.add(key);
          } else if (op === 'addAfter') {
            queue.addAfter(key, n);
            owed.add(key);
          } else if (op === 'fail') {
            queue.addRateLimited(key);
            owed.add(key);
          } else if (op === 'get' && queue.length > 0) await take();
          else if (op === 'done' && running.delete(key)) queue.done(key);
          else if (op === 'advance') await clock.advance(n * 1000);
          expect(queue.running).toBe(running.size);
        }
        for (const key of running) queue.done(key);
        running.clear();
        await clock.advance(60_000);
        while (queue.length > 0) {
          await take();
          for (const key of running) queue.done(key);
          running.clear();
        }
        expect([...owed]).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });
});
