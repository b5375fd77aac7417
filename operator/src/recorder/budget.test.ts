import { expect, it } from 'vitest';
import { MemoryBudget } from './budget.ts';

it('lets those wait for room who would hold more, until there is some or they give up', async () => {
  const budget = new MemoryBudget(100);
  await budget.room(new AbortController().signal);
  expect(budget.change(150)).toBe(false);
  const order: string[] = [];
  const given = new AbortController();
  const waits = [
    budget.room(new AbortController().signal).then(() => order.push('room')),
    budget.room(given.signal).then(() => order.push('gave up')),
  ];
  budget.change(-20);
  await Promise.resolve();
  expect(order).toEqual([]);
  given.abort();
  await waits[1];
  expect(budget.change(-40)).toBe(true);
  await Promise.all(waits);
  expect(order).toEqual(['gave up', 'room']);
});
