import { describe, expect, it } from 'vitest';
import { AdmissionQueue } from './queue.ts';

function queue(limit: number): {
  turns: AdmissionQueue;
  woken: string[];
  ask: (key: string, priority?: number, createdAt?: number) => boolean;
} {
  const woken: string[] = [];
  const turns = new AdmissionQueue(limit, (key) => woken.push(key));
  let clock = 0;
  const ask = (key: string, priority = 0, createdAt = (clock += 1)): boolean =>
    turns.request(key, { namespace: key.split('/')[0]!, priority, createdAt });
  return { turns, woken, ask };
}

describe('AdmissionQueue', () => {
  it('grants up to its limit, then wakes the next when a place is free', () => {
    const { turns, woken, ask } = queue(1);
    expect(ask('a/1')).toBe(true);
    expect(ask('a/1')).toBe(true);
    expect(ask('a/2')).toBe(false);
    turns.release('a/1', 'a');
    expect(woken).toEqual(['a/2']);
    expect(turns.has('a/2')).toBe(true);
    expect([turns.running, turns.waiting]).toEqual([1, 0]);
  });

  it('takes the namespace with the fewest running first, then priority, then age', () => {
    const { turns, woken, ask } = queue(2);
    ask('a/1');
    ask('a/2');
    ask('a/3');
    ask('b/old');
    ask('b/high', 10);
    ask('b/older', 0, 0);
    turns.release('a/1', 'a');
    turns.release('a/2', 'a');
    turns.release('b/high', 'b');
    turns.release('a/3', 'a');
    expect(woken).toEqual(['b/high', 'a/3', 'b/older', 'b/old']);
  });

  it('counts those that have a Job already, even over the limit', () => {
    const { turns, ask } = queue(1);
    turns.hold('a/1', 'a');
    turns.hold('a/2', 'a');
    expect(turns.running).toBe(2);
    turns.release('a/1', 'a');
    expect(ask('b/1')).toBe(false);
    turns.release('a/2', 'a');
    expect(turns.has('b/1')).toBe(true);
  });

  it('forgets one that no longer wants a place', () => {
    const { turns, woken, ask } = queue(1);
    ask('a/1');
    ask('a/2');
    turns.release('a/2', 'a');
    turns.release('a/1', 'a');
    expect(woken).toEqual([]);
    expect([turns.running, turns.waiting]).toEqual([0, 0]);
  });
});
