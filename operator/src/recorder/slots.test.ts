import { describe, expect, it } from 'vitest';
import { Slots } from './slots.ts';

describe('Slots', () => {
  const never = new AbortController().signal;

  it('never gives more than it has, and serves the lowest rank first', async () => {
    const slots = new Slots(1);
    const first = await slots.acquire(5, never);
    const order: number[] = [];
    const waiting = [30, 10, 20].map(async (rank) => {
      const release = await slots.acquire(rank, never);
      order.push(rank);
      release!();
    });
    expect(slots.waiting).toBe(3);
    first!();
    first!(); // giving back twice is once
    await Promise.all(waiting);
    expect(order).toEqual([10, 20, 30]);
    expect(slots.free).toBe(1);
  });

  it('forgets a waiter that gave up', async () => {
    const slots = new Slots(1);
    const held = await slots.acquire(1, never);
    const control = new AbortController();
    const waiting = slots.acquire(1, control.signal);
    control.abort();
    expect(await waiting).toBeUndefined();
    held!();
    expect([slots.free, slots.waiting]).toEqual([1, 0]);
    expect(await slots.acquire(1, control.signal)).toBeUndefined();
  });

  it('runs work with a permit, and gives it back however that ends', async () => {
    const slots = new Slots(1);
    const free = async (): Promise<number> => slots.free;
    expect([await slots.run(1, never, free), slots.free]).toEqual([0, 1]);
    await expect(slots.run(1, never, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    // Granted, and aborted in the same moment.
    const control = new AbortController();
    const begun = slots.run(1, control.signal, free);
    control.abort(new Error('enough'));
    await expect(begun).rejects.toThrow('enough');
    expect(slots.free).toBe(1);
  });
});
