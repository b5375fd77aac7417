import { pino } from 'pino';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { KubeError } from '../kube/errors.ts';
import { FakeClock, settle } from '../kube/testing.ts';
import { Controller, type Reconcile } from './controller.ts';
import { outcomeOfError, StalledError, WaitingError } from './errors.ts';
import { ControllerMetrics } from './metrics.ts';
import { WorkQueue } from './queue.ts';

function make(reconcile: Reconcile, workers = 2) {
  const clock = new FakeClock();
  const registry = new Registry();
  const metrics = new ControllerMetrics(registry);
  const lines: Record<string, unknown>[] = [];
  const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const queue = new WorkQueue({ name: 'evaluation', clock, random: () => 0, metrics });
  const controller = new Controller({ name: 'evaluation', workers, reconcile, queue, metrics, logger, clock });
  const count = async (result: string): Promise<number> =>
    (await metrics.reconciles.get()).values.find((v) => v.labels.result === result)?.value ?? Number.NaN;
  return { clock, registry, queue, controller, lines, count };
}

function gate(): { promise: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { promise, open: resolve };
}

describe('Controller', () => {
  it('runs keys with at most its number of workers', async () => {
    const gates = new Map<string, ReturnType<typeof gate>>();
    const { controller, queue } = make(async (key) => {
      gates.set(key, gate());
      await gates.get(key)!.promise;
    });
    controller.start();
    for (const key of ['a/1', 'a/2', 'a/3']) queue.add(key);
    await settle();
    expect([...gates.keys()]).toEqual(['a/1', 'a/2']);
    gates.get('a/2')!.open();
    await settle();
    expect([...gates.keys()]).toEqual(['a/1', 'a/2', 'a/3']);
    for (const g of gates.values()) g.open();
    expect(await controller.stop(1)).toBe(true);
  });

  it('runs again after the time the result asks for', async () => {
    let runs = 0;
    const { controller, queue, clock, count } = make(async () => (++runs === 1 ? { requeueAfterSeconds: 5 } : {}));
    controller.start();
    queue.add('a/1');
    await clock.advance(4999);
    expect(runs).toBe(1);
    await clock.advance(1);
    expect(runs).toBe(2);
    await clock.advance(100_000);
    expect(runs).toBe(2);
    expect([await count('requeue_after'), await count('success')]).toEqual([1, 1]);
    await controller.stop(1);
  });

  it('does not retry what is stalled', async () => {
    let runs = 0;
    const { controller, queue, clock, count, lines } = make(async () => {
      runs += 1;
      throw new StalledError('InvalidSpec', 'no such runtime');
    });
    controller.start();
    queue.add('a/1');
    await clock.advance(3_600_000);
    expect(runs).toBe(1);
    expect(await count('error')).toBe(1);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ msg: 'reconcile stalled', key: 'a/1', reason: 'InvalidSpec' });
    expect(lines[0]!.reconcileId).toMatch(/^[0-9a-f-]{36}$/);
    await controller.stop(1);
  });

  it('waits as told, without backing off', async () => {
    const at: number[] = [];
    const { controller, queue, clock, count } = make(async () => {
      at.push(clock.monotonic());
      throw new WaitingError(2, 'CapturePending', 'capture not finished');
    });
    controller.start();
    queue.add('a/1');
    await clock.advance(6000);
    expect(at.map((t) => t - at[0]!)).toEqual([0, 2000, 4000, 6000]);
    expect(await count('requeue_after')).toBe(4);
    await controller.stop(1);
  });

  it('backs off from any other error, and forgets after success', async () => {
    const at: number[] = [];
    let failing = true;
    const { controller, queue, clock } = make(async () => {
      at.push(clock.monotonic());
      if (failing) throw new Error('database away');
    });
    controller.start();
    queue.add('a/1');
    await clock.advance(800);
    expect(at.map((t) => t - at[0]!)).toEqual([0, 100, 300, 700]);
    failing = false;
    await clock.advance(800);
    expect(at).toHaveLength(5);
    expect(queue.retries('a/1')).toBe(0);
    await controller.stop(1);
  });

  it('drains on stop: waits for the running, takes no more', async () => {
    const g = gate();
    const seen: string[] = [];
    const { controller, queue } = make(async (key) => {
      seen.push(key);
      await g.promise;
    }, 1);
    controller.start();
    queue.add('a/1');
    queue.add('a/2');
    await settle();
    const stopped = controller.stop(10);
    await settle();
    g.open();
    expect(await stopped).toBe(true);
    expect(seen).toEqual(['a/1']);
  });

  it('aborts what does not end within the limit, and is not held up by what ignores that', async () => {
    let aborted = false;
    const { controller, queue, clock } = make((_key, signal) => {
      signal.addEventListener('abort', () => {
        aborted = true;
      });
      return new Promise(() => {});
    });
    controller.start();
    queue.add('a/1');
    await settle();
    const stopped = controller.stop(10);
    await clock.advance(9999);
    expect(aborted).toBe(false);
    await clock.advance(1);
    expect(aborted).toBe(true);
    await clock.advance(1000);
    expect(await stopped).toBe(false);
  });

  it('refuses to start twice', async () => {
    const { controller } = make(async () => {});
    controller.start();
    expect(() => controller.start()).toThrow(/started already/);
    await controller.stop(1);
  });

  it('has its metrics from the start', async () => {
    const { registry } = make(async () => {});
    const text = await registry.metrics();
    for (const result of ['success', 'error', 'requeue', 'requeue_after']) {
      expect(text).toContain(`controller_runtime_reconcile_total{controller="evaluation",result="${result}"} 0`);
    }
    expect(text).toContain('controller_runtime_reconcile_errors_total{controller="evaluation"} 0');
    expect(text).toContain('controller_runtime_reconcile_time_seconds_count{controller="evaluation"} 0');
    expect(text).toContain('controller_runtime_active_workers{controller="evaluation"} 0');
  });
});

describe('outcomeOfError', () => {
  it.each([
    [new StalledError('R', 'm'), 'stalled'],
    [new WaitingError(3, 'R', 'm'), 'waiting'],
    [new Error('x'), 'failed'],
    ['a string', 'failed'],
    [undefined, 'failed'],
  ])('%s → %s', (error, kind) => {
    expect(outcomeOfError(error).kind).toBe(kind);
  });

  it('carries what a throttling server asked for', () => {
    const error = new KubeError({ code: 429, reason: 'TooManyRequests', message: 'slow down', retryAfterSeconds: 4 });
    expect(outcomeOfError(error)).toEqual({ kind: 'failed', error, atLeastSeconds: 4 });
  });
});
